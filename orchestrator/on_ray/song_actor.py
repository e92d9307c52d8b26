"""An actor that holds one model and makes songs with it."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from orchestrator.on_ray.placement import assigned_device, whereabouts
from orchestrator.songs import AUDIO, SIDECAR, Checkpoint, PlannedSong
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.audio import encode_flac
from samplernn.checkpoint import load_model
from samplernn.folding import fold
from samplernn.generate.engine import Engine, Song
from samplernn.measures import measure

REPORT_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """What an actor says while it works."""

    samples: int
    """Samples made since it last spoke."""
    finished: str | None = None
    """A song that is now committed."""


class SongActor:
    """Loads a checkpoint once; makes songs side by side and commits each when it is whole."""

    def __init__(self, workspace: Workspace, batch: str, checkpoint: Checkpoint) -> None:
        device = assigned_device()
        torch.set_num_threads(1)
        self._made_on = whereabouts(device)
        model, self._about = load_model(checkpoint.folder)
        self._engine = Engine(fold(model.to(device)))
        self._workspace, self._batch, self._checkpoint = workspace, batch, checkpoint

    def ready(self) -> tuple[str, int, int]:
        """(engine id, process id, sample rate), once the model is loaded."""
        return self._engine.engine_id, os.getpid(), self._about.sample_rate

    def make(self, songs: list[PlannedSong]) -> Iterator[Progress]:
        """Make songs; yields progress about once a second and at every song's end."""
        rate = self._about.sample_rate
        wanted = [
            Song(
                s.recipe["seed"],
                s.recipe["index"],
                max(1, round(s.recipe["seconds"] * rate)),
                s.recipe["temperature"],
            )
            for s in songs
        ]
        parts: dict[int, list[np.ndarray[Any, np.dtype[np.int16]]]] = {i: [] for i in range(len(songs))}
        made, spoke = 0, time.monotonic()
        for block in self._engine.generate(wanted):
            parts[block.song].append(block.pcm)
            made += len(block.pcm)
            if block.last:
                self._commit(songs[block.song], np.concatenate(parts.pop(block.song)))
                yield Progress(made, songs[block.song].id)
            elif time.monotonic() - spoke > REPORT_EVERY_S:
                yield Progress(made)
            else:
                continue
            made, spoke = 0, time.monotonic()

    def _commit(self, song: PlannedSong, pcm: np.ndarray[Any, np.dtype[np.int16]]) -> None:
        recipe = {**song.recipe, "engine": self._engine.engine_id}
        body = {
            "id": song.id,
            "recipe": recipe,
            "sample_rate": self._about.sample_rate,
            "samples": len(pcm),
            "measures": measure(pcm.astype(np.float32) / np.float32(32768)),
            "trained": {"seconds": self._checkpoint.seconds, "bits": self._checkpoint.bits},
            "made_on": self._made_on,
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        }
        tags = {
            "title": f"Song {song.id}",
            "software": "samplernn-orchestrator",
            "comment": json.dumps(recipe),
        }
        audio = encode_flac(pcm, self._about.sample_rate, tags)
        folder = self._workspace.song(self._batch, song.id)
        commit.write_commit(folder, {AUDIO: audio, SIDECAR: commit.to_json(body)})
