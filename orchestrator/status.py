"""`status`: what stands on storage, for a person or as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from orchestrator.board import Board
from orchestrator.lease import is_held
from orchestrator.songs import is_made
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace


def overview(workspace: Workspace) -> tuple[dict[str, Any], RenderableType]:
    """Everything in the workspace by kind."""
    body: dict[str, Any] = {kind: workspace.names(kind) for kind in ("datasets", "sweeps", "songs", "albums")}
    lines = [f"{kind:9}{', '.join(names) or 'none yet'}" for kind, names in body.items()]
    for batch in body["songs"]:
        songs = workspace.batch(batch).at("songs").names()
        lines.append(f"  {batch}: {sum(is_made(workspace, batch, song) for song in songs)} songs made")
    return body, Text("\n".join(lines))


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
                "checkpoints_with_clips": [clip.step for clip in trial.clips],
            }
            for trial in view.trials
        ],
    }
    told = (
        "a driver is at work"
        if running
        else "no driver is at work on it; the sweep command goes on where it was"
    )
    if all(trial.state in ("done", "stopped", "failed") for trial in view.trials):
        told = "finished"
    return body, Group(board.render(), Text(told))
