"""What tpe tries: a function of the seed and the journal, the same live, after a restart and after a kill."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from orchestrator.audition.index import SweepIndex
from orchestrator.config import SweepConfig, SweepFile
from orchestrator.drift import check_same_config
from orchestrator.journal import Journal, read_journal
from orchestrator.merge import build, load_yaml
from orchestrator.next_trials import count_left, next_trials
from orchestrator.on_ray.scheduler import Decisions
from orchestrator.status import sweep_status
from orchestrator.suggest import Suggestions
from orchestrator.sweep import run_sweep
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.chunks import Dataset
from samplernn.errors import Damaged, StorageError
from samplernn.train import Saved, Started, train
from tests.made import tiny_experiment, wait_until, write_dataset

SPACE = {
    "train.learning_rate": {"loguniform": [1e-5, 1e-1]},
    "model.n_rnn": [2, 3, 4],
    "model.frame_sizes": {"choice": [[8], [16]], "when": {"model.n_rnn": [2, 3]}},
    "model.dim": {"int": [64, 1000], "step": 64},
}
WIDTH = 4


def searched(space: dict[str, Any] = SPACE, num_samples: int = 60) -> SweepConfig:
    return build(
        SweepConfig,
        {"name": "a", "dataset": "b", "search": "tpe", "num_samples": num_samples, "space": space},
    )


def bits_of(point: dict[str, Any]) -> float:
    """Least at a learning rate of 0.001 and a dim of 512."""
    return abs(math.log10(point["train.learning_rate"]) + 3) + abs(point["model.dim"] - 512) / 1000


def drive(config: SweepConfig, entries: list[dict[str, Any]], until: int) -> list[dict[str, Any]]:
    """Go on from a journal: WIDTH at a time, the oldest ends first, some stopped early, some failed."""
    suggestions = Suggestions(config)
    suggestions.hear(entries)

    def add(kind: str, **what: Any) -> None:
        entries.append({"seq": len(entries) + 1, "kind": kind, **what})
        suggestions.hear(entries[-1:])

    points = {entry["trial"]: entry["overrides"] for entry in entries if entry["kind"] == "suggest"}
    ended = {entry["trial"] for entry in entries if entry["kind"] == "end"}
    running = [name for name in points if name not in ended]
    while suggestions.number < until:
        while len(running) < WIDTH:
            number, point = suggestions.number, suggestions.next()
            assert point is not None
            points[f"{number:04d}"] = point
            running.append(f"{number:04d}")
            add("suggest", trial=f"{number:04d}", number=number, overrides=point)
        name = running.pop(0)
        state = {0: "stopped", 1: "failed"}.get(int(name) % 7, "done")
        for step in (10, 20):
            add("report", trial=name, step=step, bits=bits_of(points[name]) + 1 / step)
        add("end", trial=name, state=state, final=True)
    return entries


def suggested(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry["overrides"] for entry in entries if entry["kind"] == "suggest"]


@pytest.mark.parametrize("cut", [1, 5, 37, 80, 150, 201])
def test_going_on_from_any_point_of_the_journal_suggests_the_same(cut):
    whole = drive(searched(), [], 60)
    assert len(whole) > 201
    assert suggested(drive(searched(), [dict(entry) for entry in whole[:cut]], 60)) == suggested(whole)


def test_suggestions_get_better_and_keep_to_the_space():
    points = suggested(drive(searched(), [], 60))
    values = sorted(map(bits_of, points[:20])), sorted(map(bits_of, points[-20:]))
    assert values[1][10] < values[0][10], "the middle of the last twenty is better than that of the first"
    for point in points:
        assert 1e-5 <= point["train.learning_rate"] <= 1e-1
        assert point["model.dim"] in range(64, 1001, 64)
        assert ("model.frame_sizes" in point) == (point["model.n_rnn"] in (2, 3))


def test_no_point_is_tried_twice_and_a_small_space_comes_to_its_end(tmp_path):
    config = searched({"model.dim": [64, 128, 192], "model.n_rnn": [2, 3]}, num_samples=20)
    journal, tried = Journal(None), []
    for trial in next_trials(Workspace.open(str(tmp_path)), config, journal):
        tried.append(str(trial.overrides))
        journal.add("end", trial.name, state="failed", reason="", final=True)
    assert len(set(tried)) == len(tried) == 6
    assert count_left(config, journal) == 0


@pytest.mark.parametrize(
    "altered",
    [{"train.learning_rate": 0.5}, {"model.n_rnn": 4}, {"model.dim": 100}, {"model.bogus": 1}],
    ids=str,
)
def test_altered_suggestion_is_refused(altered):
    entry = {
        "seq": 9, "kind": "suggest", "trial": "0000", "number": 0,
        "overrides": {"model.dim": 128, "model.n_rnn": 2, "train.learning_rate": 0.01, "model.frame_sizes": [8]},
    }  # fmt: skip
    Suggestions(searched()).hear([entry])
    with pytest.raises(Damaged, match=r"journal entry 9 suggests .* the sweep's journal was altered"):
        Suggestions(searched()).hear([{**entry, "overrides": {**entry["overrides"], **altered}}])


def test_impossible_suggestion_is_journalled_with_its_reason_and_the_next_one_follows(tmp_path):
    """A range whose holes the look beforehand can't see: a window of train.seq_len samples of whole frames."""
    config = searched({"train.seq_len": {"int": [1024, 900_000], "step": 8}}, num_samples=8)
    workspace, journal = Workspace.open(str(tmp_path)), Journal(None)
    trials = list(next_trials(workspace, config, journal))
    bad = [entry for entry in journal.entries if "impossible" in entry]
    assert bad
    assert len(trials) + len(bad) == 8
    assert all("is not a multiple of the largest frame size 16" in entry["impossible"] for entry in bad)
    assert [int(trial.name[:4]) for trial in trials] == [
        entry["number"] for entry in journal.entries if "trial" in entry
    ]
    for trial in trials:
        journal.add("end", trial.name, state="done", reason="", final=True)
    assert count_left(config, journal) == 0


