"""From chunks to TBPTT windows: a batch of chunks walked side by side, as a pure function of the step.

Every batch of chunks has the same number of windows, so step s is window s % windows of batch s // windows, and the
order of an epoch is a permutation seeded by (seed, epoch). A run resumed at any step sees what it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from samplernn.chunks import Dataset
from samplernn.config import ModelConfig
from samplernn.features import frame_means
from samplernn.quantize import encode

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """One step's data."""

    codes: npt.NDArray[np.int16]
    """[batch, context + T]: the samples before the window, then the targets."""
    mask: npt.NDArray[np.bool_] | None
    """[batch, T]: False where a target is padding; None when nothing is."""
    features: npt.NDArray[np.float32] | None
    """[batch, T / context, features]: local conditioning of the top tier's steps; None for a model without."""
    starts_chunk: bool
    """Whether the hidden state must be reset before this window."""


@dataclass(frozen=True)
class Batch:
    """A window on its way into the model, on the model's device."""

    codes: Tensor
    """int16 [batch, context + T]"""
    weight: Tensor
    """float32 [batch, T]: 1, and 0 where a target is padding."""
    features: Tensor | None
    """float32 [batch, T / context, features]"""
    starts_chunk: bool

    @classmethod
    def of(cls, window: Window, context: int, device: torch.device) -> Batch:
        """Copy a window to a device without waiting for the copy."""
        shape = (len(window.codes), window.codes.shape[1] - context)
        weight = np.ones(shape, np.float32) if window.mask is None else window.mask.astype(np.float32)
        features = None if window.features is None else _to(window.features, device)
        return cls(_to(window.codes, device), _to(weight, device), features, window.starts_chunk)


def _to(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


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
        self._features: npt.NDArray[np.float32] | None = None
        if model.features:
            self._features = np.stack([self._measure(dataset, row, model, pcm.shape[1]) for row in rows])

    @staticmethod
    def _measure(dataset: Dataset, row: Rows, model: ModelConfig, length: int) -> npt.NDArray[np.float32]:
        """Features of one chunk's frames; none beyond its end, as there is no audio."""
        track, start, stop = (int(value) for value in row)
        means = frame_means(
            dataset.tracks[track].features(model.features), start, length // model.context, model.context
        )
        means[-(-(stop - start) // model.context) :] = 0
        return means

    def window(self, index: int) -> Window:
        """Window `index` of all chunks."""
        start = index * self._seq_len
        stop = start + self._seq_len
        mask = None
        if self._lengths.min() < stop:
            mask = np.arange(start, stop) < self._lengths[:, None]
        features = None
        if self._features is not None:
            features = self._features[:, start // self._context : stop // self._context]
        return Window(self._codes[:, start : stop + self._context], mask, features, index == 0)


def held_out_features(dataset: Dataset, model: ModelConfig) -> npt.NDArray[np.float32] | None:
    """Features [frames, features] of the first validation audio, for clips to follow; None for a model without."""
    if not model.features:
        return None
    track, start, stop = dataset.regions["valid"][0]
    frames = max(1, (stop - start) // model.context)
    return frame_means(dataset.tracks[track].features(model.features), start, frames, model.context)


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
