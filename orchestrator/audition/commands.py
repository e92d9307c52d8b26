"""The commands that go on from here, exactly as they are to be typed: the page starts no jobs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from orchestrator.workspace import Workspace


def orchestrator(workspace: Workspace, *words: str) -> str:
    """A command line that finds this workspace from anywhere."""
    default = os.environ.get("ORCHESTRATOR_WORKSPACE") or "workspace"
    there = [] if Workspace.open(default) == workspace else ["--workspace", str(workspace.storage)]
    return shlex.join(["orchestrator", *words, *there])


def generate_from(workspace: Workspace, sweep: str, picks: Iterable[tuple[str, int]]) -> list[str]:
    """One line for each picked checkpoint; batches are named for the trial's number and the step."""
    lines = []
    for trial, step in sorted(picks):
        batch = f"{sweep[:40]}-{trial.partition('-')[0]}-{step}"
        words = (
            "generate",
            sweep,
            f"trial={trial}",
            f"step={step}",
            f"name={batch}",
            "songs=20",
            "seconds=120",
        )
        lines.append(orchestrator(workspace, *words))
    return lines


def album_from(workspace: Workspace, file: str) -> str:
    """The line that makes an album of its YAML."""
    return orchestrator(workspace, "album", from_here(file))


def from_here(file: str) -> str:
    """A path as it is typed in the folder that the server was started in."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
