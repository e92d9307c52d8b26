"""Local conditioning: features of a recording, a row every HOP samples, averaged over the frames that they condition.

A row describes the samples [row * HOP, (row + 1) * HOP) and is computed from the very PCM that a model is trained on,
so that audio and features can't come apart. The top tier's step k is given the mean over the samples it conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

HOP = 128
"""Samples a row."""
_WINDOW = 1024
_BEFORE = (_WINDOW - HOP) // 2
_BLOCK = 4096
Features = npt.NDArray[np.float32]


class Extractor(Protocol):
    """A feature being measured, in one pass: what it keeps does not grow with the audio but for its own rows."""

    def add(self, pcm: npt.NDArray[np.int16]) -> None:
        """The recording's next samples, int16 [samples]."""
        ...

    def rows(self) -> Features:
        """The feature of all that was added: float32 [ceil(samples / HOP)]. Called once, at the end."""
        ...


def measure_features(pcm: npt.NDArray[np.int16], names: Sequence[str]) -> Features:
    """Features of a recording [samples] of int16: float32 [ceil(samples / HOP), names]."""
    return np.stack([measure_feature([pcm], name) for name in names], axis=1)


def measure_feature(blocks: Iterable[npt.NDArray[np.int16]], name: str) -> Features:
    """One feature of a recording that comes in blocks of any size: float32 [ceil(samples / HOP)]."""
    extractor = EXTRACTORS[name]()
    for block in blocks:
        extractor.add(block)
    return extractor.rows()


class OnsetStrength:
    """How much louder the spectrum has become since the row before: spectral flux, in [0, 1].

    Hann windows of 1,024 samples around each row, ln(1 + 100 |X|), the mean of what rose over all bins (Böck and
    Widmer, DAFx 2013, without their maximum filter); divided by its 99th percentile in this recording and clipped.
    """

    def __init__(self) -> None:
        self._held = np.zeros(_BEFORE, np.float32)  # begins half a window before the first row
        self._samples = 0
        self._flux: list[Features] = []
        self._last: Features | None = None

    def add(self, pcm: npt.NDArray[np.int16]) -> None:
        """The recording's next samples, int16 [samples]."""
        self._samples += len(pcm)
        self._held = np.concatenate([self._held, pcm.astype(np.float32) / 32768])
        # Blocks of the same rows wherever the audio was cut, so that every bit is the same.
        while len(self._held) >= _BLOCK * HOP + _WINDOW:
            self._take(_BLOCK)

    def rows(self) -> Features:
        """The flux of all that was added, float32 [ceil(samples / HOP)]."""
        rest = -(-self._samples // HOP) - _BLOCK * len(self._flux)
        self._held = np.pad(self._held, (0, rest * HOP + _WINDOW))
        while rest > 0:
            self._take(min(rest, _BLOCK))
            rest -= _BLOCK
        flux = np.concatenate([np.zeros(0, np.float32), *self._flux])
        loud = float(np.percentile(flux, 99)) if len(flux) else 0.0
        return np.clip(flux / loud, 0, 1) if loud > 0 else flux

    def _take(self, rows: int) -> None:
        """The flux of the next `rows` rows."""
        windows = np.lib.stride_tricks.sliding_window_view(self._held, _WINDOW)[::HOP][:rows]
        block = np.log1p(100 * np.abs(np.fft.rfft(windows * np.hanning(_WINDOW).astype(np.float32), axis=1)))
        earlier = np.concatenate((block[:1] if self._last is None else self._last, block[:-1]))
        self._flux.append(np.maximum(block - earlier, 0).mean(axis=1).astype(np.float32))
        self._last = block[-1:]
        self._held = self._held[rows * HOP :]


def frame_means(features: Features, start: int, frames: int, size: int) -> Features:
    """Means over `frames` frames of `size` samples from sample `start`: float32 [frames, features].

    A row holds for all of its HOP samples, so a mean is exact for frames of any size; zeros beyond the end.
    """
    edges = start + size * np.arange(frames + 1)
    total = np.zeros((len(features) + 1, features.shape[1]))
    np.cumsum(features, axis=0, dtype=np.float64, out=total[1:])
    padded = np.vstack((features, np.zeros((1, features.shape[1]))))
    rows = np.minimum(edges // HOP, len(features))
    inside = np.minimum(edges - rows * HOP, HOP)[:, None] * padded[rows]
    upto = total[rows] * HOP + inside
    means: Features = (np.diff(upto, axis=0) / size).astype(np.float32)
    return means


EXTRACTORS: dict[str, Callable[[], Extractor]] = {"onset": OnsetStrength}
