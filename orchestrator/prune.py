"""`prune`: what a sweep keeps and nothing needs, shown and removed; the same command again finishes a removal."""

from __future__ import annotations

from contextlib import nullcontext

from rich.console import Console
from rich.table import Table

from orchestrator.config import Retention
from orchestrator.lease import hold, is_held
from orchestrator.live import View, bar
from orchestrator.retention import Surplus, leftovers, pins, remove, superseded
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace

MB = 1e6


def prune(workspace: Workspace, sweep: str, retention: Retention, *, dry: bool, console: Console) -> int:
    """Remove, or with `dry` only show, what retention doesn't keep and what was cut short; returns its bytes.

    Raises BadInput when there is no such sweep, or a driver is at work on it: that one applies its own retention.
    """
    view = SweepView.open(workspace, sweep)
    with nullcontext() if dry else hold(workspace.sweep(sweep)):
        found = surplus(workspace, view, retention, held=not dry)
        if found:
            console.print(table(found))
        if not dry:
            _remove(workspace, sweep, found, console)
    total = sum(each.bytes for each in found)
    did = "would be removed" if dry else "removed"
    console.print(
        f"{len(found)} folders, {total / MB:,.1f} MB {did}; picked and best checkpoints and all clips stay"
    )
    return total


def surplus(workspace: Workspace, view: SweepView, retention: Retention, *, held: bool) -> list[Surplus]:
    """Everything of a sweep that can go, trial after trial; `held` is whether this process holds its lease."""
    sweep = view.config.name
    pinned, trained = pins(workspace, sweep), is_held(workspace.sweep(sweep)) and not held
    found = []
    for trial in view.trials:
        folder = workspace.trial(sweep, trial.name)
        broken = [] if trained else list(leftovers(folder, trial.name))
        gone = {(each.kind, each.name) for each in broken}
        found += broken
        found += [
            each
            for each in superseded(folder, trial.name, retention, pinned)
            if (each.kind, each.name) not in gone
        ]
    return found


def table(found: list[Surplus]) -> Table:
    """A row for each trial, kind and reason: the steps that go, and their size."""
    rows: dict[tuple[str, str, str], list[Surplus]] = {}
    for each in found:
        rows.setdefault((each.trial, each.kind, each.why), []).append(each)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("trial", "what", "steps", "why", "MB"):
        shown.add_column(header, justify="right" if header == "MB" else "left", overflow="fold")
    for (trial, kind, why), group in rows.items():
        steps = ", ".join(f"{each.step:,}" for each in group)
        shown.add_row(trial, kind, steps, why, f"{sum(each.bytes for each in group) / MB:,.1f}")
    return shown


def _remove(workspace: Workspace, sweep: str, found: list[Surplus], console: Console) -> None:
    done = [0]
    line = lambda: f"removed {done[0]} of {len(found)} folders"  # noqa: E731
    view = View(console, lambda: bar(done[0], len(found)), line)
    with view.showing():
        for each in found:
            remove(workspace, sweep, each)
            done[0] += 1
            view.tick()
