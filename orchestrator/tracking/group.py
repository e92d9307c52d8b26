"""A group of W&B runs: a sweep with all that is made of it, or a dataset by itself, which is there before any sweep."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from orchestrator.workspace import BORN, Workspace
from samplernn import commit
from samplernn.errors import Damaged
from samplernn.storage import Storage


@dataclass(frozen=True)
class Group:
    """What is shipped together: one shipper at a time, one ledger."""

    kind: Literal["sweep", "dataset"]
    name: str

    def home(self, workspace: Workspace) -> Storage:
        """Its folder in the workspace."""
        return workspace.sweep(self.name) if self.kind == "sweep" else workspace.dataset(self.name)

    def folder(self, workspace: Workspace) -> Path:
        """Where W&B's files, ledger and log live: in its own folder, or in the user's cache when that is remote."""
        local = self.home(workspace).at("wandb").local
        if local is not None:
            return local
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        root = quote(str(workspace.storage), safe="")
        return cache / "samplernn-orchestrator" / root / self.kind / self.name / "wandb"

    def token(self, workspace: Workspace, project: str) -> str:
        """Its own random token, made when it is shipped for the first time; the project is kept with it."""
        home = self.home(workspace)
        home.create(BORN, commit.record_bytes({"token": secrets.token_hex(4), "project": project}))
        return str(commit.read_record(home, BORN)["token"])

    def first_project(self, workspace: Workspace) -> str | None:
        """The project that it was first shipped to."""
        try:
            return commit.read_record(self.home(workspace), BORN).get("project")
        except (FileNotFoundError, Damaged):
            return None
