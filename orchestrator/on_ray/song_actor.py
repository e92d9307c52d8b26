"""An actor that holds one model at a time and makes songs with it, side by side."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from orchestrator.config import GenerateRun
from orchestrator.on_ray.placement import assigned_device, whereabouts
from orchestrator.song_parts import Part, SongParts
from orchestrator.songs import AUDIO, SIDECAR, Checkpoint, Pcm, PlannedSong, kept_piece
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.checkpoint import load_model
from samplernn.chunks import Dataset, cache_folder
from samplernn.config import TEMPERATURE_MAX
from samplernn.copying import Passage, TrainingMusic, likeness
from samplernn.errors import SampleRNNError
from samplernn.features import frame_means, measure_features
from samplernn.flac import FlacWriter
from samplernn.folding import fold
from samplernn.generate.backends import Serving, choose_backend
from samplernn.generate.engine import Engine
from samplernn.generate.song import Block, Caught, Song
from samplernn.quantize import encode
from samplernn.schedule import parse_schedule
from samplernn.song_measures import SongMeasures

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
    host: str


@dataclass(frozen=True)
class Progress:
    """What an actor says while it works."""

    samples: int
    """Samples made since it last spoke."""
    finished: str | None = None
    """A song that is now committed."""


@dataclass
class _Making:
    """A song that is being made here."""

    planned: PlannedSong
    parts: SongParts
    state: Any
    """Where it goes on; None begins it."""
    take: int = 0
    start: int = 0
    """First sample of what is pending."""
    pending: list[Pcm] = field(default_factory=list)

    def hear(self, block: Block) -> None:
        if block.start == 0:
            self.take, self.start, self.pending, self.parts.chain = block.take, 0, [], []
        self.pending.append(block.pcm)

    @property
    def stop(self) -> int:
        return self.start + sum(len(pcm) for pcm in self.pending)


class SongActor:
    """Makes songs side by side; commits what is made of each now and then, and each when it is whole."""

    def __init__(self, workspace: Workspace, batch: str, run: GenerateRun) -> None:
        self._workspace, self._batch, self._run = workspace, batch, run
        self._inbox: deque[PlannedSong] = deque()
        self._lock = threading.Lock()
        self._music: tuple[str, TrainingMusic | None] | None = None

    def load(self, checkpoint: Checkpoint) -> Ready:
        """Load a model and say what this actor is; not in the constructor, whose errors Ray hands on as text."""
        device = assigned_device()
        torch.set_num_threads(1)
        self._made_on = whereabouts(device)
        model, self._about = load_model(checkpoint.folder)
        folded, run = fold(model.to(device)), self._run
        backend, serving = choose_backend(
            folded, device, wanted=run.backend, precision=run.precision, slots=run.slots, threads=1
        )
        self._engine = Engine(folded, backend, self._about.sample_rate)
        return Ready(
            self._engine.engine_id, serving, self._engine.slots, os.getpid(), str(self._made_on["host"])
        )

    def give(self, songs: list[PlannedSong]) -> None:
        """Songs to take up as soon as there is a place; called while `make` runs."""
        with self._lock:
            self._inbox.extend(songs)

    def make(self, songs: list[PlannedSong]) -> Iterator[Progress]:
        """Make these songs, and those that are given meanwhile, until there are none.

        Yields progress about once a second and at every song's end.
        """
        self.give(songs)
        making: dict[int, _Making] = {}
        numbers = count()

        def next_song() -> Song | None:
            with self._lock:
                planned = self._inbox.popleft() if self._inbox else None
            if planned is None:
                return None
            making[next(numbers)] = one = self._open(planned)
            return self._song(planned.recipe, one.state)

        made, spoke = 0, time.monotonic()
        for block in self._engine.serve(next_song):
            one = making[block.song]
            one.hear(block)
            made += len(block.pcm)
            if block.last:
                self._commit(making.pop(block.song), block)
                yield Progress(made, one.planned.id)
            else:
                if one.stop - one.start >= self._run.commit_seconds * self._about.sample_rate:
                    self._keep(one, block)
                if time.monotonic() - spoke < REPORT_EVERY_S:
                    continue
                yield Progress(made)
            made, spoke = 0, time.monotonic()

    def _open(self, planned: PlannedSong) -> _Making:
        parts = SongParts(self._workspace.parts(self._batch, planned.id))
        state = parts.load()
        one = _Making(planned, parts, state)
        if parts.chain:
            one.take, one.start = parts.chain[-1].take, parts.chain[-1].stop
        return one

    def _keep(self, one: _Making, block: Block) -> None:
        part = Part(one.take, one.start, one.stop)
        one.parts.add(part, np.concatenate(one.pending), self._about.sample_rate, block.save())
        one.start, one.pending = part.stop, []

    def _song(self, recipe: dict[str, Any], state: Any) -> Song:
        temperature = recipe["temperature"]
        if isinstance(temperature, str):
            temperature = parse_schedule(temperature, 0, TEMPERATURE_MAX)
        prompt, follow, config = recipe["prompt"], recipe["follow"], self._about.experiment.model
        batch, codes, features = self._workspace.batch(self._batch), None, None
        if prompt is not None:
            codes = encode(kept_piece(batch, prompt["sha256"]), config.q_type, config.q_levels)
        if follow is not None:
            pcm = kept_piece(batch, follow["sha256"])
            rows = measure_features(pcm, config.features)
            features = frame_means(rows, 0, -(-len(pcm) // config.context), config.context)
        return Song(
            seed=recipe["seed"],
            index=recipe["index"],
            samples=max(1, round(recipe["seconds"] * self._about.sample_rate)),
            temperature=temperature,
            top_k=recipe["top_k"] or 0,
            top_p=recipe["top_p"],
            h0=recipe["h0"],
            prompt=codes,
            heard=prompt is None or prompt["heard"],
            features=features,
            on_trap=recipe["on_trap"],
            max_restarts=recipe["max_restarts"],
            state=state,
        )

    def _commit(self, one: _Making, block: Block) -> None:
        """Write a whole song: its parts and what is pending pass by once, into the file and the measures."""
        song, rate = one.planned, self._about.sample_rate
        recipe = {**song.recipe, "engine": self._engine.engine_id, "restarts": block.take}
        tags = {
            "title": f"Song {song.id}",
            "software": "samplernn-orchestrator",
            "comment": json.dumps(recipe),
        }
        measures, passages = SongMeasures(rate), list[Passage]()
        music = self._training_music() if self._run.measures else None
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / AUDIO
            samples = 0
            with FlacWriter(path, rate, tags) as file:
                for pcm in (*one.parts.audio(), np.concatenate(one.pending)):
                    file.write(pcm)
                    if self._run.measures:
                        measures.hear(pcm)
                    if music is not None:
                        passages += _moved(
                            music.nearest(pcm.astype(np.float32) / np.float32(32768)), samples / rate
                        )
                    samples += len(pcm)
            audio = path.read_bytes()
        body = {
            "id": song.id,
            "recipe": recipe,
            "sample_rate": rate,
            "samples": samples,
            "measures": {**measures.finish(), **likeness(passages)} if self._run.measures else {},
            "traps": _told((caught for caught in block.traps if caught.take == block.take), rate),
            "restarted_for": _told((caught for caught in block.traps if caught.take < block.take), rate),
            "trained": {"seconds": song.checkpoint.seconds, "bits": song.checkpoint.bits},
            "made_on": self._made_on,
            "versions": {
                "torch": torch.__version__,
                "python": platform.python_version(),
                "soundfile": soundfile.__version__,
            },
        }
        folder = self._workspace.song(self._batch, song.id)
        commit.write_commit(folder, {AUDIO: audio, SIDECAR: commit.to_json(body)})
        self._workspace.batch(self._batch).at("parts").delete(song.id)

    def _training_music(self) -> TrainingMusic | None:
        """The music that the model was trained on, once read; None when it is not in the workspace or not the same."""
        name = self._about.dataset
        if self._music is None or self._music[0] != name:
            music = None
            try:
                dataset = Dataset.open(self._workspace.dataset(name), cache_folder())
                if dataset.sample_rate == self._about.sample_rate:
                    music = TrainingMusic(dataset)
            except SampleRNNError:
                pass  # the songs are made all the same; their likeness is left out
            self._music = (name, music)
        return self._music[1]


def _moved(passages: list[Passage], seconds: float) -> Iterator[Passage]:
    for one in passages:
        yield Passage(one.at + seconds, one.likeness, one.track, one.track_at)


def _told(traps: Iterable[Caught], rate: int) -> list[dict[str, Any]]:
    return [{"kind": caught.trap.kind, "seconds": caught.trap.start / rate} for caught in traps]
