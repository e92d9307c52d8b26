"""A whole song to look at and to seek in: its spectrogram, and below it on the same line of time its waveform."""

from __future__ import annotations

import numpy as np

from orchestrator.pages.spectrogram import to_png
from samplernn.spectrogram import Pcm, shades, spectrogram

HEIGHT, GAP, WAVE = 160, 4, 40
WIDEST = 12_000
"""Pixels, above which a longer song gets fewer a second: browsers don't show pictures of any width."""
VERSION = 1
"""Raised whenever the same PCM would give another picture."""
_WAVE_SHADE = 176


def song_png(pcm: Pcm, sample_rate: int) -> bytes:
    """PNG, HEIGHT + GAP + WAVE pixels high; 24 pixels a second."""
    levels = spectrogram(pcm, sample_rate, HEIGHT, WIDEST)
    return to_png(
        np.vstack(
            [shades(levels, pcm), np.zeros((GAP, levels.shape[1]), np.uint8), _wave(pcm, levels.shape[1])]
        )
    )


def _wave(pcm: Pcm, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Shades [WAVE, columns] of the waveform; full scale fills it."""
    parts = (np.arange(columns) * len(pcm)) // columns
    lows, highs = (reduce.reduceat(pcm, parts).astype(np.int64) for reduce in (np.minimum, np.maximum))
    rows = (0.5 - (np.arange(WAVE)[:, None] + 0.5) / WAVE) * 65536
    step = 32768 / WAVE
    drawn = (rows >= lows - step) & (rows <= highs + step)
    return np.where(drawn, np.uint8(_WAVE_SHADE), np.uint8(0))
