"""An actor that holds one model at a time and makes songs with it, side by side."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import numpy as np
import torch

from orchestrator.config import GenerateRun
from orchestrator.finished_song import commit_song
from orchestrator.on_ray.placement import assigned_device, whereabouts
from orchestrator.song_parts import Part, SongParts
from orchestrator.songs import PlannedSong
from orchestrator.sources import Checkpoint, Pcm, kept_piece
from orchestrator.workspace import Workspace
from samplernn.checkpoint import load_model
from samplernn.chunks import Dataset, cache_folder
from samplernn.config import TEMPERATURE_MAX
from samplernn.copying import TrainingMusic
from samplernn.errors import SampleRNNError
from samplernn.features import frame_means, measure_features
from samplernn.folding import FoldedModel, fold
from samplernn.generate.backends import SLOTS, Serving, choose_backend, serving
from samplernn.generate.engine import Engine
from samplernn.generate.song import Block, Song
from samplernn.memory import is_out_of_memory
from samplernn.quantize import encode
from samplernn.schedule import parse_schedule

REPORT_EVERY_S = 1.0
COMMIT_EVERY_S = 120.0
"""What a large model makes in a minute may be less than a second of each song: not more than this is lost either."""


@dataclass(frozen=True)
class Ready:
    """An actor whose model is loaded."""

    engine: str
    """Engine id."""
    serving: Serving
    slots: int
    """Songs that it makes side by side."""
    sample_rate: int
    """Hz."""
    pid: int
    host: str
    node: str
    """Ray's id of the node."""


@dataclass(frozen=True)
class Progress:
    """What an actor says while it works."""

    samples: int
    """Samples made since it last spoke."""
    at: dict[str, int] = field(default_factory=dict)
    """How far each song is that it is making, in samples: those made elsewhere too, and none of a take given up."""
    seconds: float = 0.0
    """Seconds that making the samples took."""
    finished: str | None = None
    """A song that is now committed."""
    resumed: int = 0
    """The sample that this actor took it up at."""
    finishing: float = 0.0
    """Seconds that writing and measuring it took."""
    returned: str | None = None
    """A song that was asked back and is not made here any more; what is made of it is committed."""


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
    stop: int = 0
    """The sample after the last."""
    resumed: int = 0
    """The sample that it was taken up at here."""
    pending: list[Pcm] = field(default_factory=list)
    kept: float = field(default_factory=time.monotonic)
    """When it was last committed."""

    def hear(self, block: Block) -> None:
        if block.start == 0:
            self.take, self.start, self.stop, self.pending, self.parts.chain = block.take, 0, 0, [], []
        self.pending.append(block.pcm)
        self.stop += len(block.pcm)


