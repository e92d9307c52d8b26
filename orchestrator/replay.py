"""A sweep that was run, as courses and a cluster for the simulator: what its rows and its journal say of time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.journal import Entry, read_journal
from orchestrator.occupancy import idleness, recorded_spans
from orchestrator.simulate import Cluster, Course
from orchestrator.trials import SweepView, TrialView
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput


def recorded_courses(workspace: Workspace, sweep: str) -> list[Course]:
    """A course for each trial that was evaluated, in the order of their numbers, as the trial's own rows have it."""
    journal = read_journal(workspace.sweep(sweep))
    return [
        _course(trial, [entry for entry in journal if entry.get("trial") == trial.name])
        for trial in SweepView.open(workspace, sweep).trials
        if trial.best is not None
    ]


def recorded_cluster(workspace: Workspace, sweep: str) -> Cluster:
    """The slots that the last run of a sweep's driver used, and how long a trial took to start on them.

    Raises BadInput where the journal holds no such times: it was written by an earlier version, or nothing ran.
    """
    spans = recorded_spans(workspace, sweep)
    if not spans:
        raise BadInput(
            f"the journal of sweep {sweep!r} holds no times to learn from; run another sweep first"
        )
    first = min(span.start for span in spans)
    start = idleness(spans).median or first
    return Cluster(1, len({span.slot for span in spans}), start, max(0.0, first - start))


def _course(trial: TrialView, entries: list[Entry]) -> Course:
    train = trial.experiment.train
    last = [row for row in trial.rows if row["kind"] == "train"][-1]
    step_s = last["seconds"] / last["step"]
    return Course(
        trial.name, train.max_steps, train.checkpoint_every, step_s, checkpoint_s(entries, step_s),
        stair([(row["step"], row["valid_bits"]) for row in trial.rows if row["kind"] == "eval"]),
    )  # fmt: skip


def checkpoint_s(entries: Sequence[Entry], step_s: float) -> float:
    """Seconds of a checkpoint: what the journal says lies between two reports, less the steps between them."""
    took, before = [], dict[str, Any]()
    for entry in entries:
        if entry["kind"] == "report" and before and before.get("run") == entry.get("run"):
            took.append(entry["at"] - before["at"] - (entry["step"] - before["step"]) * step_s)
        before = entry if entry["kind"] in ("start", "report") and "at" in entry else {}
    return max(0.0, statistics.median(took)) if took else 0.0


def stair(points: Sequence[tuple[int, float]]) -> Callable[[int], float]:
    """The bits at the last evaluation up to a step; beyond the last one its bits stay."""

    def bits(step: int) -> float:
        return next((value for at, value in reversed(points) if at <= step), points[0][1])

    return bits
