"""What a sweep may use: counted over all its runs, and kept to; a larger budget and the same command go on."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from orchestrator.budget import Meter
from orchestrator.config import Budget, SweepFile
from orchestrator.journal import Journal, read_journal
from orchestrator.merge import build
from orchestrator.sweep import run_sweep
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn.attempts import list_commits
from tests.made import tiny_experiment, write_dataset


class Clocked:
    """A journal whose clock is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.journal = Journal(None, lambda: self.now)

    def at(self, seconds: float, kind: str, trial: str | None = None, **what: Any) -> None:
        self.now = seconds
        self.journal.add(kind, trial, **what)


def two_runs() -> list[dict[str, Any]]:
    """Two trials on half a GPU each for 100 s and 50 s in a run that was killed at 200 s, and 60 s more of one."""
    first = Clocked()
    first.at(10, "begin", gpus=0.5)
    first.at(20, "start", "a", attempt=1, step=0)
    first.at(60, "start", "b", attempt=1, step=0)
    first.at(110, "report", "b", step=50)
    first.at(110, "end", "b", final=True)
    first.at(120, "report", "a", step=100)
    first.at(200, "report", "a", step=200)
    entries = first.journal.entries
    second = Clocked()
    second.at(5, "begin", gpus=1.0)
    second.at(10, "start", "a", attempt=2, step=200)
    second.at(70, "report", "a", step=220)
    return entries + [{**entry, "run": 2} for entry in second.journal.entries]


def test_spent_is_counted_over_all_runs():
    spent = Meter(two_runs()).spent()
    assert spent.steps == 220 + 50
    assert spent.seconds == 190 + 65  # since each began
    # a: 180 s on half a GPU until the driver was last heard of, then 60 s on a whole one; b: 50 s on half of one
    assert spent.gpu_hours * 3600 == pytest.approx(90 + 25 + 60)


def test_spent_goes_on_while_nothing_is_journalled():
    spent = Meter(two_runs()).spent(at=100)
    assert spent.seconds == 190 + 95
    assert spent.gpu_hours * 3600 == pytest.approx(90 + 25 + 90)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"steps": 271}, None),
        ({"steps": 270}, "270 of budget.steps 270"),
        ({"seconds": 256}, None),
        ({"seconds": 255}, "of budget.seconds 255"),
        ({"gpu_hours": 0.05}, None),
        ({"gpu_hours": 0.04}, "of budget.gpu_hours 0.04"),
        ({"money": 0.15, "gpu_hour_price": 3}, None),
        ({"money": 0.14, "gpu_hour_price": 3}, "of budget.money 0.14"),
        ({}, None),
    ],
    ids=str,
)
def test_budget_is_used_up_at_its_limit_and_not_before(limits, said):
    reason = Meter(two_runs()).spent().used_up(Budget(**limits))
    assert (reason is None) if said is None else (said in (reason or ""))


@pytest.mark.system
@pytest.mark.cluster
def test_sweep_ends_with_its_budget_and_a_larger_one_goes_on(tmp_path, ray_local, capsys):
    workspace = Workspace.open(str(tmp_path))
    write_dataset(workspace.dataset("toy"), samples=32_000)
    base = tiny_experiment(max_steps=20_000, checkpoint_every=20_000, log_every=10)
    body = {
        "name": "spent",
        "dataset": "toy",
        "base": base.model_dump(mode="json", exclude_unset=True),
        "space": {"model.dim": [8, 12, 16]},
        "schedule": {"type": "none"},
        # One at a time, while the others have asked for their places.
        "resources": {"cpus": ray_local.cluster_resources()["CPU"]},
        "run": {"tracking": {"wandb": "off"}},
    }

    def run(budget: dict[str, Any]) -> tuple[SweepView, str]:
        capsys.readouterr()
        console = Console(record=True, width=140, force_terminal=False, file=io.StringIO())
        view = run_sweep(workspace, build(SweepFile, {**body, "budget": budget}), console)
        assert "Trial" not in capsys.readouterr().out, "Tune has printed something of its own"
        return view, " ".join(console.export_text().split())

    view, said = run({"steps": 200})
    assert [trial.state for trial in view.trials] == ["stopped", "waiting", "waiting"]
    assert view.trials[0].reason.startswith("budget: ")
    assert "of budget.steps 200 are trained; 3 trials are not at their end" in said
    ((step, _),) = list_commits(workspace.trial("spent", view.trials[0].name), "model")
    assert 200 <= step < 20_000, "it committed at once, not at its next checkpoint"
    entries = read_journal(workspace.sweep("spent"))
    assert [entry["kind"] for entry in entries] == ["begin", "start", "report", "end"]

    again, said = run({"steps": 200})
    assert "has no budget left" in said
    assert read_journal(workspace.sweep("spent")) == entries
    assert [trial.state for trial in again.trials] == [trial.state for trial in view.trials]

    more, said = run({"steps": step + 100})
    assert "the budget is used up" in said
    (_, second) = list_commits(workspace.trial("spent", more.trials[0].name), "model")
    assert second[0] >= step + 100, "it went on from where it was"
    assert [trial.state for trial in more.trials] == ["stopped", "waiting", "waiting"]
