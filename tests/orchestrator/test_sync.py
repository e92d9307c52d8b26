"""`orchestrator sync`: what is on storage and not in W&B goes there, once."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from orchestrator.config import Tracking
from orchestrator.picks import Mark, add_mark
from orchestrator.tracking.sync import sync
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.attempts import step_name
from samplernn.errors import BadInput
from samplernn.flac import decode_flac
from tests.orchestrator.made_sweep import RATE, write_batch
from tests.orchestrator.wandb_ends import Server, history_of, log_out, records, serving, wait_for
from tests.orchestrator.wandb_sent import (
    SONGS,
    SWEEP,
    made_workspace,
    media,
    offline_runs,
    references,
    table,
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A dataset, a sweep with a picked checkpoint, songs and an album, on a machine without a login."""
    log_out(monkeypatch, tmp_path / "home")
    return made_workspace(tmp_path / "workspace")


def synced(workspace: Workspace, sweep: str | None = None) -> tuple[bool, str]:
    said = io.StringIO()
    whole = sync(workspace, sweep, Tracking(), Console(file=said, width=1000))
    return whole, said.getvalue()


def test_sync_offline_writes_a_run_for_everything_and_again_nothing(workspace: Workspace) -> None:
    whole, said = synced(workspace)
    assert whole
    assert "wandb sync" in said
    runs, view = offline_runs(workspace), SweepView.open(workspace, SWEEP)
    names = [("train", trial.name) for trial in view.trials]
    beside = [("album", "first"), ("generate", "toy-songs"), ("ingest", "toy"), ("sweep", SWEEP)]
    assert sorted(runs) == sorted([*names, *beside])
    assert all(len(files) == 1 for files in runs.values())

    path = runs["sweep", SWEEP][0]
    (row,) = history_of(path)
    shown = table(path, row, "trials")
    assert [line["trial"] for line in shown] == [trial.name for trial in view.trials]
    rated = [trial.best[1] for trial in view.trials if trial.best]
    assert [line["valid_bits"] for line in table(path, row, "parallel_coordinates")] == rated

    path = runs["generate", "toy-songs"][0]
    (row,) = history_of(path)
    for line in table(path, row, "songs"):
        pcm, _ = decode_flac(media(path, row, line["audio"]))
        np.testing.assert_array_equal(pcm, SONGS[int(line["song"])])

    path = runs["album", "first"][0]
    (row,) = history_of(path)
    assert [line["number"] for line in table(path, row, "tracks")] == [1, 2, 3]
    for line in table(path, row, "tracks"):
        assert len(decode_flac(media(path, row, line["audio"]))[0]) == RATE * 2

    (addresses,) = references(runs["ingest", "toy"][0]).values()
    local = workspace.dataset("toy").local
    assert local is not None
    assert (local / "dataset.json").as_uri() in addresses
    assert all(address.startswith("file://") for address in addresses)

    whole, said = synced(workspace)
    assert whole
    assert "nothing new to ship" in said
    assert offline_runs(workspace) == runs


def test_sync_after_a_pick_refers_to_its_checkpoint(workspace: Workspace) -> None:
    assert synced(workspace)[0]
    trial = SweepView.open(workspace, SWEEP).trials[0]
    step = trial.clips[-1].step
    model = workspace.trial(SWEEP, trial.name).at("model", step_name(step, 1))
    commit.write_commit(model, {"model.safetensors": b"weights", "config.json": b"{}"}, step=step)
    add_mark(workspace, "anna", "sweeps", SWEEP, (trial.name, step), Mark(verdict="pick"))
    whole, said = synced(workspace)
    assert whole
    assert "1 new" in said
    path = offline_runs(workspace)["sweep", SWEEP][-1]
    (addresses,) = references(path).values()
    assert model.local is not None
    assert sorted(addresses) == [
        (model.local / name).as_uri() for name in ("config.json", "model.safetensors")
    ]


