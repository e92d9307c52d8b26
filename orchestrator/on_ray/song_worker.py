"""The driver's end of one song actor: what it was asked, what it says, how long it has been silent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import ray

from orchestrator.on_ray.song_actor import Progress, Ready
from orchestrator.songs import PlannedSong
from orchestrator.sources import Checkpoint

LOADING_S = 600.0
"""The least patience with a worker that loads its model."""


class SongWorker:
    """One actor and what it is doing. Every method raises what Ray says when the actor is dead."""

    def __init__(self, number: int, actor: Any) -> None:
        self.number, self.actor = number, actor
        self.checkpoint: str | None = None
        """Key of the checkpoint whose model it holds, or is loading."""
        self.ready: Ready | None = None
        """What it said when it had loaded a model, the last time."""
        self.songs: dict[str, PlannedSong] = {}
        """Songs that it has and are not committed."""
        self.heard = time.monotonic()
        """When it last gave a sign of life."""
        self._placing: Any = actor.__ray_ready__.remote()
        self._loading: Any = None
        self._making: Any = None
        self._at: dict[str, int] = {}
        self._made, self._began = 0, 0.0

    @property
    def placed(self) -> bool:
        """Whether Ray has found a place for it."""
        return self._placing is None

    @property
    def loading(self) -> bool:
        """Whether it loads a model."""
        return self._loading is not None

    @property
    def busy(self) -> Any:
        """What it will say next: a reference to wait for; None when it is idle."""
        return next((one for one in (self._placing, self._loading, self._making) if one is not None), None)

    @property
    def slots(self) -> int:
        """Songs that it makes side by side; 0 as long as it has no model."""
        return self.ready.slots if self.ready else 0

    @property
    def may_take(self) -> bool:
        """Whether it can be given songs, or a model to load."""
        return self.busy is None or self._making is not None

    def silent(self, patience: float) -> float | None:
        """The patience in seconds that it has used up without a sign of life; None while it has some left."""
        patience = max(patience, LOADING_S) if self.loading else patience
        waited_for = self.placed and self.busy is not None
        return patience if waited_for and time.monotonic() - self.heard > patience else None

    def load(self, checkpoint: Checkpoint) -> None:
        """Have it load a model."""
        self.checkpoint, self.heard = checkpoint.key, time.monotonic()
        self._loading = self.actor.load.remote(checkpoint)

    def give(self, songs: list[PlannedSong]) -> None:
        """Have it make these songs, beside those that it has."""
        self.songs |= {song.id: song for song in songs}
        if self._making is None and self.songs:
            # What was given when the last call was ending is still in the actor's inbox, or was given just now.
            self._making = self.actor.make.options(num_returns="streaming").remote(songs)
            self.heard = self._began = time.monotonic()
            self._made = 0
        elif songs:
            self.actor.give.remote(songs)

    def take_back(self, songs: list[str]) -> None:
        """Ask for songs back; it says which and when, and those that it finishes before that are finished."""
        self.actor.take_back.remote(songs)

    def hear(self) -> Iterator[Ready | Progress]:
        """Everything that it has said since, without waiting."""
        if self._placing is not None and _answered(self._placing):
            ray.get(self._placing)
            self._placing, self.heard = None, time.monotonic()
        if self._loading is not None and _answered(self._loading):
            self.ready = ray.get(self._loading)
            self._loading, self.heard = None, time.monotonic()
            yield self.ready
        while self._making is not None and _answered(self._making):
            try:
                said: Progress = ray.get(next(self._making))
            except StopIteration:
                self._making = None
                return
            self.heard = time.monotonic()
            self._at |= said.at
            self._made += said.samples
            if gone := said.finished or said.returned:
                del self.songs[gone]
            yield said

    def left(self, song: PlannedSong) -> float:
        """Samples that it has yet to make of a song."""
        rate = self.ready.sample_rate if self.ready else 0
        return max(0.0, float(song.recipe["seconds"]) * rate - self._at.get(song.id, 0))

    @property
    def seconds_left(self) -> float:
        """How long its songs will take it at the speed that it had since it began; 0 as long as that isn't known."""
        speed = self._made / max(1e-3, time.monotonic() - self._began)
        return sum(map(self.left, self.songs.values())) / speed if speed else 0.0


def _answered(reference: Any) -> bool:
    return bool(ray.wait([reference], timeout=0)[0])
