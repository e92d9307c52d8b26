"""`status`: one table from storage alone, with places, ETA and clips; and the page's parallel coordinates."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from orchestrator import cli
from orchestrator.asked import status_asked
from orchestrator.board import Board
from orchestrator.journal import Journal
from orchestrator.lease import hold
from orchestrator.pages.parallel import Column, Trace, parallel_svg
from orchestrator.plan import plan
from orchestrator.status import sweep_status, watch
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import begin_attempt
from samplernn.errors import BadInput
from tests.orchestrator.made_sweep import write_sweep
from tests.orchestrator.test_cli import run
from tests.s3_server import bucket, uri

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A sweep whose first trial is at work on a second attempt, on a GPU of another machine."""
    workspace = Workspace.open(str(tmp_path))
    write_sweep(workspace)
    name = SweepView.open(workspace, "toy-sweep").trials[0].name
    begin_attempt(workspace.trial("toy-sweep", name), 200, host="node-7", gpus=["3"])
    Journal(workspace.sweep("toy-sweep")).add("start", name, attempt=2, step=200)
    return workspace


@pytest.fixture
def driver(workspace: Workspace) -> Iterator[None]:
    """A driver is at work on it."""
    with hold(workspace.sweep("toy-sweep")):
        yield


def printed(workspace: Workspace) -> str:
    console = Console(width=160, file=io.StringIO(), highlight=False)
    console.print(sweep_status(workspace, "toy-sweep")[1])
    return console.file.getvalue()


def test_status_says_where_a_trial_runs_when_it_is_done_and_its_newest_clips(workspace, driver):
    text = printed(workspace)
    header, first = text.splitlines()[:2]
    assert " ".join(header.split()) == (
        "trial state step train bits valid bits samples/s ETA GPU node last clip"
    )
    # It goes on from step 200 of 300; 100 steps of 128 x 1,024 samples at 100,000 a second are 131 s.
    for part in ("running", "200/300", "2 min", " 3 ", "node-7", "step 200"):
        assert part in first, first


def test_status_as_json_has_the_same(workspace, driver):
    body = sweep_status(workspace, "toy-sweep")[0]["trials"]
    assert body[0] | {"eta_s": 131.072, "gpu": "3", "node": "node-7", "samples_per_s": 1e5} == body[0]
    assert body[0]["last_clip"].endswith("clips/step-00000200.0001")
    assert (body[3]["eta_s"], body[3]["gpu"], body[3]["node"]) == (None, None, None)


def test_watching_a_sweep_that_nobody_runs_shows_it_once(workspace):
    console = Console(width=160, file=io.StringIO(), highlight=False)
    watch(workspace, "toy-sweep", console)
    assert "1 interrupted" in console.file.getvalue()


def test_a_trial_whose_driver_is_gone_is_interrupted(workspace):
    first = printed(workspace).splitlines()[1]
    assert "interrupted" in first
    assert "running" not in first
    assert sweep_status(workspace, "toy-sweep")[0]["trials"][0]["eta_s"] is None
    assert "no driver is at work on it" in printed(workspace)


