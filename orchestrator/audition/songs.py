"""The songs that were made from a sweep, as they arrive: every batch whose checkpoints are the sweep's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from orchestrator.album.titles import Titles
from orchestrator.album.tracklist import ABOUT, SONG
from orchestrator.audition.badges import flags
from orchestrator.audition.index import Sound, opaque
from orchestrator.workspace import CONFIG, NAME, Workspace
from samplernn import commit
from samplernn.errors import Damaged, StorageError


@dataclass
class SongIndex:
    """All batches of songs from one sweep; songs are committed once, so only new names are read."""

    workspace: Workspace
    sweep: str
    sounds: dict[str, Sound] = field(default_factory=dict)
    """By opaque id."""
    batches: set[str] = field(default_factory=set)
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the page gets, by opaque id, in the order of batches and songs."""
    version: int = 0
    _titles: dict[str, set[str]] = field(default_factory=dict)
    _others: set[str] = field(default_factory=set)

    def refresh(self) -> None:
        """Look for new batches and songs. Raises StorageError when they can't be listed."""
        for batch in self.workspace.names("songs"):
            if batch in self._others or not NAME.match(batch):
                continue
            if batch not in self.batches and not self._is_ours(batch):
                continue
            for name in self.workspace.batch(batch).at("songs").names():
                if NAME.match(name) and opaque("song", batch, name) not in self.sounds:
                    self._read(batch, name)

    def song_id(self, batch: str, song: str) -> str | None:
        """The id of a song, when it is there."""
        found = opaque("song", batch, song)
        return found if found in self.sounds else None

    def _is_ours(self, batch: str) -> bool:
        try:
            config = commit.read_record(self.workspace.batch(batch), CONFIG)
        except (FileNotFoundError, Damaged):
            return False  # it is only just begun
        sweeps = {section["sweep"] for section in config.get("sections") or [config]}
        known = self.batches if self.sweep in sweeps else self._others
        known.add(batch)
        return batch in self.batches

    def _read(self, batch: str, name: str) -> None:
        folder = self.workspace.song(batch, name)
        try:
            files = commit.read_manifest(folder)["files"]
            about = json.loads(commit.read_file(folder, ABOUT))
        except (FileNotFoundError, Damaged):
            return  # not finished
        found, recipe = opaque("song", batch, name), about["recipe"]
        if SONG not in files or recipe["sweep"] != self.sweep:
            return  # a batch may have songs of several sweeps
        taken = self._titles.setdefault(batch, set())
        title = about.get("title") or Titles().make(recipe, taken)
        taken.add(title)
        entry = files[SONG]
        self.sounds[found] = Sound(
            folder, SONG, entry["sha256"], entry["bytes"], commit.to_json(about["measures"]), ("song", name)
        )
        self.version += 1
        self.shown[found] = {
            "id": found,
            "batch": batch,
            "song": name,
            "title": title,
            "seconds": about["samples"] / about["sample_rate"],
            "trial": recipe["trial"],
            "step": recipe["step"],
            "temperature": recipe["temperature"],
            "flags": flags(about["measures"], {trap["kind"] for trap in about.get("traps", [])}),
            "version": self.version,
        }


def refresh_quietly(songs: SongIndex) -> str:
    """Refresh; returns what is wrong, empty when nothing is."""
    try:
        songs.refresh()
    except StorageError as error:
        return str(error)
    return ""
