"""What was shipped, kept on this machine beside W&B's own files, so that a killed shipper sends nothing twice.

    <folder>/offline-run-.../         finished offline runs, complete when they appear
    <folder>/staging-<pid>/           runs being written; thrown away after a kill
    <folder>/shipped/<where>/<project>/<trial>.json   how far a trial is shipped; where: offline, or the server's URL
    <folder>/status.json  shipper.log  lock

An offline run is written in staging; then the ledger names it, and then it is moved to its place. A kill before
the ledger's write leaves nothing, a kill after it leaves a move that the next shipper completes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from orchestrator.tracking.history import Shipped
from samplernn import commit
from samplernn.errors import Damaged
from samplernn.storage import Storage

STATUS = "status.json"


def take_lock(folder: Path) -> IO[bytes] | None:
    """The right to ship from this folder, held while the file is open; None when another shipper has it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


class Ledger:
    """The ledger of one group of runs, one server (or offline) and one project; hold the lock.

    Opening it completes or discards what a killed shipper left.
    """

    def __init__(self, folder: Path, where: str, project: str) -> None:
        self._folder = folder
        self._records = folder / "shipped" / quote(where, safe="") / quote(project, safe="")
        self.staging = folder / f"staging-{os.getpid()}"
        # The killed one may have shipped to another project.
        for path in (folder / "shipped").rglob("*.json"):
            self._move(self._read(path).get("move"))
        for left in folder.glob("staging-*"):
            shutil.rmtree(left, ignore_errors=True)

    def read(self, trial: str) -> Shipped:
        """How far a trial is shipped."""
        body = self._read(self._records / f"{trial}.json")
        if not body:
            return Shipped()
        return Shipped(int(body["step"]), tuple(body["clips"]), str(body["state"]))

    def count(self) -> int:
        """Runs of which something is shipped."""
        return len(list(self._records.glob("*.json")))

    def write(self, trial: str, shipped: Shipped, run: Path, keep: bool) -> None:
        """Record that a trial is shipped so far, then put its finished run folder into place, or drop it."""
        move = None
        if keep:
            for file in run.glob("*.wandb"):
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
            move = [str(run.relative_to(self._folder)), self._free_name(run.name)]
        self._replace(self._records / f"{trial}.json", {**asdict(shipped), "move": move})
        self._move(move)
        shutil.rmtree(run, ignore_errors=True)

    def close(self) -> None:
        """Leave nothing half-written behind."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def write_status(self, **status: Any) -> None:
        """Tell the driver how far everything is."""
        self._replace(self._folder / STATUS, status)

    def _free_name(self, name: str) -> str:
        """Two runs of one trial within a second would have the same name."""
        number, free = 1, name
        while (self._folder / free).exists():
            number, free = number + 1, f"{name}-{number + 1}"
        return free

    def _move(self, move: list[str] | None) -> None:
        if move is not None:
            with suppress(FileNotFoundError):
                (self._folder / move[0]).rename(self._folder / move[1])

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return commit.read_record(Storage.open(path.parent), path.name)
        except (FileNotFoundError, Damaged):
            return {}

    def _replace(self, path: Path, body: dict[str, Any]) -> None:
        fresh = path.with_suffix(".new")
        commit.write_record(Storage.open(fresh.parent), fresh.name, body)
        fresh.replace(path)


def read_status(folder: Path) -> dict[str, Any]:
    """What the shipper last said about itself; empty before it has."""
    try:
        return commit.read_record(Storage.open(folder), STATUS)
    except (FileNotFoundError, Damaged):
        return {}
