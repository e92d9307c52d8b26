"""The room's state: the sweep, its songs and everyone's marks, as one answer to a browser's question what is new."""

from __future__ import annotations

import threading
import time
from typing import Any

from orchestrator.audition import commands
from orchestrator.audition.badges import BADGES, BROKEN, gain_db
from orchestrator.audition.index import Sound, SweepIndex
from orchestrator.audition.preview import previews
from orchestrator.audition.songs import SongIndex, refresh_quietly
from orchestrator.picks import Kind, Mark, Marks, add_mark
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput, StorageError
from samplernn.preview import Preview

FRESH_S = 1.5
"""A question within so many seconds of the last look at storage is answered from memory."""
DECODERS = 2
"""Questions for previews that are answered at once: listening must not wait for the CPU."""


class Room:
    """Everything behind the page. Safe to ask from several threads at once."""

    def __init__(self, workspace: Workspace, sweep: str) -> None:
        """Raises BadInput when there is no such sweep."""
        self.workspace, self.sweep = workspace, sweep
        self.index = SweepIndex(workspace, sweep)
        self.songs = SongIndex(workspace, sweep)
        self._marks: dict[tuple[Kind, str], Marks] = {}
        self._mark_versions: dict[str, int] = {}
        self._mark_version, self._trouble = 0, ""
        self._looking, self._deciding = threading.Lock(), threading.Semaphore(DECODERS)
        self._looked = 0.0
        self._cache = workspace.cache("audition")

    def look(self) -> None:
        """Bring everything up to date, unless that was done just now or another thread is at it."""
        if time.monotonic() - self._looked < FRESH_S or not self._looking.acquire(blocking=False):
            return
        try:
            self.index.refresh()
            self._trouble = refresh_quietly(self.songs) or self._read_marks()
        finally:
            self._looked = time.monotonic()
            self._looking.release()

    def facts(self) -> dict[str, Any]:
        """What does not change while the room is open."""
        config = self.index.config
        return {
            "sweep": self.sweep,
            "dataset": config.dataset,
            "varied": [key.rsplit(".", 1)[-1] for key in config.space],
            "clipSeconds": config.base.train.clip_seconds,
            "badges": [{"name": badge.name, "about": badge.about} for badge in BADGES],
            "broken": BROKEN,
        }

    def news(self, since: tuple[int, int, int], listener: str) -> dict[str, Any]:
        """What changed after the versions of trials, songs and marks that the page has."""
        versions = (self.index.version, self.songs.version, self._mark_version)
        ids = [found for found, version in list(self._mark_versions.items()) if version > since[2]]
        return {
            "versions": versions,
            "ready": self.index.ready,
            "trouble": self.index.trouble or self._trouble,
            "trials": list(self.index.changes(since[0])),
            "songs": [song for song in list(self.songs.shown.values()) if song["version"] > since[1]],
            "marks": {found: self._said(found, listener) for found in ids},
        }

    def sound(self, found: str) -> Sound | None:
        """The sound of an opaque id, a clip's or a song's."""
        return self.songs.sounds.get(found) or self.index.sound(found)

    def about(self, found: str, sound: Sound) -> dict[str, Any]:
        """What the player needs of a sound: waveform, measures, and how loud to play it."""
        with self._deciding:
            made = previews(self._cache, [sound])[0]
        if isinstance(made, str):
            self.index.break_clip(found)
            return {"error": made}
        return {
            "seconds": made.seconds,
            "peaks": made.peaks.tolist(),
            "measures": sound.measures,
            "gain": gain_db(sound.measures),
            "audio": f"/audio/{found}?{sound.sha256[:8]}",
            "picture": f"/picture/{found}?{sound.sha256[:8]}",
        }

    def sheet_parts(self, cell: str) -> list[Preview | str]:
        """The previews of a cell's clips, in their order; empty for a cell that is not there."""
        found = self.index.cells.get(cell)
        if found is None:
            return []
        with self._deciding:
            parts = previews(self._cache, found.sounds)
        for sound, made in zip(found.sounds, parts, strict=True):
            if isinstance(made, str):
                self.index.break_clip(f"{cell}.{sound.item[-1]}")
        return parts

    def mark(self, listener: str, found: str, mark: Mark) -> None:
        """Commit a mark. Raises BadInput for an id that is not there, StorageError when it can't be written."""
        if (song := self.songs.shown.get(found)) is not None:
            add_mark(self.workspace, listener, "songs", song["batch"], (song["song"],), mark)
        elif (sound := self.index.sound(found)) is not None:
            add_mark(self.workspace, listener, "sweeps", self.sweep, sound.item, mark)
        else:
            raise BadInput(f"{found!r} is not in this room any more; reload the page")
        with self._looking:
            self._trouble = self._read_marks()

    def picked(self) -> list[tuple[str, int]]:
        """The checkpoints that anyone picked."""
        marks = self._marks.get(("sweeps", self.sweep))
        return sorted(marks.picked()) if marks else []

    def generate_line(self) -> str:
        """The command that makes songs of the picked checkpoints; empty when there are none."""
        picks = self.picked()
        return commands.generate_from(self.workspace, self.sweep, set(picks)) if picks else ""

    def _read_marks(self) -> str:
        """Read new marks; returns what is wrong, empty when nothing is."""
        wanted: list[tuple[Kind, str]] = [("sweeps", self.sweep)]
        wanted += [("songs", batch) for batch in sorted(self.songs.batches)]
        try:
            for kind, name in wanted:
                marks = self._marks.setdefault((kind, name), Marks(self.workspace, kind, name))
                for item in marks.refresh():
                    if (found := self._id(kind, name, item)) is not None:
                        self._mark_versions[found] = self._mark_version + 1
                        self._mark_version += 1
        except StorageError as error:
            return str(error)
        return ""

    def _id(self, kind: Kind, name: str, item: tuple[str | int, ...]) -> str | None:
        return self.index.clip_id(item) if kind == "sweeps" else self.songs.song_id(name, str(item[0]))

    def _said(self, found: str, listener: str) -> dict[str, Any]:
        """The marks of one clip or song: one's own, and what others think of it."""
        marks = self._of(found)
        others = {
            name: {key: value for key, value in said.items() if key in ("rating", "verdict", "note")}
            for name, said in marks.items()
            if name != listener
        }
        return {**marks.get(listener, {}), "others": {name: said for name, said in others.items() if said}}

    def _of(self, found: str) -> dict[str, dict[str, Any]]:
        """What everyone says of a clip, a checkpoint or a song, by listener."""
        item: tuple[str | int, ...] = ()
        if (song := self.songs.shown.get(found)) is not None:
            marks, item = self._marks.get(("songs", song["batch"])), (song["song"],)
        else:
            marks = self._marks.get(("sweeps", self.sweep))
            if (sound := self.index.sound(found)) is not None:
                item = sound.item
            elif (cell := self.index.cells.get(found)) is not None and cell.sounds:
                item = cell.sounds[0].item[:2]
        return marks.by_item.get(item, {}) if marks else {}
