"""The generation engine: songs in, blocks of audio out, the batch kept full.

Songs take the backend's slots; a finished song's slot goes to the next song (continuous batching), and songs are drawn
from their iterator only when there is a slot for them. A song is a function of the checkpoint, its `Song` and the
engine id; it does not depend on the others. Memory does not depend on the songs' length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from samplernn.errors import BadInput
from samplernn.folding import FoldedModel
from samplernn.generate.backend import DRAW, Backend, Codes, FloatArray, Request
from samplernn.generate.song import COLDEST, Block, Caught, Made, Song, SongState
from samplernn.generate.song_rng import START, seed_again, uniforms
from samplernn.quantize import decode_table, to_pcm
from samplernn.traps import KINDS, Trap, TrapWatch

BLOCK = 1024
"""Samples that the backend makes at a time, about: the next multiple of the largest frame."""

Pcm = npt.NDArray[np.int16]


@dataclass
class _Place:
    """A slot's song and how far it is."""

    position: int
    song: Song
    watch: TrapWatch
    at: int = 0
    """Samples made, the prompt's among them."""
    take: int = 0
    caught: list[Caught] = field(default_factory=list)
    left: bool = False
    """Whether no more of it is wanted here."""

    def leave(self) -> None:
        self.left = True

    @property
    def seed(self) -> int:
        return seed_again(self.song.seed, self.song.index, self.take)