class SongActor:
    """Makes songs side by side; commits what is made of each now and then, and each when it is whole."""

    def __init__(self, workspace: Workspace, batch: str, run: GenerateRun) -> None:
        self._workspace, self._batch, self._run = workspace, batch, run
        self._inbox: deque[PlannedSong] = deque()
        self._leaving = set[str]()
        self._lock = threading.Lock()
        self._music: tuple[str, TrainingMusic | None] | None = None

    def load(self, checkpoint: Checkpoint) -> Ready:
        """Load a model and say what this actor is; not in the constructor, whose errors Ray hands on as text."""
        device = assigned_device()
        torch.set_num_threads(1)
        self._made_on = whereabouts(device)
        model, self._about = load_model(checkpoint.folder)
        served = self._fit(fold(model.to(device)), device)
        return Ready(
            self._engine.engine_id, served, self._engine.slots, self._about.sample_rate, os.getpid(),
            str(self._made_on["host"]), str(self._made_on["node"]),
        )  # fmt: skip

    def _fit(self, folded: FoldedModel, device: torch.device) -> Serving:
        """An engine with as many places as memory holds: half as many, and half again, where it runs out.

        How many songs fit on a GPU is found by trying a block of them. Places that samples depend on and that the batch
        was begun with are kept, or the error raised.
        """
        run = self._run
        name = serving(device, run.backend, run.precision).name
        slots = run.slots or SLOTS[name]
        while True:
            try:
                backend, served = choose_backend(
                    folded, device, wanted=run.backend, precision=run.precision, slots=slots, threads=1
                )
                self._engine = Engine(folded, backend, self._about.sample_rate)
                if device.type == "cuda":
                    self._engine.try_out()
                return served
            except (RuntimeError, MemoryError) as error:
                kept = run.slots is not None and name != "native"
                if slots < 2 or kept or not is_out_of_memory(error):
                    raise
            slots //= 2
            if device.type == "cuda":
                torch.cuda.empty_cache()

    def give(self, songs: list[PlannedSong]) -> None:
        """Songs to take up as soon as there is a place; called while `make` runs."""
        with self._lock:
            self._inbox.extend(songs)

    def take_back(self, songs: list[str]) -> None:
        """Songs that another actor is to begin or go on with; called while `make` runs, which says when it let go."""
        with self._lock:
            self._leaving |= set(songs)

    def make(self, songs: list[PlannedSong]) -> Iterator[Progress]:
        """Make these songs, and those that are given meanwhile, until there are none.

        Yields progress about once a second, and at every song's end or return.
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
            song = one.planned.id
            if block.last:
                spent = time.monotonic() - spoke
                finishing = self._finish(making.pop(block.song), block)
                yield Progress(made, {song: one.stop}, spent, song, one.resumed, finishing)
            elif song in self._leaving:
                self._keep(making.pop(block.song), block)
                block.leave()
                self._leaving.discard(song)
                yield Progress(made, {song: one.stop}, time.monotonic() - spoke, returned=song)
            else:
                enough = one.stop - one.start >= self._run.commit_seconds * self._about.sample_rate
                if enough or time.monotonic() - one.kept >= COMMIT_EVERY_S:
                    self._keep(one, block)
                if time.monotonic() - spoke < REPORT_EVERY_S:
                    continue
                at = {one.planned.id: one.stop for one in making.values()}
                yield Progress(made, at, time.monotonic() - spoke)
                for waiting in self._not_begun():
                    yield Progress(0, returned=waiting)
            made, spoke = 0, time.monotonic()

    def _not_begun(self) -> list[str]:
        """Songs that were asked back and wait for a place: they wait here no longer."""
        with self._lock:
            back = [song.id for song in self._inbox if song.id in self._leaving]
            self._inbox = deque(song for song in self._inbox if song.id not in self._leaving)
            self._leaving -= set(back)
        return back

    def _open(self, planned: PlannedSong) -> _Making:
        parts = SongParts(self._workspace.parts(self._batch, planned.id))
        state = parts.load()
        one = _Making(planned, parts, state)
        if parts.chain:
            one.take = parts.chain[-1].take
            one.start = one.stop = one.resumed = parts.chain[-1].stop
        return one

    def _keep(self, one: _Making, block: Block) -> None:
        part = Part(one.take, one.start, one.stop)
        one.parts.add(part, np.concatenate(one.pending), self._about.sample_rate, block.save())
        one.start, one.pending, one.kept = part.stop, [], time.monotonic()

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

    def _finish(self, one: _Making, block: Block) -> float:
        """Commit a whole song; returns the seconds that took, without the reading of the training music."""
        music = self._training_music() if self._run.measures else None
        began = time.monotonic()
        commit_song(
            self._workspace.song(self._batch, one.planned.id),
            one.planned,
            lambda: chain(one.parts.audio(), [np.concatenate(one.pending)]),
            sample_rate=self._about.sample_rate,
            engine=self._engine.engine_id,
            take=block.take,
            traps=block.traps,
            measured=self._run.measures,
            music=music,
            made_on=self._made_on,
        )
        self._workspace.batch(self._batch).at("parts").delete(one.planned.id)
        return time.monotonic() - began

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
