"""An actor that holds one model and makes songs with it."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from orchestrator.config import GenerateRun
from orchestrator.on_ray.placement import assigned_device, whereabouts
from orchestrator.songs import AUDIO, SIDECAR, Checkpoint, Pcm, PlannedSong, kept_prompt
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.audio import encode_flac
from samplernn.checkpoint import load_model
from samplernn.config import TEMPERATURE_MAX
from samplernn.folding import fold
from samplernn.generate.backend import Codes
from samplernn.generate.backends import Serving, choose_backend
from samplernn.generate.engine import Engine
from samplernn.generate.song import Caught, Made, Song
from samplernn.measures import measure
from samplernn.quantize import encode
from samplernn.schedule import parse_schedule

REPORT_EVERY_S = 1.0


@dataclass(frozen=True)
class Ready:
    """An actor whose model is loaded."""

    engine: str
    """Engine id."""
    serving: Serving
    slots: int
    """Songs that it makes side by side."""
    pid: int


@dataclass(frozen=True)
class Progress:
    """What an actor says while it works."""

    samples: int
    """Samples made since it last spoke."""
    finished: str | None = None
    """A song that is now committed."""


class SongActor:
    """Loads a checkpoint once; makes songs side by side and commits each when it is whole."""

    def __init__(self, workspace: Workspace, batch: str, checkpoint: Checkpoint, run: GenerateRun) -> None:
        self._workspace, self._batch, self._checkpoint, self._run = workspace, batch, checkpoint, run

    def ready(self) -> Ready:
        """Load the model and say what this actor is; not in the constructor, whose errors Ray hands on as text."""
        device = assigned_device()
        torch.set_num_threads(1)
        self._made_on = whereabouts(device)
        model, self._about = load_model(self._checkpoint.folder)
        folded, run = fold(model.to(device)), self._run
        backend, serving = choose_backend(
            folded, device, wanted=run.backend, precision=run.precision, slots=run.slots, threads=1
        )
        self._engine = Engine(folded, backend, self._about.sample_rate)
        return Ready(self._engine.engine_id, serving, self._engine.slots, os.getpid())

    def make(self, songs: list[PlannedSong]) -> Iterator[Progress]:
        """Make songs; yields progress about once a second and at every song's end."""
        parts: dict[int, list[Pcm]] = {i: [] for i in range(len(songs))}
        made, spoke = 0, time.monotonic()
        for block in self._engine.generate(self._song(planned.recipe) for planned in songs):
            if block.start == 0:
                parts[block.song] = []
            parts[block.song].append(block.pcm)
            made += len(block.pcm)
            if block.last:
                whole = Made(np.concatenate(parts.pop(block.song)), block.take, block.traps)
                self._commit(songs[block.song], whole)
                yield Progress(made, songs[block.song].id)
            elif time.monotonic() - spoke > REPORT_EVERY_S:
                yield Progress(made)
            else:
                continue
            made, spoke = 0, time.monotonic()

    def _song(self, recipe: dict[str, Any]) -> Song:
        temperature = recipe["temperature"]
        if isinstance(temperature, str):
            temperature = parse_schedule(temperature, 0, TEMPERATURE_MAX)
        prompt = None if recipe["prompt"] is None else self._prompt
        return Song(
            seed=recipe["seed"],
            index=recipe["index"],
            samples=max(1, round(recipe["seconds"] * self._about.sample_rate)),
            temperature=temperature,
            top_k=recipe["top_k"] or 0,
            top_p=recipe["top_p"],
            h0=recipe["h0"],
            prompt=prompt,
            heard=prompt is None or recipe["prompt"]["heard"],
            on_trap=recipe["on_trap"],
            max_restarts=recipe["max_restarts"],
        )

    @cached_property
    def _prompt(self) -> Codes:
        config = self._about.experiment.model
        return encode(kept_prompt(self._workspace.batch(self._batch)), config.q_type, config.q_levels)

    def _commit(self, song: PlannedSong, made: Made) -> None:
        recipe = {**song.recipe, "engine": self._engine.engine_id, "restarts": made.take}
        rate = self._about.sample_rate
        body = {
            "id": song.id,
            "recipe": recipe,
            "sample_rate": rate,
            "samples": len(made.pcm),
            "measures": measure(made.pcm.astype(np.float32) / np.float32(32768)),
            "traps": _told((caught for caught in made.traps if caught.take == made.take), rate),
            "restarted_for": _told((caught for caught in made.traps if caught.take < made.take), rate),
            "trained": {"seconds": self._checkpoint.seconds, "bits": self._checkpoint.bits},
            "made_on": self._made_on,
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        }
        tags = {
            "title": f"Song {song.id}",
            "software": "samplernn-orchestrator",
            "comment": json.dumps(recipe),
        }
        audio = encode_flac(made.pcm, rate, tags)
        folder = self._workspace.song(self._batch, song.id)
        commit.write_commit(folder, {AUDIO: audio, SIDECAR: commit.to_json(body)})


def _told(traps: Iterable[Caught], rate: int) -> list[dict[str, Any]]:
    return [{"kind": caught.trap.kind, "seconds": caught.trap.start / rate} for caught in traps]
