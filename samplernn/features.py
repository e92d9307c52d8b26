"""Local conditioning: features of a recording, a row every HOP samples, averaged over the frames that they condition.

A row describes the samples [row * HOP, (row + 1) * HOP) and is computed from the very PCM that a model is trained on,
so that audio and features can't come apart. The top tier's step k is given the mean over the samples it conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

HOP = 128
"""Samples a row."""
_WINDOW = 1024
_BLOCK = 4096
Features = npt.NDArray[np.float32]


def measure_features(pcm: npt.NDArray[np.int16], names: Sequence[str]) -> Features:
    """Features of a recording [samples] of int16: float32 [ceil(samples / HOP), names]."""
    return np.stack([EXTRACTORS[name](pcm) for name in names], axis=1)


def onset_strength(pcm: npt.NDArray[np.int16]) -> Features:
    """How much louder the spectrum has become since the row before: spectral flux, in [0, 1].

    Hann windows of 1,024 samples around each row, ln(1 + 100 |X|), the mean of what rose over all bins (Böck and
    Widmer, DAFx 2013, without their maximum filter); divided by its 99th percentile in this recording and clipped.
    """
    rows = -(-len(pcm) // HOP)
    before = (_WINDOW - HOP) // 2
    padded = np.zeros(rows * HOP + _WINDOW, dtype=np.float32)
    padded[before : before + len(pcm)] = pcm.astype(np.float32) / 32768
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP][:rows]
    hann = np.hanning(_WINDOW).astype(np.float32)
    flux, last = np.zeros(rows, dtype=np.float32), None
    for first in range(0, rows, _BLOCK):
        block = np.log1p(100 * np.abs(np.fft.rfft(windows[first : first + _BLOCK] * hann, axis=1)))
        earlier = np.concatenate((block[:1] if last is None else last, block[:-1]))
        flux[first : first + len(block)] = np.maximum(block - earlier, 0).mean(axis=1)
        last = block[-1:]
    loud = float(np.percentile(flux, 99)) if rows else 0.0
    return np.clip(flux / loud, 0, 1) if loud > 0 else flux


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


EXTRACTORS: dict[str, Callable[[npt.NDArray[np.int16]], Features]] = {"onset": onset_strength}