@pytest.mark.system
@pytest.mark.parametrize("fault", ["refuse", "hang", "429", "die"])
def test_sync_when_the_server_is_back_ships_everything_once(
    workspace: Workspace, server: Server, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    server.answer = fault
    if fault == "refuse":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    command = [sys.executable, "-m", "orchestrator.cli", "sync", SWEEP, "-w", str(workspace.storage)]
    interrupted = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if fault == "refuse":
        time.sleep(3)
    else:
        wait_for(lambda: server.requests > 0)
    interrupted.send_signal(signal.SIGINT)
    out, _ = interrupted.communicate(timeout=30)
    assert interrupted.returncode == 130, out.decode()
    assert b"`orchestrator sync` ships the rest" in out
    server.answer = "ok"
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    whole, said = synced(workspace)
    assert whole, said
    sent = dict(server.history)
    for trial in SweepView.open(workspace, SWEEP).trials:
        (run,) = [name for name in sent if f"{SWEEP}-{trial.name}-" in name]
        steps = [json.loads(line)["step"] for line in sent[run]]
        assert steps == sorted({row["step"] for row in trial.rows})
    beside = ["sweep", "generate", "album", "ingest", "ingest"]  # the dataset with its sweep, and by itself
    assert len(sent) == len(SweepView.open(workspace, SWEEP).trials) + len(beside)
    assert {sent["artifactTypeName"] for versions in server.artifacts.values() for sent in versions} == {
        "run_table",
        "dataset",
    }
    assert "nothing new to ship" in synced(workspace)[1]
    assert server.history == sent


def test_sync_goes_to_the_project_that_the_sweep_was_first_shipped_to(workspace: Workspace) -> None:
    said = Console(file=io.StringIO())
    assert sync(workspace, SWEEP, Tracking(project="band/riffs"), said)
    write_batch(workspace, "more", sounds=SONGS[:1])
    assert synced(workspace)[0]
    for files in offline_runs(workspace).values():
        for path in files:
            run = next(record.run for record in records(path) if record.HasField("run"))
            assert (run.entity, run.project) == ("band", "riffs")


@pytest.mark.parametrize("mode", ["offline", pytest.param("online", marks=pytest.mark.system)])
def test_sync_to_another_project_ships_all_there_and_each_project_once(
    workspace: Workspace, mode: str, request: pytest.FixtureRequest
) -> None:
    if mode == "online":
        request.getfixturevalue("server")

    def sent(project: str) -> int:
        said = io.StringIO()
        assert sync(workspace, SWEEP, Tracking(project=project), Console(file=said, width=1000)), (
            said.getvalue()
        )
        return int((re.findall(r"(\d+) new;", said.getvalue()) or [0])[0])

    first = sent("band/riffs")
    assert first > 0
    assert sent("band/riffs") == 0
    assert sent("band/demos") == first
    assert sent("band/riffs") == sent("band/demos") == 0


def test_reference_into_a_bucket_needs_neither_its_client_nor_a_login_there(
    workspace: Workspace, tmp_path: Path
) -> None:
    """In a process where Python finds no client of S3 or Google, as where none is installed."""
    script = """
import importlib.machinery, sys
from pathlib import Path
find = importlib.machinery.PathFinder.find_spec
def without(name, path=None, target=None):
    return None if name in ("boto3", "google.cloud.storage") else find(name, path, target)
importlib.machinery.PathFinder.find_spec = without
from orchestrator.tracking import wandb_run
from orchestrator.tracking.group import Group
from orchestrator.tracking.summary import Reference, Summary
files = {"card.json": "s3://bucket/card.json", "pcm.arrow": "gs://bucket/pcm.arrow"}
toy = Reference("toy", "dataset", files, {"sha256": "0a1b"})
place = wandb_run.RunPlace(Group("sweep", "riffs"), "toy", "band", "offline", Path(sys.argv[1]))
print(wandb_run.send_summary(place, Summary("ingest", "toy", {}, references=[toy]))[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    (path,) = Path(done.stdout.strip()).glob("*.wandb")
    assert references(path) == {"dataset": ["s3://bucket/card.json", "gs://bucket/pcm.arrow"]}


@pytest.mark.system
def test_sync_to_another_server_ships_all_there_too(
    workspace: Workspace, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert synced(workspace)[0]
    with serving() as second:
        monkeypatch.setenv("WANDB_BASE_URL", second.url)
        assert synced(workspace)[0]
        assert second.history.keys() == server.history.keys()
        assert "nothing new to ship" in synced(workspace)[1]
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    whole, said = synced(workspace)
    assert whole
    assert " new;" not in said


def test_sync_of_an_unknown_sweep_names_those_there_are(workspace: Workspace) -> None:
    with pytest.raises(BadInput, match=SWEEP):
        synced(workspace, "other")


def test_sync_with_tracking_off_or_without_wandb_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="off"):
        sync(workspace, None, Tracking(wandb="off"), Console())
    monkeypatch.setattr("orchestrator.tracking.login.find_spec", lambda _: None)
    with pytest.raises(BadInput, match="pip install"):
        synced(workspace)
