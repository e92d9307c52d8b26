"""The songs of a batch, the best first: what is seen of them at once, without hearing any."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from orchestrator.album.tracklist import ABOUT, SONG
from orchestrator.pages.render import clock
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.copying import COPIED
from samplernn.errors import Damaged
from samplernn.storage import Storage

MOST_SILENCE, MOST_CLIPPED = 0.25, 0.01


@dataclass(frozen=True)
class SongRow:
    """A song as it is ranked and shown."""

    id: str
    about: dict[str, Any]
    """Its song.json."""
    folder: Storage
    sha256: str
    """Of its song.flac."""

    @property
    def measures(self) -> dict[str, Any]:
        """Its measures; empty where they are off."""
        return dict(self.about["measures"])

    @property
    def seconds(self) -> float:
        """Length."""
        return float(self.about["samples"] / self.about["sample_rate"])

    @property
    def fault(self) -> str:
        """What speaks against it at once; empty when nothing does."""
        measures, faults = self.measures, []
        if measures.get("silence", 0.0) > MOST_SILENCE:
            faults.append(f"silent for {measures['silence']:.0%}")
        if measures.get("clipped", 0.0) > MOST_CLIPPED:
            faults.append(f"clipped in {measures['clipped']:.1%}")
        if measures.get("novelty", 1.0) < 1 - COPIED:
            faults.append("copies the training music")
        faults += [f"{trap['kind']} at {clock(trap['seconds'])}" for trap in self.about.get("traps", [])]
        return ", ".join(faults)

    @property
    def score(self) -> float:
        """What it is ranked by: how much it varies, in dB, times how new it is."""
        return float(self.measures.get("variety_db", 0.0) * self.measures.get("novelty", 1.0))


def ranked_songs(workspace: Workspace, batch: str) -> list[SongRow]:
    """The committed songs of a batch: those without a fault first, and the higher score first."""
    rows = []
    for name in workspace.batch(batch).at("songs").names():
        folder = workspace.song(batch, name)
        try:
            files = commit.read_manifest(folder)["files"]
            rows.append(
                SongRow(name, json.loads(commit.read_file(folder, ABOUT)), folder, files[SONG]["sha256"])
            )
        except (FileNotFoundError, Damaged):
            continue  # not finished, or not to be trusted
    return sorted(rows, key=lambda row: (bool(row.fault), -row.score, row.id))
