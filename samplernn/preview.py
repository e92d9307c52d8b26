"""What is seen of a sound before it is heard: waveform peaks and a thumbnail, made with a checkpoint's clips.

previews.safetensors holds those of several sounds: seconds float64 [sounds], peaks uint8 [sounds, PEAKS] and strips
uint8 [sounds, STRIP_HEIGHT, STRIP_WIDTH].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from samplernn import spectrogram
from samplernn.errors import Damaged

Pcm = npt.NDArray[np.int16]
Pixels = npt.NDArray[np.uint8]

PREVIEWS = "previews.safetensors"
PEAKS = 600
"""Points of a waveform."""
STRIP_WIDTH, STRIP_HEIGHT = 152, 42
"""Pixels of a thumbnail: a waveform above a spectrogram."""
WAVE_HEIGHT = 14
VERSION = 100 * spectrogram.VERSION + 2
"""Raised whenever the same PCM would give another preview; those of another version are made anew."""
_WAVE_SHADE = 190


@dataclass(frozen=True)
class Preview:
    """Of one sound."""

    seconds: float
    peaks: Pixels
    """Largest amplitude of each of PEAKS parts [PEAKS], in 127ths of full scale."""
    strip: Pixels
    """Shades [STRIP_HEIGHT, STRIP_WIDTH], 0 dark to 255 bright."""


def make_preview(pcm: Pcm, sample_rate: int) -> Preview:
    """The preview of PCM [samples]."""
    return Preview(len(pcm) / sample_rate, peaks(pcm, PEAKS), strip(pcm, sample_rate))


def pack(previews: Sequence[Preview]) -> bytes:
    """The bytes of a previews.safetensors."""
    data: bytes = save(
        {
            "version": np.array([VERSION]),
            "seconds": np.array([made.seconds for made in previews]),
            "peaks": _stacked([made.peaks for made in previews], (PEAKS,)),
            "strips": _stacked([made.strip for made in previews], (STRIP_HEIGHT, STRIP_WIDTH)),
        }
    )
    return data


def unpack(data: bytes) -> list[Preview]:
    """The previews of a previews.safetensors; none where they are of another version. Raises Damaged."""
    try:
        arrays = load(data)
        if arrays["version"].tolist() != [VERSION]:
            return []
        each = zip(arrays["seconds"].tolist(), arrays["peaks"], arrays["strips"], strict=True)
        return [Preview(seconds, heights, shades) for seconds, heights, shades in each]
    except (SafetensorError, KeyError, ValueError) as error:
        raise Damaged(
            f"these {len(data)} bytes are no previews ({error}); delete them: they are made anew"
        ) from error


def _stacked(rows: Sequence[Pixels], shape: tuple[int, ...]) -> Pixels:
    return np.stack(rows) if rows else np.empty((0, *shape), np.uint8)


def peaks(pcm: Pcm, points: int) -> Pixels:
    """Largest amplitude of each of `points` equal parts of PCM [samples], 0 to 127."""
    if not len(pcm):
        return np.zeros(points, dtype=np.uint8)
    edges = np.linspace(0, len(pcm), points + 1).astype(np.int64)[:-1]
    loudest = np.maximum.reduceat(np.abs(pcm.astype(np.int32)), np.minimum(edges, len(pcm) - 1))
    return np.minimum(127, loudest.astype(np.int64) * 127 // 32767).astype(np.uint8)


def strip(pcm: Pcm, sample_rate: int) -> Pixels:
    """Shades [STRIP_HEIGHT, STRIP_WIDTH]: the waveform, and the spectrogram below it."""
    levels = spectrogram.spectrogram(pcm, sample_rate, STRIP_HEIGHT - WAVE_HEIGHT, STRIP_WIDTH)
    at = (np.arange(STRIP_WIDTH) * levels.shape[1]) // STRIP_WIDTH
    reach = peaks(pcm, STRIP_WIDTH) / 127 * (WAVE_HEIGHT / 2 - 1)
    distance = np.abs(np.arange(WAVE_HEIGHT) - (WAVE_HEIGHT - 1) / 2)[:, None]
    wave = np.where(distance <= np.maximum(reach, 0.5), _WAVE_SHADE, 0)
    return np.concatenate([wave.astype(np.uint8), spectrogram.shades(levels[:, at], pcm)])
