"""The commands that go on from here, exactly as they are to be typed: the page starts no jobs."""

from __future__ import annotations

import os
import shlex
from itertools import count
from pathlib import Path

from orchestrator.workspace import CONFIG, SOURCES, Workspace
from samplernn import commit
from samplernn.errors import Damaged


def orchestrator(workspace: Workspace, *words: str) -> str:
    """A command line that finds this workspace from anywhere."""
    default = os.environ.get("ORCHESTRATOR_WORKSPACE") or "workspace"
    there = [] if Workspace.open(default) == workspace else ["--workspace", workspace.storage.address]
    return shlex.join(["orchestrator", *words, *there])


def generate_from(workspace: Workspace, sweep: str, picks: set[tuple[str, int]]) -> str:
    """The line that makes songs of all picked checkpoints.

    A batch keeps the picks that it was begun with. Where those were others, the line names a new batch.
    """
    words = ["generate", sweep, "picks=true", "songs=20", "seconds=120"]
    first = batch = f"{sweep[:58]}-picks"
    for number in count(2):
        begun = _begun(workspace, batch)
        if begun in (None, picks):
            break
        batch = f"{first[:60]}-{number}"
    return orchestrator(workspace, *words, *([] if batch == first else [f"name={batch}"]))


def _begun(workspace: Workspace, batch: str) -> set[tuple[str, int]] | None:
    """The checkpoints that a batch was begun with; None when there is no such batch."""
    try:
        sources = commit.read_record(workspace.batch(batch), SOURCES)["sources"]
    except (FileNotFoundError, Damaged):
        return set() if workspace.batch(batch).exists(CONFIG) else None
    return {(one["trial"], one["step"]) for one in sources}


def album_from(workspace: Workspace, file: str) -> str:
    """The line that makes an album of its YAML."""
    return orchestrator(workspace, "album", from_here(file))


def from_here(file: str) -> str:
    """A path as it is typed in the folder that the server was started in."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
