"""Marks: what listeners heard, rated, picked and noted. Written once each, merged on read.

picks/<listener>/sweeps/<sweep>/<seq>.json and picks/<listener>/songs/<batch>/<seq>.json are records
{item, set, at}: `item` is [trial, step, clip] or [trial, step] (a whole checkpoint) of a sweep, or [song] of a batch;
`set` are the fields that the listener set or, with null, took back. The highest number wins, never a clock. A listener
writes to no folder but his own, so people who listen at once can't lose each other's marks; the checkpoints that any of
them picked are pinned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from orchestrator.workspace import NAME, Workspace, check_name
from samplernn import commit
from samplernn.config import Frozen
from samplernn.errors import Damaged
from samplernn.storage import Storage

Kind = Literal["sweeps", "songs"]
Item = tuple[str | int, ...]
PICK, REJECT = "pick", "reject"
_SEQ = re.compile(r"(\d{8})\.json\Z")


class Region(Frozen):
    """A part of a song."""

    start: Annotated[float, Field(ge=0, le=86_400)]
    """Seconds."""
    stop: Annotated[float, Field(gt=0, le=86_400)]
    """Seconds, after the start."""
    title: Annotated[str, Field(max_length=200)] = ""
    """What the listener calls it."""

    @model_validator(mode="after")
    def _check(self) -> Region:
        if self.stop <= self.start:
            raise ValueError(f"stop {self.stop} is not after start {self.start}; swap them")
        return self


class Mark(Frozen):
    """What a listener can say of one clip, checkpoint or song; only the fields that are given are set."""

    heard: Literal[True] | None = None
    """It was listened to."""
    rating: Annotated[int, Field(ge=1, le=5)] | None = None
    """1 to 5; null takes it back."""
    verdict: Literal["pick", "reject"] | None = None
    """pick pins the checkpoint; null takes it back."""
    note: Annotated[str, Field(max_length=2000)] | None = None
    """A few words."""
    regions: Annotated[list[Region], Field(max_length=200)] | None = None
    """The parts of a song that are worth keeping."""


def add_mark(workspace: Workspace, listener: str, kind: Kind, name: str, item: Item, mark: Mark) -> int:
    """Commit one mark; returns its number. Raises BadInput for a bad name, StorageError when it can't be written."""
    folder = _folder(workspace, check_name(listener), kind, name)
    body = commit.record_bytes(
        {
            "item": list(item),
            "set": mark.model_dump(mode="json", exclude_unset=True),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    seq = max((int(m[1]) for at in folder.names() if (m := _SEQ.match(at))), default=0) + 1
    while not folder.create(f"{seq:08d}.json", body):
        seq += 1
    return seq


@dataclass
class Marks:
    """All listeners' marks of one sweep or batch of songs; `refresh` reads only what is new."""

    workspace: Workspace
    kind: Kind
    name: str
    by_item: dict[Item, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Of every item, for every listener, the fields that are set."""
    _numbers: dict[tuple[Item, str, str], int] = field(default_factory=dict)
    _seen: dict[str, set[str]] = field(default_factory=dict)

    def refresh(self) -> set[Item]:
        """Read the marks that were written since; returns the items that changed."""
        changed = set()
        for listener in _listeners(self.workspace):
            folder = _folder(self.workspace, listener, self.kind, self.name)
            seen = self._seen.setdefault(listener, set())
            for name in folder.names():
                if name in seen or not (match := _SEQ.match(name)):
                    continue
                try:
                    body = commit.read_record(folder, name)
                except (FileNotFoundError, Damaged):
                    continue  # being written, or torn by a full disk: its writer was told
                seen.add(name)
                changed.add(self._apply(listener, int(match[1]), body))
        return changed

    def _apply(self, listener: str, seq: int, body: dict[str, Any]) -> Item:
        item = tuple(body["item"])
        said = self.by_item.setdefault(item, {}).setdefault(listener, {})
        for key, value in body["set"].items():
            at = (item, listener, key)
            if seq < self._numbers.get(at, 0):
                continue  # a second program of the same listener wrote a later one, which was read first
            self._numbers[at] = seq
            if value is None:
                said.pop(key, None)
            else:
                said[key] = value
        return item

    def picked(self, listener: str | None = None) -> set[tuple[str, int]]:
        """(trial, step) of every checkpoint of which a listener (None: any) picked a clip, or the whole."""
        return {
            (str(item[0]), int(item[1]))
            for item, listeners in self.by_item.items()
            if len(item) > 1
            and any(
                said.get("verdict") == PICK for name, said in listeners.items() if listener in (None, name)
            )
        }


def picked(workspace: Workspace, sweep: str) -> set[tuple[str, int]]:
    """(trial, step) of the checkpoints of a sweep that any listener picked: these are pinned."""
    marks = Marks(workspace, "sweeps", sweep)
    marks.refresh()
    return marks.picked()


def _folder(workspace: Workspace, listener: str, kind: Kind, name: str) -> Storage:
    return workspace.picks(listener).at(kind, check_name(name))


def _listeners(workspace: Workspace) -> list[str]:
    return [name for name in workspace.names("picks") if NAME.match(name)]
