"""Which checkpoints are kept, as training goes and by `prune`: the best, the newest, every Nth, and what is pinned.

Only models go; their clips stay, and so does every model that a listener picked, that songs were made from, or that
training may go on from. The manifest goes first, so that a removal cut short leaves a folder that doesn't exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.config import Retention
from orchestrator.journal import last_begin
from orchestrator.picks import picked
from orchestrator.workspace import SOURCES, Workspace
from samplernn import commit
from samplernn.attempts import list_commits, list_folders, read_lineage, read_metrics, step_name
from samplernn.errors import Damaged
from samplernn.storage import Storage

Pins = set[tuple[str, int]]


@dataclass(frozen=True)
class Surplus:
    """A folder of a trial that nothing needs."""

    trial: str
    kind: str
    """model, state or clips."""
    name: str
    step: int
    bytes: int
    why: str


def recorded(workspace: Workspace, sweep: str) -> dict[str, Any]:
    """The settings that the sweep's last run kept checkpoints by; empty where it was never run."""
    return dict(last_begin(workspace.sweep(sweep)).get("retention", {}))


def kept(bits: dict[int, float | None], retention: Retention) -> set[int]:
    """The steps whose models stay, of those in `bits` (validation bits by step; None where they aren't known)."""
    if retention.best is None:
        return set(bits)
    steps = sorted(bits)
    rated = sorted((value, step) for step, value in bits.items() if value is not None)
    best = {step for _, step in rated[: retention.best]}
    unknown = {step for step, value in bits.items() if value is None}
    regular = {step for step in steps if retention.every and step % retention.every == 0}
    return best | unknown | regular | set(steps[-retention.newest :])


def pins(workspace: Workspace, sweep: str) -> Pins:
    """(trial, step) of the checkpoints that a listener picked or that a batch of songs was made from."""
    used = set()
    for batch in workspace.names("songs"):
        try:
            sources = commit.read_record(workspace.batch(batch), SOURCES)["sources"]
        except (FileNotFoundError, Damaged):
            continue
        used |= {(str(at["trial"]), int(at["step"])) for at in sources if at["sweep"] == sweep}
    return picked(workspace, sweep) | used


def superseded(folder: Storage, trial: str, retention: Retention, pinned: Pins) -> list[Surplus]:
    """Models of a trial that better or newer ones make unnecessary."""
    models = list_commits(folder, "model")
    found = {row["step"]: row["valid_bits"] for row in read_metrics(folder) if row["kind"] == "eval"}
    stay = kept({step: found.get(step) for step, _ in models}, retention)
    stay |= {step for step, _ in list_commits(folder, "state")}
    stay |= {step for name, step in pinned if name == trial}
    return [
        _surplus(folder, trial, "model", step, attempt, "neither among the best nor the newest")
        for step, attempt in models
        if step not in stay
    ]


def leftovers(folder: Storage, trial: str) -> Iterator[Surplus]:
    """What was cut short or made void: only while nobody trains the trial."""
    lineage = read_lineage(folder)
    for kind in ("model", "state", "clips"):
        for step, attempt in list_folders(folder, kind):
            if kind != "clips" and not lineage.keeps(step, attempt):
                yield _surplus(folder, trial, kind, step, attempt, "void: the trial went on from before it")
            elif not commit.is_committed(folder.at(kind, step_name(step, attempt))):
                yield _surplus(folder, trial, kind, step, attempt, "never committed whole")


def remove(workspace: Workspace, sweep: str, surplus: Surplus) -> None:
    """Delete it, its manifest first."""
    parent = workspace.trial(sweep, surplus.trial).at(surplus.kind)
    commit.delete_commit(parent.at(surplus.name), parent, surplus.name)


def retain(workspace: Workspace, sweep: str, trial: str, retention: Retention) -> None:
    """Remove what a trial's newest checkpoint has made unnecessary."""
    if retention.best is None:
        return
    folder = workspace.trial(sweep, trial)
    for surplus in superseded(folder, trial, retention, pins(workspace, sweep)):
        remove(workspace, sweep, surplus)


def _surplus(folder: Storage, trial: str, kind: str, step: int, attempt: int, why: str) -> Surplus:
    name = step_name(step, attempt)
    size = sum(size for _, size in folder.at(kind, name).walk())
    return Surplus(trial, kind, name, step, size, why)
