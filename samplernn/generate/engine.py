"""The generation engine: a list of songs in, blocks of audio out, the batch kept full.

Songs take the backend's slots; a finished song's slot goes to the next song (continuous batching). A song is a
function of the checkpoint, its seed, its number, its temperature and the engine id; it does not depend on the other
songs. Memory does not depend on the songs' length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from samplernn.folding import FoldedModel
from samplernn.generate.song_rng import uniforms
from samplernn.generate.torch_backend import TorchBackend
from samplernn.quantize import decode, to_pcm

SLOTS = 8
BLOCK = 1024


@dataclass(frozen=True)
class Song:
    """What to draw."""

    seed: int
    """Seed of the batch of songs."""
    index: int
    """Number of the song in its batch: it draws from the stream (seed, index)."""
    samples: int
    """Length in samples."""
    temperature: float = 1.0
    """1 draws from the model's distribution; 0 takes the most likely sample."""


@dataclass(frozen=True)
class Block:
    """A piece of one song; a song's blocks come in order."""

    song: int
    """Position in the list that was given to `generate`."""
    start: int
    """First sample of this block in its song."""
    pcm: npt.NDArray[np.int16]
    last: bool
    """Whether the song ends here."""


@dataclass
class _Slot:
    song: int
    at: int = 0


class Engine:
    """One model, ready to generate."""

    def __init__(self, model: FoldedModel, slots: int = SLOTS) -> None:
        self._model = model
        self._backend = TorchBackend(model, slots)
        context = model.config.context
        self._block = -(-BLOCK // context) * context

    @property
    def engine_id(self) -> str:
        """Backend, precision and arithmetic: what the samples of a song depend on besides its recipe."""
        return self._backend.engine_id

    def generate(self, songs: Sequence[Song]) -> Iterator[Block]:
        """Blocks of all songs as they are made; each song's in order."""
        waiting = deque(range(len(songs)))
        slots: list[_Slot | None] = [None] * self._backend.slots
        while True:
            for number, slot in enumerate(slots):
                if slot is None and waiting:
                    slots[number] = _Slot(waiting.popleft())
                    self._backend.reset(number)
            if not any(slots):
                return
            codes = self._advance(slots, songs)
            for number, slot in enumerate(slots):
                if slot is None:
                    continue
                song = songs[slot.song]
                pcm = self._to_pcm(codes[number][: song.samples - slot.at])
                last = slot.at + len(pcm) >= song.samples
                yield Block(slot.song, slot.at, pcm, last)
                slot.at += len(pcm)
                if last:
                    slots[number] = None

    def _advance(self, slots: list[_Slot | None], songs: Sequence[Song]) -> npt.NDArray[np.int64]:
        device = self._model.table.device
        draws = np.full((len(slots), self._block), 0.5, dtype=np.float32)
        temperature = np.ones(len(slots), dtype=np.float32)
        for number, slot in enumerate(slots):
            if slot is not None:
                song = songs[slot.song]
                draws[number] = uniforms(song.seed, song.index, slot.at, self._block)
                temperature[number] = song.temperature
        codes = self._backend.advance(
            torch.from_numpy(draws).to(device), torch.from_numpy(temperature).to(device)
        )
        return codes.cpu().numpy()

    def _to_pcm(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
        return to_pcm(decode(codes, self._model.config.q_type, self._model.config.q_levels))


def generate_whole(engine: Engine, songs: Sequence[Song]) -> list[npt.NDArray[np.int16]]:
    """All songs in memory, for short ones: a list of PCM [samples]."""
    parts: list[list[npt.NDArray[np.int16]]] = [[] for _ in songs]
    for block in engine.generate(songs):
        parts[block.song].append(block.pcm)
    return [np.concatenate(part) for part in parts]
