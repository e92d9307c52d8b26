"""What is seen of a sound before it is heard: waveform peaks and a spectrogram thumbnail, made once and cached.

The cache is keyed by the audio's SHA-256 and holds no truth: a record that is torn or gone is made anew, and a cache
that can't be written is done without.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from orchestrator.audition.index import Sound
from orchestrator.pages.spectrogram import VERSION, colour_map, shades, spectrogram
from samplernn import commit
from samplernn.audio import decode_flac
from samplernn.errors import BadAudio, Damaged, StorageError
from samplernn.storage import Storage

Pixels = npt.NDArray[np.uint8]

PEAKS = 600
"""Points of a waveform."""
STRIP_WIDTH, STRIP_HEIGHT = 152, 42
"""Pixels of a thumbnail: a waveform above a spectrogram."""
WAVE_HEIGHT = 14
SINGLE = 3
"""So many thumbnails of a cell are below one another; more are in two columns. The page lays its buttons out alike."""
_VERSION = f"{VERSION}.1"
_WAVE_SHADE = 190


@dataclass(frozen=True)
class Preview:
    """Of one sound. `error` says why there is none."""

    seconds: float = 0.0
    peaks: tuple[int, ...] = ()
    """Largest amplitude of each of PEAKS parts, in 127ths of full scale."""
    strip: bytes = b""
    """Shades uint8 [STRIP_HEIGHT, STRIP_WIDTH], deflated as PNG."""
    error: str = ""


def preview(cache: Storage, sound: Sound) -> Preview:
    """The preview of a sound, from the cache where it is there; a sound that can't be decoded gives its reason."""
    folder, name = cache.at(sound.sha256[:2]), f"{sound.sha256}.json"
    with suppress(FileNotFoundError, StorageError, KeyError):
        body = commit.read_record(folder, name)
        if body["version"] == _VERSION:
            return Preview(body["seconds"], tuple(body["peaks"]), base64.b64decode(body["strip"]))
    try:
        pcm, rate = decode_flac(commit.read_file(sound.folder, sound.file))
    except (FileNotFoundError, Damaged, BadAudio) as error:
        return Preview(error=str(error))
    made = Preview(
        len(pcm) / rate, tuple(peaks(pcm, PEAKS).tolist()), _encoded(Image.fromarray(strip(pcm, rate)))
    )
    body = {
        "version": _VERSION,
        "seconds": made.seconds,
        "peaks": made.peaks,
        "strip": base64.b64encode(made.strip).decode(),
    }
    with suppress(StorageError):  # full or read-only: it is made again the next time
        commit.write_record(folder, name, body)
    return made


def sheet(previews: Sequence[Preview]) -> bytes:
    """PNG of all thumbnails of a cell, as they lie on the wall; a sound without one leaves its place black."""
    columns = 1 if len(previews) <= SINGLE else 2
    rows = -(-len(previews) // columns) or 1
    whole = np.zeros((rows * STRIP_HEIGHT, columns * STRIP_WIDTH), dtype=np.uint8)
    for at, made in enumerate(previews):
        if made.strip:
            row, column = divmod(at, columns)
            y, x = row * STRIP_HEIGHT, column * STRIP_WIDTH
            whole[y : y + STRIP_HEIGHT, x : x + STRIP_WIDTH] = np.asarray(Image.open(io.BytesIO(made.strip)))
    picture = Image.fromarray(whole)
    picture.putpalette(colour_map().tobytes())
    return _encoded(picture)


def peaks(pcm: npt.NDArray[np.int16], points: int) -> npt.NDArray[np.int64]:
    """Largest amplitude of each of `points` equal parts of PCM [samples], 0 to 127."""
    edges = np.linspace(0, len(pcm), points + 1).astype(np.int64)[:-1]
    if not len(pcm):
        return np.zeros(points, dtype=np.int64)
    loudest = np.maximum.reduceat(np.abs(pcm.astype(np.int32)), np.minimum(edges, len(pcm) - 1))
    heights: npt.NDArray[np.int64] = np.minimum(127, loudest.astype(np.int64) * 127 // 32767)
    return heights


def strip(pcm: npt.NDArray[np.int16], rate: int) -> Pixels:
    """Shades [STRIP_HEIGHT, STRIP_WIDTH]: the waveform, and the spectrogram below it."""
    levels = spectrogram(pcm, rate, STRIP_HEIGHT - WAVE_HEIGHT)
    at = (np.arange(STRIP_WIDTH) * levels.shape[1]) // STRIP_WIDTH
    reach = peaks(pcm, STRIP_WIDTH) / 127 * (WAVE_HEIGHT / 2 - 1)
    distance = np.abs(np.arange(WAVE_HEIGHT) - (WAVE_HEIGHT - 1) / 2)[:, None]
    wave = np.where(distance <= np.maximum(reach, 0.5), _WAVE_SHADE, 0)
    return np.concatenate([wave.astype(np.uint8), shades(levels[:, at], pcm)])


def _encoded(picture: Image.Image) -> bytes:
    png = io.BytesIO()
    picture.save(png, format="PNG", compress_level=4)
    return png.getvalue()
