"""What a driver decided, on which report, committed before it is acted on.

Entries are records journal/<seq>.json with consecutive numbers, written by the one driver. A sweep's:

    begin    gpus, budget, retention, tracking   a run of the driver: the GPUs that a trial takes, and its settings
    suggest  trial, number, overrides  tpe's next point; without a trial where it is `impossible`, for that reason
    start    trial, attempt, step      a worker began (or went on with) a trial
    report   trial, attempt, step, bits, decision
    failure  trial, cause, reason      its worker failed (failures.py), and it is tried again
    end      trial, state (done | stopped | failed), reason
    rollback trial, step, attempt      a person lets it go on from that checkpoint, whatever it came to

and a batch of songs':

    worker   number, engine, pid, host, node   an actor is ready
    load     worker, trial, step, slots        it holds this model
    lost     number, reason, songs             it died or hung; its songs go back to the queue
    halved   places                            one ran out of memory: workers get so many places from now on
    song     song, worker, resumed             a song is committed; its worker took it up at sample `resumed`
    failed   song, reason                      it is given up

Each also says when: `run` counts the drivers that opened the journal, and `at` is seconds of that driver's monotonic
clock since it did. The order is that of `seq`: a clock that is set back, or in another time zone, changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from samplernn import commit
from samplernn.errors import Damaged
from samplernn.storage import Storage

Entry = dict[str, Any]
RUNNING = ("start", "report", "failure")
"""Kinds of entries after which a trial is under way."""


class Journal:
    """The journal of one sweep or batch, open for appending; `entries` holds everything in its order.

    Without a folder it is kept in memory alone: a simulation's, which also has a clock of its own.
    """

    def __init__(self, folder: Storage | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = None if folder is None else folder.at("journal")
        self.entries = [] if folder is None else read_journal(folder)
        self._next = self.entries[-1]["seq"] + 1 if self.entries else 1
        self._run = self.entries[-1].get("run", 1) + 1 if self.entries else 1
        self._clock, self._opened = clock, clock()

    def add(self, kind: str, trial: str | None = None, **what: Any) -> Entry:
        """Commit one entry; returns when it is on storage."""
        when = {"run": self._run, "at": round(self.now, 3)}
        entry = {
            "seq": self._next,
            **when,
            "kind": kind,
            **({} if trial is None else {"trial": trial}),
            **what,
        }
        if self._folder is not None:
            commit.write_record(self._folder, f"{self._next:08d}.json", entry)
        self._next += 1
        self.entries.append(entry)
        return entry

    @property
    def now(self) -> float:
        """Seconds since it was opened, as entries have them in `at`."""
        return self._clock() - self._opened

    def ended(self) -> dict[str, Entry]:
        """The end entry of every trial that has one and was not rolled back since."""
        ended: dict[str, Entry] = {}
        for entry in self.entries:
            if entry["kind"] == "end":
                ended[entry["trial"]] = entry
            elif entry["kind"] == "rollback":
                ended.pop(entry["trial"], None)
        return ended


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


def last_begin(sweep: Storage) -> Entry:
    """The entry of the sweep's last run, which has its settings; empty where it was never run."""
    return next((entry for entry in reversed(read_journal(sweep)) if entry["kind"] == "begin"), {})