class Engine:
    """One model on one backend, ready to generate."""

    def __init__(self, model: FoldedModel, backend: Backend, sample_rate: int) -> None:
        self._model, self._backend, self._rate = model, backend, sample_rate
        context = model.config.context
        self._block = -(-BLOCK // context) * context
        self._pcm = to_pcm(decode_table(model.config.q_type, model.config.q_levels))
        self._blocks = 0

    @property
    def engine_id(self) -> str:
        """Backend, precision and arithmetic: what the samples of a song depend on besides its recipe."""
        return self._backend.engine_id

    @property
    def slots(self) -> int:
        """Songs side by side."""
        return self._backend.slots

    def try_out(self) -> None:
        """Make one block with every place taken, as a proof that they fit into memory; nothing of it stays."""
        features = np.zeros((1, self._model.features), np.float32) if self._model.features else None
        for _ in self.generate(Song(0, index, 1, features=features) for index in range(self.slots)):
            pass

    def generate(self, songs: Iterable[Song]) -> Iterator[Block]:
        """Blocks of all songs as they are made; each song's in order.

        Raises BadInput for a song that this model can't draw, when its turn comes.
        """
        yield from self.serve(partial(next, iter(songs), None))

    def serve(self, next_song: Callable[[], Song | None]) -> Iterator[Block]:
        """As generate, for songs that arrive while others are made: `next_song` is asked whenever there is a place.

        None means that there is none right now; when all places are empty as well, that is the end.
        """
        count = 0
        places: list[_Place | None] = [None] * self._backend.slots
        while True:
            for slot, place in enumerate(places):
                if place is None and (song := next_song()) is not None:
                    places[slot] = self._seat(slot, count, song)
                    count += 1
            if not any(places):
                return
            codes = self._backend.advance(self._request(places))
            self._blocks += 1
            for slot, place in enumerate(places):
                if place is None:
                    continue
                block = self._take(slot, place, codes[slot])
                if block is None:
                    continue
                if block.last:
                    places[slot] = None
                yield block
                if place.left:
                    places[slot] = None

    def _seat(self, slot: int, position: int, song: Song) -> _Place:
        """Put a song into a slot, at its beginning or where its state says."""
        song.check(self._model, self._rate)
        place = _Place(position, song, TrapWatch(self._rate))
        if song.state is None:
            self._begin(slot, place)
            return place
        state = song.state
        engine = state["engine"].tobytes().decode()
        if engine != self.engine_id:
            raise BadInput(
                f"song {song.index} was begun with engine {engine} and this is {self.engine_id}: its samples would "
                "change in the middle; go on where it was begun, or begin it anew"
            )
        place.at, place.take = int(state["at"]), int(state["take"])
        place.caught = [
            Caught(Trap(KINDS[kind], start), take) for kind, start, take in state["traps"].tolist()
        ]
        place.watch.load(_part(state, "watch."))
        self._backend.load(slot, _part(state, "slot."))
        return place

    def _begin(self, slot: int, place: _Place) -> None:
        shapes = [(*tier.h0.shape[:2], tier.h0.shape[3]) for tier in self._model.tiers]
        h0: list[FloatArray] | None = None
        if place.song.h0 == "zeros":
            h0 = [np.zeros(shape, dtype=np.float32) for shape in shapes]
        elif place.song.h0 == "random":
            sizes = [int(np.prod(shape)) for shape in shapes]
            drawn = uniforms(place.seed, place.song.index, 0, sum(sizes), START) - np.float32(0.5)
            parts = np.split(drawn, np.cumsum(sizes)[:-1])
            h0 = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        self._backend.reset(slot, h0)

    def _request(self, places: list[_Place | None]) -> Request:
        """What each slot draws next; an empty slot asks for nothing that costs."""
        slots, length, context = len(places), self._block, self._model.config.context
        request = Request(
            active=np.array([place is not None for place in places]),
            seed=np.zeros(slots, dtype=np.uint32),
            song=np.zeros(slots, dtype=np.uint32),
            start=np.zeros(slots, dtype=np.int64),
            temperature=np.ones((slots, length), dtype=np.float32),
            top_k=np.zeros(slots, dtype=np.int32),
            top_p=np.ones(slots, dtype=np.float32),
            forced=self._forced(places),
            features=np.zeros((slots, length // context, self._model.features), dtype=np.float32)
            if self._model.features
            else None,
        )
        for slot, place in enumerate(places):
            if place is None:
                continue
            song = place.song
            request.seed[slot], request.song[slot], request.start[slot] = place.seed, song.index, place.at
            request.temperature[slot] = self._temperature(song, place.at)
            request.top_k[slot], request.top_p[slot] = song.top_k, song.top_p
            if request.features is not None and song.features is not None:
                frames = place.at // context + np.arange(length // context)
                request.features[slot] = song.features[np.minimum(frames, len(song.features) - 1)]
        return request

    def _forced(self, places: list[_Place | None]) -> Codes | None:
        """The prompts' part of the next block [slots, n], or None when there is none."""
        forced = None
        for slot, place in enumerate(places):
            if place is None or place.song.prompt is None or place.at >= place.song.lead:
                continue
            if forced is None:
                forced = np.full((len(places), self._block), DRAW, dtype=np.int16)
            given = place.song.prompt[place.at : place.at + self._block]
            forced[slot, : len(given)] = given
        return forced

    def _temperature(self, song: Song, at: int) -> FloatArray | np.float32:
        times, values = zip(*song.schedule, strict=True)
        if len(times) == 1:
            drawn = np.float32(values[0])
            return drawn if drawn >= COLDEST else np.float32(0)
        seconds = (np.arange(at, at + self._block) - song.skipped) / self._rate
        drawn = np.interp(seconds, times, values).astype(np.float32)
        return np.where(drawn >= COLDEST, drawn, np.float32(0))

    def _take(self, slot: int, place: _Place, codes: Codes) -> Block | None:
        """A song's next block from its codes; None when nothing of it is to be heard."""
        song, total = place.song, place.song.skipped + place.song.samples
        first, place.at = place.at, min(place.at + self._block, total)
        pcm = self._pcm[codes[: place.at - first]]
        for trap in place.watch.hear(pcm[max(0, song.lead - first) :]):
            start = trap.start + song.lead - song.skipped
            place.caught.append(Caught(Trap(trap.kind, start), place.take))
        fell = any(caught.take == place.take for caught in place.caught)
        if fell and song.on_trap == "restart" and place.take < song.max_restarts:
            place.at, place.take, place.watch = 0, place.take + 1, TrapWatch(self._rate)
            self._begin(slot, place)
            return None
        pcm = pcm[max(0, song.skipped - first) :]
        if not len(pcm) and place.at < total:
            return None
        start = max(0, first - song.skipped)
        save = partial(self._save, slot, place, self._blocks)
        last = place.at == total
        return Block(place.position, start, pcm, last, place.take, tuple(place.caught), save, place.leave)

    def _save(self, slot: int, place: _Place, blocks: int) -> SongState:
        """A song's state, as long as the backend hasn't moved on."""
        if blocks != self._blocks:
            raise RuntimeError("a block's state is to be saved before the next block is taken")
        caught = [[KINDS.index(c.trap.kind), c.trap.start, c.take] for c in place.caught]
        return {
            "at": np.array(place.at, dtype=np.int64),
            "take": np.array(place.take, dtype=np.int64),
            "traps": np.array(caught, dtype=np.int64).reshape(-1, 3),
            "engine": np.frombuffer(self.engine_id.encode(), dtype=np.uint8).copy(),
            **{f"slot.{name}": array for name, array in self._backend.save(slot).items()},
            **{f"watch.{name}": array for name, array in place.watch.save().items()},
        }


def _part(state: SongState, prefix: str) -> SongState:
    """The arrays of a part of a song's state, by the part's own names."""
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def generate_whole(engine: Engine, songs: Sequence[Song]) -> list[Made]:
    """All songs in memory, for short ones."""
    parts: list[list[Pcm]] = [[] for _ in songs]
    made: dict[int, Made] = {}
    for block in engine.generate(songs):
        if block.start == 0:
            parts[block.song] = []
        parts[block.song].append(block.pcm)
        if block.last:
            made[block.song] = Made(np.concatenate(parts[block.song]), block.take, block.traps)
    return [made[position] for position in range(len(songs))]
