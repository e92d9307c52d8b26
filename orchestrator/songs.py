"""A batch of songs as it is planned and as it stands on storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.config import AS_FLAC, SongAudio
from orchestrator.sources import Checkpoint, Source
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.dc import CUTOFF_HZ

AUDIO, SIDECAR = "song.flac", "song.json"


@dataclass(frozen=True)
class PlannedSong:
    """One song to make. `recipe` is everything its samples depend on but the engine, which the maker adds."""

    id: str
    checkpoint: Checkpoint
    recipe: dict[str, Any]
    file: SongAudio = AS_FLAC


def plan_songs(sources: list[Source], file: SongAudio = AS_FLAC) -> list[PlannedSong]:
    """The songs of a batch, with deterministic ids and seeds, section by section; each becomes a `file`.

    An id is the song's number, after those of its section and of its temperature where there are several.
    """
    songs = []
    for source in sources:
        section, checkpoint = source.section, source.checkpoint
        wanted = section.generate.model_dump(mode="json", exclude={"songs", "first", "temperature"})
        for what, sha256 in source.kept.items():
            wanted[what]["sha256"] = sha256
        common = {
            "sweep": checkpoint.sweep,
            "trial": checkpoint.trial,
            "step": checkpoint.step,
            "model_sha256": commit.read_manifest(checkpoint.folder)["files"]["model.safetensors"]["sha256"],
            "high_pass_hz": CUTOFF_HZ,
            **wanted,
        }
        temperatures = section.temperatures or [section.generate.temperature]
        for at, temperature in enumerate(temperatures, start=1):
            prefix = f"s{source.number:02d}-" if len(sources) > 1 else ""
            prefix += f"t{at:02d}-" if len(temperatures) > 1 else ""
            songs += [
                PlannedSong(
                    f"{prefix}{index:04d}",
                    checkpoint,
                    {**common, "temperature": temperature, "index": index},
                    file,
                )
                for index in range(section.generate.first, section.generate.first + section.generate.songs)
            ]
    return songs


def is_made(workspace: Workspace, batch: str, song: str) -> bool:
    """Whether a song is committed."""
    return commit.is_committed(workspace.song(batch, song))