def sweep_file(folder: Path) -> Path:
    base = tiny_experiment(max_steps=120, checkpoint_every=40, log_every=20)
    body = {
        "dataset": "toy",
        "base": base.model_dump(mode="json", exclude_unset=True),
        "space": {"train.learning_rate": {"loguniform": [1e-4, 3e-2]}, "model.dim": {"int": [8, 24], "step": 8}},
        "search": "tpe",
        "num_samples": 12,
        "schedule": {"type": "asha", "grace_steps": 40, "reduction_factor": 2},
        "run": {"tracking": {"wandb": "off"}, "max_concurrent": 1},
    }  # fmt: skip
    path = folder / "tpe.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def undisturbed(config: SweepConfig, folder: Path) -> Journal:
    """The same sweep by a loop without Ray that nobody stops."""
    workspace, journal = Workspace.open(str(folder)), Journal(None)
    write_dataset(workspace.dataset("toy"), samples=32_000)
    dataset, steps = Dataset.open(workspace.dataset("toy"), folder / "cache"), {}
    decisions = Decisions(config.schedule, steps, journal, config.longest)
    for trial in next_trials(workspace, config, journal):
        steps[trial.name], state, attempt = trial.experiment.train.max_steps, "done", 0
        place = workspace.trial(config.name, trial.name)
        for event in train(trial.experiment, dataset, place, device=torch.device("cpu")):
            if isinstance(event, Started):
                attempt = event.attempt
            if isinstance(event, Saved):
                decision = decisions.report(trial.name, attempt, event.step, event.valid_bits)
                if decision == "STOP":
                    state = "stopped"
                    break
        journal.add("end", trial.name, state=state, reason="", final=True)
    return journal


