"""What a driver decided, on which report, committed before it is acted on.

Entries are records journal/<seq>.json with consecutive numbers, written by the one driver. A sweep's:

    start    trial, attempt, step      a worker began (or went on with) a trial
    report   trial, attempt, step, bits, decision
    end      trial, state (done | stopped | failed), reason

and a batch of songs':

    worker   number, engine, pid, host, node   an actor is ready
    load     worker, trial, step, slots        it holds this model
    lost     number, reason, songs             it died or hung; its songs go back to the queue
    halved   places                            one ran out of memory: workers get so many places from now on
    song     song, worker, resumed             a song is committed; its worker took it up at sample `resumed`
    failed   song, reason                      it is given up
"""

from __future__ import annotations

from typing import Any

from samplernn import commit
from samplernn.errors import Damaged
from samplernn.storage import Storage

Entry = dict[str, Any]


class Journal:
    """The journal of one sweep or batch, open for appending; `entries` holds everything in its order."""

    def __init__(self, folder: Storage) -> None:
        self._folder = folder.at("journal")
        self.entries = read_journal(folder)
        self._next = self.entries[-1]["seq"] + 1 if self.entries else 1

    def add(self, kind: str, trial: str | None = None, **what: Any) -> Entry:
        """Commit one entry; returns when it is on storage."""
        entry = {"seq": self._next, "kind": kind, **({} if trial is None else {"trial": trial}), **what}
        commit.write_record(self._folder, f"{self._next:08d}.json", entry)
        self._next += 1
        self.entries.append(entry)
        return entry

    def ended(self) -> dict[str, Entry]:
        """The end entry of every trial that has one."""
        return {entry["trial"]: entry for entry in self.entries if entry["kind"] == "end"}


def read_journal(sweep: Storage) -> list[Entry]:
    """All entries in order. A torn last entry was never acted on and is left out.

    Raises Damaged when an entry in the middle is missing or altered: decisions after it can't be trusted.
    """
    folder = sweep.at("journal")
    names = [name for name in folder.names() if name.endswith(".json")]
    entries: list[Entry] = []
    for seq, name in enumerate(names, start=1):
        try:
            entry = commit.read_record(folder, name)
        except Damaged:
            if seq == len(names):
                break
            raise
        if entry["seq"] != seq:
            raise Damaged(
                f"{folder} lacks entry {seq}: restore it from a copy, or start the sweep under a new name"
            )
        entries.append(entry)
    return entries
