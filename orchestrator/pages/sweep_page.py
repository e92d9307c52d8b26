"""The page of one sweep, to listen through what training did: `audition` opens it."""

from __future__ import annotations

from pathlib import Path

from orchestrator.pages.folder import MadeFolder
from orchestrator.pages.render import INDEX, write_page
from orchestrator.pages.sweep_section import sweep_section
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput
from samplernn.storage import Storage


def write_sweep_page(workspace: Workspace, sweep: str, folder: Path | None = None) -> Path:
    """Write the page of a sweep and return its index.html; what has not changed is kept.

    The page goes into the sweep's own folder `page`, or into `folder`, which a workspace on an object store needs.
    Raises BadInput when there is no such sweep, or no folder to write to.
    """
    view = SweepView.open(workspace, sweep)
    target = Storage.open(folder) if folder else workspace.sweep(sweep).at("page")
    if target.local is None:
        raise BadInput(f"{workspace.storage} is not on this machine's disk; name a local folder for the page")
    made = MadeFolder(target)
    write_page(made, "sweep.html", section=sweep_section(made, view))
    made.finish()
    return target.local / INDEX
