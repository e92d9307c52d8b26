"""What ingest, generate and album made goes to W&B by itself, once, and no verb waits long for it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from orchestrator.config import Tracking
from orchestrator.journal import Journal
from orchestrator.tracking import beside
from orchestrator.tracking.beside import ship_album, ship_dataset, ship_songs, tracked_as
from orchestrator.tracking.group import Group
from orchestrator.tracking.ledger import take_lock
from orchestrator.tracking.sync import sync
from orchestrator.workspace import SOURCES, Workspace
from samplernn import commit
from samplernn.flac import decode_flac
from tests.orchestrator.made_sweep import write_batch
from tests.orchestrator.wandb_ends import Server, history_of, log_out, wait_for
from tests.orchestrator.wandb_sent import (
    GROUP,
    SONGS,
    SWEEP,
    made_workspace,
    media,
    offline_runs,
    references,
    table,
)

DATASET = Group("dataset", "toy")
AUTO = Tracking()
OFFLINE = Tracking(wandb="offline")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Something of everything, on a machine without a login; the songs are as `generate` leaves them."""
    log_out(monkeypatch, tmp_path / "home")
    workspace = made_workspace(tmp_path / "workspace")
    commit.write_record(workspace.batch("toy-songs"), SOURCES, {"sources": [{"sweep": SWEEP}]})
    ran(workspace, wandb="auto", project="samplernn")
    monkeypatch.setattr(beside, "LEAVE_S", 60.0)  # a busy machine
    return workspace


def ran(workspace: Workspace, **tracking: str) -> None:
    """The sweep's last run was tracked so."""
    Journal(workspace.sweep(SWEEP)).add("begin", gpus=0.0, budget={}, tracking=tracking)


def said(ship: Callable[..., None], workspace: Workspace, name: str, tracking: Tracking = AUTO) -> str:
    out = io.StringIO()
    ship(workspace, name, tracking, Console(file=out, width=1000))
    return out.getvalue()


def synced(workspace: Workspace) -> str:
    out = io.StringIO()
    assert sync(workspace, None, Tracking(), Console(file=out, width=1000)), out.getvalue()
    return out.getvalue()


def test_each_verb_writes_its_run_and_a_later_sync_does_not_write_it_again(workspace: Workspace) -> None:
    assert "W&B: 1 run offline" in said(ship_dataset, workspace, "toy", OFFLINE)
    ((key, (path,)),) = offline_runs(workspace, DATASET).items()
    assert key == ("ingest", "toy")
    (addresses,) = references(path).values()
    assert (Path(workspace.dataset("toy").root) / "dataset.json").as_uri() in addresses

    assert "W&B: 1 run offline" in said(ship_songs, workspace, "toy-songs", OFFLINE)
    ((key, (path,)),) = offline_runs(workspace).items()
    assert key == ("generate", "toy-songs")
    (row,) = history_of(path)
    for line in table(path, row, "songs"):
        np.testing.assert_array_equal(
            decode_flac(media(path, row, line["audio"]))[0], SONGS[int(line["song"])]
        )

    assert "W&B: 1 run offline" in said(ship_album, workspace, "first", OFFLINE)
    path = offline_runs(workspace)["album", "first"][0]
    (row,) = history_of(path)
    assert [line["audio"] for line in table(path, row, "tracks")] == ["track/01", "track/02", "track/03"]

    before = offline_runs(workspace, DATASET)
    assert "dataset toy: nothing new to ship" in synced(workspace)
    runs = offline_runs(workspace)
    assert offline_runs(workspace, DATASET) == before
    assert {len(files) for files in runs.values()} == {1}
    assert {kind for kind, _ in runs} == {"train", "sweep", "ingest", "generate", "album"}


def test_more_songs_go_onto_the_same_run(workspace: Workspace, server: Server) -> None:
    assert f"W&B: 1 run at {server.url}/band/samplernn" in said(ship_songs, workspace, "toy-songs")
    write_batch(workspace, sounds=[*SONGS, SONGS[0]])
    said(ship_songs, workspace, "toy-songs")
    assert said(ship_songs, workspace, "toy-songs").startswith("W&B: 1 run")
    (run,) = server.history
    assert [row["count/songs"] for row in server.rows(run)] == [3, 4]


@pytest.mark.system
@pytest.mark.parametrize("fault", ["hang", "die"])
def test_a_server_that_fails_holds_no_verb_and_sync_ships_what_is_missing_once(
    workspace: Workspace, server: Server, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(beside, "LEAVE_S", 2.0)
    server.answer = fault
    began = time.monotonic()
    told = said(ship_album, workspace, "first")
    assert time.monotonic() - began < 6
    assert f"`orchestrator sync {SWEEP}` ships" in told
    wait_for(lambda: free(workspace), 60)
    assert not server.history
    server.answer = "ok"
    synced(workspace)
    (album,) = [run for run in server.history if "-album-" in run]
    assert len(server.history[album]) == 1
    assert "nothing new" in synced(workspace)
    assert len(server.history[album]) == 1


def free(workspace: Workspace) -> bool:
    lock = take_lock(GROUP.folder(workspace))
    if lock is not None:
        lock.close()
    return lock is not None


@pytest.mark.system
def test_songs_wait_for_another_shipper_of_their_sweep(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "LEAVE_S", 1.0)
    lock = take_lock(GROUP.folder(workspace))
    assert lock is not None
    with lock:
        assert "goes on by itself" in said(ship_songs, workspace, "toy-songs", OFFLINE)
        assert not offline_runs(workspace)
    wait_for(lambda: offline_runs(workspace), 60)


def test_songs_and_albums_are_tracked_as_their_sweep_was(workspace: Workspace) -> None:
    assert tracked_as(workspace, SWEEP, Tracking()) == Tracking(wandb="auto", project="samplernn")
    assert said(ship_songs, workspace, "toy-songs") == ""  # there is no login
    ran(workspace, wandb="online", project="band/riffs")
    assert tracked_as(workspace, SWEEP, Tracking()) == Tracking(wandb="offline", project="band/riffs")
    assert tracked_as(workspace, SWEEP, Tracking(project="demos")).project == "demos"
    ran(workspace, wandb="off", project="band/riffs")
    assert said(ship_songs, workspace, "toy-songs") == said(ship_album, workspace, "first") == ""
    assert not GROUP.folder(workspace).exists()
    assert "offline" in said(ship_songs, workspace, "toy-songs", Tracking(wandb="offline"))
    assert tracked_as(workspace, SWEEP, Tracking()).wandb == "off"


def test_a_sweep_of_an_older_version_was_tracked_if_it_was_ever_shipped(workspace: Workspace) -> None:
    Journal(workspace.sweep(SWEEP)).add("begin", gpus=0.0, budget={})
    assert tracked_as(workspace, SWEEP, Tracking()).wandb == "off"
    GROUP.token(workspace, "band/riffs")
    assert tracked_as(workspace, SWEEP, Tracking()) == Tracking(wandb="auto", project="band/riffs")


def test_without_wandb_nothing_is_said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.tracking.login.find_spec", lambda _: None)
    assert said(ship_dataset, workspace, "toy") == ""
