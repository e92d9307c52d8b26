"""`status`: what stands on storage, for a person or as JSON."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.audition.commands import orchestrator
from orchestrator.board import Board
from orchestrator.lease import is_held
from orchestrator.live import View
from orchestrator.songs import is_made
from orchestrator.trials import ENDED, SweepView
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput, Damaged

EVERY_S = 2.0
"""Seconds between two looks at a sweep that is watched."""


def overview(workspace: Workspace) -> tuple[dict[str, Any], RenderableType]:
    """Everything in the workspace by kind."""
    body: dict[str, Any] = {kind: workspace.names(kind) for kind in ("datasets", "sweeps", "songs", "albums")}
    body["songs_made"] = {
        batch: sum(is_made(workspace, batch, song) for song in workspace.batch(batch).at("songs").names())
        for batch in body["songs"]
    }
    body["trials"] = {sweep: _states(workspace, sweep) for sweep in body["sweeps"]}
    table = Table(box=None, pad_edge=False, show_header=False)
    for column in range(3):
        table.add_column(no_wrap=column == 0, overflow="fold")
    for kind in ("datasets", "sweeps", "songs", "albums"):
        for at, name in enumerate(body[kind] or ["none yet"]):
            told = ""
            if kind == "sweeps" and name in body["trials"]:
                states = body["trials"][name]
                told = (
                    ", ".join(f"{count} {state}" for state, count in states.items())
                    or "damaged, or not begun"
                )
                told += "; running now" if is_held(workspace.sweep(name)) else ""
            if kind == "songs" and name in body["songs_made"]:
                told = f"{body['songs_made'][name]} made"
            table.add_row("" if at else kind, name, told)
    return body, table


def _states(workspace: Workspace, sweep: str) -> dict[str, int]:
    """Trials by state; empty where the sweep can't be read."""
    try:
        return dict(Counter(trial.state for trial in SweepView.open(workspace, sweep).trials))
    except (BadInput, Damaged):
        return {}


def watch(workspace: Workspace, name: str, console: Console) -> None:
    """One sweep, live, until it has ended or no driver is at work on it; only reads, from any machine."""
    view = SweepView.open(workspace, name)
    shown = View(console, lambda: Board.of(view).render(console.size.height), lambda: Board.of(view).line())
    with shown.showing():
        while is_held(workspace.sweep(name)):
            time.sleep(EVERY_S)
            view = SweepView.open(workspace, name, view)
            shown.tick()
        view = SweepView.open(workspace, name, view)


def sweep_status(workspace: Workspace, name: str) -> tuple[dict[str, Any], RenderableType]:
    """One sweep: a row a trial."""
    view = SweepView.open(workspace, name)
    running = is_held(workspace.sweep(name))
    board = Board.of(view)
    body = {
        "sweep": name,
        "running": running,
        "trials": [
            {
                "name": trial.name,
                "state": trial.state,
                "reason": trial.reason,
                "step": trial.rows[-1]["step"] if trial.rows else 0,
                "max_steps": trial.experiment.train.max_steps,
                "valid_bits": trial.best[1] if trial.best else None,
                "best_step": trial.best[0] if trial.best else None,
                "samples_per_s": next(
                    (r["samples_per_s"] for r in reversed(trial.rows) if "samples_per_s" in r), None
                ),
                "eta_s": trial.seconds_left,
                "gpu": trial.place[0] or None,
                "node": trial.place[1] or None,
                "checkpoints_with_clips": [clip.step for clip in trial.clips],
                "last_clip": str(trial.clips[-1].folder) if trial.clips else None,
            }
            for trial in view.trials
        ],
    }
    told = (
        "a driver is at work"
        if running
        else "no driver is at work on it; the sweep command goes on where it was"
    )
    if not running and all(trial.state in ENDED for trial in view.trials):
        told = f"finished; next: {orchestrator(workspace, 'audition', name)}"
    return body, Group(board.render(), Text(told))
