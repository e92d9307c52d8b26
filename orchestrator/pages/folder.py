"""A folder of made files: what is there already and was made from the same ingredients is kept.

`made.json` names for every file the key it was made from and its SHA-256, so that running again rewrites only what
changed, and a file that was torn by a kill or altered is made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samplernn import commit
from samplernn.errors import Damaged
from samplernn.storage import Storage

MADE = "made.json"


class MadeFolder:
    """One folder being brought up to date; `put` every file that belongs to it, then `finish`."""

    def __init__(self, folder: Storage) -> None:
        self.folder = folder
        self._before: dict[str, Any] = _read(folder)
        self._now: dict[str, dict[str, str]] = {}
        self.written = 0
        """Files that had to be written."""

    def put(self, path: str, key: str, make: Callable[[], bytes]) -> None:
        """Have the file at `path` (relative, with slashes) hold what `make` returns for the ingredients `key`."""
        *below, name = path.split("/")
        folder = self.folder.at(*below)
        before = self._before.get(path)
        if before and before["key"] == key and _sha256(folder, name) == before["sha256"]:
            self._now[path] = before
            return
        data = make()
        folder.write(name, data)
        self.written += 1
        self._now[path] = {"key": key, "sha256": commit.sha256(data)}

    def sha256(self, path: str) -> str:
        """SHA-256 of a file that was put."""
        return self._now[path]["sha256"]

    def put_bytes(self, path: str, data: bytes) -> None:
        """Have the file at `path` hold `data`."""
        self.put(path, commit.sha256(data), lambda: data)

    def put_unless_edited(self, path: str, data: bytes) -> None:
        """As put_bytes, but a file that a person wrote or changed is theirs and stays."""
        *below, name = path.split("/")
        there, before = _sha256(self.folder.at(*below), name), self._before.pop(path, None)
        if there is None or (before and there == before["sha256"]):
            if before:
                self._before[path] = before
            self.put_bytes(path, data)

    def finish(self) -> None:
        """Delete what an earlier run made and this one did not, and note what is here."""
        for path in self._before.keys() - self._now.keys():
            *below, name = path.split("/")
            self.folder.at(*below).delete(name)
        if self._now != self._before:
            commit.write_record(self.folder, MADE, {"files": self._now})


def _read(folder: Storage) -> dict[str, Any]:
    try:
        return dict(commit.read_record(folder, MADE)["files"])
    except (FileNotFoundError, Damaged):
        return {}  # then everything is made anew


def _sha256(folder: Storage, name: str) -> str | None:
    try:
        return commit.sha256(folder.read(name))
    except FileNotFoundError:
        return None
