"""From chunks to TBPTT windows: a batch of chunks walked side by side, as a pure function of the step.

Every batch of chunks has the same number of windows, so step s is window s % windows of batch s // windows, and the
order of an epoch is a permutation seeded by (seed, epoch). A run resumed at any step sees what it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from samplernn.chunks import Dataset
from samplernn.config import ModelConfig
from samplernn.quantize import encode

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """One step's data."""

    codes: npt.NDArray[np.int16]
    """[batch, context + T]: the samples before the window, then the targets."""
    mask: npt.NDArray[np.bool_] | None
    """[batch, T]: False where a target is padding; None when nothing is."""
    starts_chunk: bool
    """Whether the hidden state must be reset before this window."""


class ChunkBatch:
    """The codes of some chunks side by side, cut into windows of seq_len targets."""

    def __init__(self, dataset: Dataset, rows: Rows, model: ModelConfig, seq_len: int, length: int) -> None:
        self.windows = -(-length // seq_len)
        self._seq_len, self._context = seq_len, model.context
        pcm = np.zeros((len(rows), self.windows * seq_len), dtype=np.int16)
        for out, (track, start, stop) in zip(pcm, rows, strict=True):
            dataset.tracks[track].read(start, stop, out)
        self._codes = np.full((len(rows), model.context + pcm.shape[1]), model.q_zero, dtype=np.int16)
        self._codes[:, model.context :] = encode(pcm, model.q_type, model.q_levels)
        self._lengths = rows[:, 2] - rows[:, 1]

    def window(self, index: int) -> Window:
        """Window `index` of all chunks."""
        start = index * self._seq_len
        stop = start + self._seq_len
        mask = None
        if self._lengths.min() < stop:
            mask = np.arange(start, stop) < self._lengths[:, None]
        return Window(self._codes[:, start : stop + self._context], mask, index == 0)


class TrainingWindows:
    """The training windows of one trial; `at(step)` is random access, fastest in order."""

    def __init__(
        self,
        dataset: Dataset,
        model: ModelConfig,
        *,
        seq_len: int,
        batch: int,
        length: int,
        count: int | None,
        hop: int | None = None,
        seed: int,
    ) -> None:
        self._dataset, self._model, self._seq_len, self._batch, self._length = (
            dataset,
            model,
            seq_len,
            batch,
            length,
        )
        self._rows = dataset.chunks("train", length, count, hop)
        self._seed = seed
        self._windows = -(-length // seq_len)
        self._held: tuple[int, ChunkBatch] | None = None
        self._order = lru_cache(maxsize=2)(self._permutation)

    def at(self, step: int) -> Window:
        """The window of optimiser step `step`, counted from 0."""
        number, index = divmod(step, self._windows)
        if self._held is None or self._held[0] != number:
            rows = self._rows[self._pick(number)]
            self._held = number, ChunkBatch(self._dataset, rows, self._model, self._seq_len, self._length)
        return self._held[1].window(index)

    def _pick(self, number: int) -> Rows:
        """Chunks of batch `number`; a batch may straddle two epochs, so none is ever dropped."""
        spots = np.arange(number * self._batch, (number + 1) * self._batch)
        epochs, places = np.divmod(spots, len(self._rows))
        return np.array([self._order(int(e))[p] for e, p in zip(epochs, places, strict=True)])

    def _permutation(self, epoch: int) -> Rows:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._rows))