def test_time_left_is_counted_from_the_first_step_and_not_from_the_command(workspace, monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    board = Board("toy", plan(SweepView.open(workspace, "toy-sweep").config))
    board.begin()
    name = next(iter(board.lines))
    total = sum(line.max_steps for line in board.lines.values())
    now = 60.0  # Ray, and the worker's imports
    board.seen(name, {"kind": "start", "step": 0})
    now = 65.0
    board.seen(name, {"kind": "log", "step": 50})
    assert board.eta_s is None, "too early to tell"
    now = 80.0
    board.seen(name, {"kind": "log", "step": 200})
    assert board.eta_s == pytest.approx((total - 200) * 20 / 200)


def test_what_has_ended_is_not_read_again_unless_it_goes_on(workspace):
    before = SweepView.open(workspace, "toy-sweep")
    after = SweepView.open(workspace, "toy-sweep", before)
    assert [old is new for old, new in zip(before.trials, after.trials, strict=True)] == [
        False,
        True,
        True,
        True,
    ]
    Journal(workspace.sweep("toy-sweep")).add("rollback", before.trials[3].name, step=100, attempt=1)
    assert SweepView.open(workspace, "toy-sweep", before).trials[3].state == "waiting"


def test_parallel_coordinates_place_values_and_leave_out_what_is_not_there():
    traces = [Trace("a", "<a>", 0), Trace("b", "b", None), Trace("c", "c", 1)]
    columns = [
        Column("dim", [64, 256, 128]),
        Column("rate", [1e-4, 1e-2, None]),
        Column("bits", [5.0, 4.0, 4.5]),
    ]
    root = ET.fromstring(parallel_svg(traces, columns, "title"))
    paths = {
        group.get("data-trial"): [tuple(map(float, at.split())) for at in pairs(group)]
        for group in root.iter(f"{SVG}g")
        if group.get("data-trial")
    }
    bottom, middle, top = paths["a"][0][1], paths["c"][0][1], paths["b"][0][1]
    assert top < middle < bottom
    assert [y for _, y in paths["a"]] == [bottom, bottom, top]
    assert len(paths["c"]) == 2
    assert "style" not in ET.tostring(root, encoding="unicode")


def pairs(group: ET.Element) -> list[str]:
    words = group.find(f"{SVG}path").get("d").removeprefix("M").split()
    return [" ".join(words[at : at + 2]) for at in range(0, len(words), 2)]


@pytest.mark.parametrize("verb", ["status", "audition", "generate"])
def test_sweep_of_another_version_is_one_clear_error(workspace, monkeypatch, capsys, verb):
    folder = workspace.sweep("toy-sweep")
    body = commit.read_record(folder, CONFIG)
    folder.delete(CONFIG)
    commit.write_record(folder, CONFIG, {**body, "retries": 3})
    code, _, error = run(monkeypatch, capsys, verb, "toy-sweep", "-w", str(workspace.storage))
    assert code == 2
    assert error.startswith(
        "error: the sweep toy-sweep was begun with another version of this project (unknown key retries"
    )
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "option", "meant"),
    [
        ([], None, (None, None)),
        (["night"], None, (None, "night")),
        (["night"], "/w", ("/w", "night")),
        (["s3://bucket/w"], None, ("s3://bucket/w", None)),
        (["gs://bucket/w", "night"], None, ("gs://bucket/w", "night")),
        (["./w", "night"], None, ("./w", "night")),
    ],
)
def test_first_word_with_a_slash_is_the_workspace(words, option, meant):
    assert status_asked(words, option) == meant


@pytest.mark.parametrize(
    "words", [["night", "s3://b/w"], ["a", "b"], ["s3://b/w", "s3://b/v"], ["s3://b/w", "a", "b"]]
)
def test_words_that_are_no_workspace_and_sweep_are_refused(words):
    with pytest.raises(BadInput, match="a workspace and a sweep at most"):
        status_asked(words, None)


def test_workspace_given_twice_is_refused():
    with pytest.raises(BadInput, match="two workspaces"):
        status_asked(["s3://b/w", "night"], "/w")


def test_status_of_a_bucket_is_read_from_storage_alone(s3_endpoint, monkeypatch, capsys):
    bucket(s3_endpoint, "progress")
    where = uri(s3_endpoint, "progress/workspace")
    workspace = Workspace.open(where)
    write_sweep(workspace)
    assert Workspace.open(workspace.storage.address).names("sweeps") == ["toy-sweep"]
    body = json.loads(said_by(monkeypatch, capsys, "status", where, "toy-sweep", "--json"))
    assert (body["running"], [trial["state"] for trial in body["trials"]]) == (
        False, ["done", "stopped", "failed", "done"],
    )  # fmt: skip
    assert body["trials"][0]["last_clip"].startswith("s3://progress/workspace/sweeps/toy-sweep/trials/")
    with hold(workspace.sweep("toy-sweep")):
        assert "a driver is at work" in said_by(monkeypatch, capsys, "status", "toy-sweep", "-w", where)
    assert "2 done, 1 stopped, 1 failed" in said_by(monkeypatch, capsys, "status", where)


def said_by(monkeypatch, capsys, *words: str) -> str:
    """What the command line prints."""
    monkeypatch.setattr(sys, "argv", ["orchestrator", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    return capsys.readouterr().out
