"""What is seen of a sound: the log-frequency spectrogram of int16 PCM, in dB and as shades of a picture.

Time runs to the right, PIXELS_PER_SECOND wide up to a bound; frequency rises on a logarithmic scale from FLOOR_HZ to
half the sample rate, so that an octave is equally tall everywhere.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
Levels = npt.NDArray[np.float64]
Frames = npt.NDArray[np.float32]


class Samples(Protocol):
    """int16 PCM that is read in slices: an array, or a track on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Pcm: ...


FLOOR_HZ = 40.0
PIXELS_PER_SECOND = 24
MIN_WIDTH, MAX_WIDTH = 120, 1600
RANGE_DB, QUIET_DB = 66.0, -48.0
GAMMA = 1.3
VERSION = 2
"""Raised whenever the same PCM would give another picture."""
FRAME = 2048
"""Samples of one spectrum."""
_FRAMES_PER_COLUMN = 6
_COLUMNS_AT_ONCE = 16
"""So few that what is in between stays in the cache: twice as fast as 64."""


def width(samples: int, sample_rate: int, widest: int = MAX_WIDTH) -> int:
    """Width in pixels of the picture of `samples` samples."""
    return int(np.clip(round(samples / sample_rate * PIXELS_PER_SECOND), min(MIN_WIDTH, widest), widest))


def row_frequencies(height: int, sample_rate: int) -> npt.NDArray[np.float64]:
    """Centre frequency in Hz of every row of pixels [height], the top row first."""
    return np.geomspace(sample_rate / 2, FLOOR_HZ, height)


def spectrogram(pcm: Samples, sample_rate: int, height: int = 160, widest: int = MAX_WIDTH) -> Levels:
    """Mean power of every row's band in dB of full scale [height, width], the highest frequency first.

    Of a long sound only the frames that are shown are read. A full-scale sine measures 0 dB at the bottom, where bands
    are one bin wide, and less above.
    """
    columns = width(len(pcm), sample_rate, widest)
    weights = rows_from_bins(height, sample_rate)
    window = hann()
    most = _FRAMES_PER_COLUMN if widest == MAX_WIDTH else 2
    per_column = int(np.clip(-(-len(pcm) * 2 // (columns * FRAME)), 2, most))
    centres = (np.arange(columns * per_column) + 0.5) * len(pcm) / (columns * per_column)
    middles = np.minimum(centres.astype(np.int64), len(pcm))
    power = np.empty((height, columns))
    for first in range(0, columns, _COLUMNS_AT_ONCE):
        block = middles[first * per_column : (first + _COLUMNS_AT_ONCE) * per_column]
        bins = bin_powers(_frames(pcm, block) * window)
        bins = bins.reshape(-1, per_column, bins.shape[1]).mean(axis=1)
        power[:, first : first + len(bins)] = weights @ bins.T
    return np.asarray(10 * np.log10(power + 1e-12))


def shades(levels: Levels, pcm: Samples, rms: float | None = None) -> npt.NDArray[np.uint8]:
    """Places in the colour map for levels [height, width] of PCM. A sine of the sound's own loudness is white and
    RANGE_DB below that black, so that loud and quiet music show alike and noise stays dim; what is quieter than
    QUIET_DB altogether is drawn dark."""
    loudness = float(np.sqrt(np.mean((pcm[:] / 32768.0) ** 2))) if rms is None and len(pcm) else rms or 0.0
    top = max(20 * np.log10(max(loudness, 1e-6)), QUIET_DB)
    shade = np.clip((levels - top) / RANGE_DB + 1, 0, 1) ** GAMMA
    return np.asarray((shade * 255).round().astype(np.uint8))


def hann() -> Frames:
    """The window [FRAME] that makes a full-scale sine's bin 1."""
    window = np.hanning(FRAME)
    return np.asarray(window * (2 / window.sum()), np.float32)


def bin_powers(frames: Frames) -> Frames:
    """Power of every bin of windowed frames [frames, FRAME]: [frames, FRAME / 2 + 1]."""
    bins = np.fft.rfft(frames, axis=1)
    return np.asarray(bins.real**2 + bins.imag**2)  # a square root and its square took longer than the FFT


def _frames(pcm: Samples, middles: npt.NDArray[np.int64]) -> Frames:
    """Frames [middles, FRAME] of the sound, full scale 1, with zeros before its start and behind its end."""
    out = np.zeros((len(middles), FRAME), np.float32)
    for row, middle in zip(out, middles.tolist(), strict=True):
        start = middle - FRAME // 2
        piece = pcm[max(0, start) : start + FRAME]
        row[max(0, -start) : max(0, -start) + len(piece)] = piece
    out /= 32768
    return out


@lru_cache(maxsize=8)
def rows_from_bins(height: int, sample_rate: int) -> Frames:
    """Weights [height, bins], read-only: a triangle around each row's frequency, at least one bin wide, of sum 1."""
    bins = np.arange(FRAME // 2 + 1) * sample_rate / FRAME
    centres = row_frequencies(height, sample_rate)[:, None]
    step = (sample_rate / 2 / FLOOR_HZ) ** (1 / (height - 1)) - 1
    reach = np.maximum(centres * step, sample_rate / FRAME)
    weights = np.maximum(0, 1 - np.abs(bins - centres) / reach)
    weights = np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
    weights.flags.writeable = False  # one array for all who ask
    return weights