def story(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What was tried, what it came to at each step, and how it ended; each once."""
    told = [
        (entry["kind"], entry["trial"], str(entry.get("overrides")), entry.get("step"), entry.get("bits"),
         entry.get("decision"), entry.get("state"))
        for entry in entries
        if entry["kind"] in ("suggest", "report", "end")
    ]  # fmt: skip
    return list(dict.fromkeys(told))


@pytest.mark.cluster
@pytest.mark.system
def test_tpe_whose_driver_was_killed_goes_on_as_if_nothing_had_happened(tmp_path):
    workspace, log, file = Workspace.open(str(tmp_path / "workspace")), tmp_path / "log", sweep_file(tmp_path)
    write_dataset(workspace.dataset("toy"), samples=32_000)
    command = [sys.executable, "-m", "orchestrator.cli", "sweep", str(file), "-w", str(workspace.storage)]
    sweep = workspace.sweep("tpe")

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)

    first = start()
    wait_until(first, lambda: sum(e["kind"] == "end" for e in read_journal(sweep)) >= 3, "three ended trials")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = read_journal(sweep)
    assert sum(entry["kind"] == "suggest" for entry in before) < 12
    second = start()
    assert second.wait(180) == 0, log.read_text()
    entries = read_journal(sweep)
    assert entries[: len(before)] == before

    torch.set_num_threads(1)
    data = load_yaml(file)
    data.pop("run")
    expected = undisturbed(build(SweepConfig, {"name": "tpe", **data}), tmp_path / "undisturbed")
    assert story(entries) == story(expected.entries)
    assert {"done", "stopped"} == {trial.state for trial in SweepView.open(workspace, "tpe").trials}
    assert len(SweepView.open(workspace, "tpe").trials) == 12


def test_trials_that_tpe_suggests_later_appear_as_they_come(tmp_path):
    workspace = Workspace.open(str(tmp_path))
    space = {"model.n_rnn": [2, 3], "train.learning_rate": {"loguniform": [1e-4, 1e-2]}}
    config = SweepConfig(
        name="later", dataset="toy", base=tiny_experiment(), space=space, search="tpe", num_samples=3,
        schedule={"type": "none"},
    )  # fmt: skip
    commit.write_record(workspace.sweep("later"), CONFIG, config.model_dump(mode="json"))
    index, journal = SweepIndex(workspace, "later"), Journal(workspace.sweep("later"))
    coming = next_trials(workspace, config, journal)
    journal.add("begin", gpus=0.0, budget={})
    index.refresh()
    assert index.trials == {}
    for count in (1, 2, 3):
        trial = next(coming)
        index.refresh()
        assert list(index.trials) == [t.name for t in SweepView.open(workspace, "later").trials]
        assert len(index.trials) == count
        assert index.trials[trial.name].state == ("waiting", "")
        journal.add("start", trial.name, attempt=1, step=0)
        index.refresh()
        assert index.trials[trial.name].state == ("interrupted", "")  # no driver holds the sweep
        assert [t.state for t in SweepView.open(workspace, "later").trials] == ["interrupted"] * count
    journal.add("suggest", number=3, overrides={}, impossible="it is")
    index.refresh()
    assert len(index.trials) == len(SweepView.open(workspace, "later").trials) == 3
    page = sweep_status(workspace, "later")[0]
    assert [row["state"] for row in page["trials"]] == ["interrupted"] * 3


@pytest.mark.cluster
def test_altered_suggestion_stops_the_sweep_before_a_trial_starts(tmp_path, ray_local):
    workspace = Workspace.open(str(tmp_path))
    write_dataset(workspace.dataset("toy"), samples=32_000)
    asked = build(SweepFile, {"name": "tpe", **load_yaml(sweep_file(tmp_path))})
    check_same_config(workspace.sweep("tpe"), CONFIG, asked.sweep)
    journal = Journal(workspace.sweep("tpe"))
    journal.add("suggest", "0000-x", number=0, overrides={"model.dim": 8, "train.learning_rate": 0.5})
    with pytest.raises(Damaged, match="the sweep's journal was altered"):
        run_sweep(workspace, asked, Console(quiet=True))
    assert [entry["kind"] for entry in read_journal(workspace.sweep("tpe"))] == ["suggest"]


@pytest.mark.cluster
def test_storage_that_fails_while_a_trial_is_suggested_is_told_as_such(tmp_path, ray_local, monkeypatch):
    workspace = Workspace.open(str(tmp_path))
    write_dataset(workspace.dataset("toy"), samples=32_000)
    asked = build(SweepFile, {"name": "tpe", **load_yaml(sweep_file(tmp_path))})
    whole = Journal.add

    def full(journal: Journal, kind: str, *words: Any, **what: Any) -> dict[str, Any]:
        if kind == "suggest":
            raise StorageError("the disk is full")
        return whole(journal, kind, *words, **what)

    monkeypatch.setattr(Journal, "add", full)
    with pytest.raises(StorageError, match="the disk is full"):
        run_sweep(workspace, asked, Console(quiet=True))
