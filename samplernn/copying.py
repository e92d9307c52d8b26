"""Does a song copy? The passage of the training music that a song resembles most, by spectrum and then by waveform.

A model that was trained for too long plays back what it was trained on. Every two seconds of a song are looked up in
the training music in two steps: by spectrogram, normalised so that level does not count, against every place of the
music at once (a matrix product); then the likeliest places by the waveform's correlation, at about 4 kHz, over all
shifts within a spectrogram frame. A copied passage correlates near 1, another take of the same riff does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samplernn.chunks import Dataset
from samplernn.measures import Audio, decimate

PATCH_SECONDS = 2.0
HOP_SECONDS = 1.0
COPIED = 0.7
"""A likeness above this is called a copy: the demo's music against its own other parts stays below."""
_FRAME_SECONDS = 0.064
_FRAMES = round(PATCH_SECONDS / _FRAME_SECONDS)
_BANDS = 32
_LOWEST_HZ, _FLOOR_DB = 60.0, -60.0
_CANDIDATES = 6
_PLACES_AT_ONCE = 8192
_READ_SECONDS = 60

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Passage:
    """Two seconds of a song and what they resemble most in the training music."""

    at: float
    """Where in the song, in seconds."""
    likeness: float
    """Correlation of the waveforms, in [0, 1]; 1 is the same sound."""
    track: int
    """Number of the track in its dataset."""
    track_at: float
    """Where in the track, in seconds."""


class TrainingMusic:
    """The training split of a dataset as it is looked up: a spectrogram of every region, a few MB an hour."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset, self._rate = dataset, dataset.sample_rate
        self._frame = round(_FRAME_SECONDS * self._rate)
        spectra, regions = [], []
        for track, start, stop in dataset.regions["train"]:
            levels = _spectra(self._blocks(track, start, stop), self._rate, self._frame)
            if len(levels) >= _FRAMES:
                spectra.append(levels)
                regions.append((track, start, stop))
        self._spectra, self._regions = spectra, regions

    def nearest(self, song: Audio) -> list[Passage]:
        """What each second of a song [samples] in [-1, 1], at the dataset's rate, resembles most.

        Empty for a song shorter than two seconds, or music without a region of that length.
        """
        return self.nearest_each([song])[0]

    def nearest_each(self, songs: Sequence[Audio]) -> list[list[Passage]]:
        """`nearest` of each of some songs, in one walk over the music."""
        hop = round(HOP_SECONDS / _FRAME_SECONDS)
        starts, patches = [], []
        for number, song in enumerate(songs):
            levels = _spectra(iter([song]), self._rate, self._frame)
            for at in range(0, len(levels) - _FRAMES + 1, hop):
                starts.append((number, at * self._frame))
                patches.append(levels[at : at + _FRAMES].ravel())
        passages: list[list[Passage]] = [[] for _ in songs]
        if starts and self._spectra:
            found = self._candidates(_normalised(np.stack(patches)))
            for (number, at), places in zip(starts, found, strict=True):
                passages[number].append(self._closest(songs[number], at, places))
        return passages

    def _candidates(self, patches: Float) -> list[list[tuple[int, int]]]:
        """For each patch the likeliest places (region, frame), by spectrogram."""
        scores, wheres = [], []
        for region, levels in enumerate(self._spectra):
            windows = np.lib.stride_tricks.sliding_window_view(levels, (_FRAMES, _BANDS))[:, 0]
            for first in range(0, len(windows), _PLACES_AT_ONCE):
                block = windows[first : first + _PLACES_AT_ONCE].reshape(-1, _FRAMES * _BANDS)
                score = patches @ _normalised(block).T
                best = np.argpartition(-score, min(_CANDIDATES, score.shape[1]) - 1, axis=1)[:, :_CANDIDATES]
                scores.append(np.take_along_axis(score, best, axis=1))
                wheres.append(np.stack([np.full_like(best, region), best + first], axis=2))
        score, where = np.concatenate(scores, axis=1), np.concatenate(wheres, axis=1)
        order = np.argsort(-score, axis=1)[:, :_CANDIDATES]
        return [[(int(r), int(f)) for r, f in rows[at]] for rows, at in zip(where, order, strict=True)]

    def _closest(self, song: Audio, start: int, places: list[tuple[int, int]]) -> Passage:
        """The candidate whose waveform is most alike, over all shifts within a frame either way."""
        patch = decimate(song[start : start + _FRAMES * self._frame], self._rate)
        best = Passage(start / self._rate, 0.0, 0, 0.0)
        for region, frame in places:
            track, first, stop = self._regions[region]
            low = max(first, first + (frame - 1) * self._frame)
            high = min(stop, first + (frame + 1 + _FRAMES) * self._frame)
            music = np.concatenate(list(self._blocks(track, low, high)))
            likeness, shift = _correlation(patch, decimate(music, self._rate))
            if likeness > best.likeness:
                at = low / self._rate + shift * _FRAMES * self._frame / self._rate / len(patch)
                best = Passage(start / self._rate, likeness, track, at)
        return best

    def _blocks(self, track: int, start: int, stop: int) -> Iterator[Audio]:
        """Samples [start, stop) of a track in pieces of whole frames, in [-1, 1]."""
        step = _READ_SECONDS * round(1 / _FRAME_SECONDS) * self._frame
        for at in range(start, stop, step):
            pcm = np.empty(min(step, stop - at), dtype=np.int16)
            self._dataset.tracks[track].read(at, at + len(pcm), pcm)
            yield pcm.astype(np.float32) / np.float32(32768)


def closest(passages: list[Passage]) -> Passage | None:
    """The passage of a song that is most alike; None when there is none."""
    return max(passages, key=lambda one: one.likeness, default=None)


def likeness(passages: list[Passage]) -> dict[str, Any]:
    """How new a sound is: `novelty` 1 is unlike all of the training music, 0 is a copy; and where it is `nearest`.

    Empty where nothing could be compared.
    """
    nearest = closest(passages)
    return {"novelty": 1 - nearest.likeness, "nearest": asdict(nearest)} if nearest else {}


def _spectra(blocks: Iterator[Audio], rate: int, frame: int) -> Float:
    """Levels in dB of consecutive frames [frames, _BANDS], bands equally wide in octaves, floored."""
    edges = np.geomspace(_LOWEST_HZ, rate / 2, _BANDS + 1)
    bins = np.fft.rfftfreq(frame, 1 / rate)
    weights = np.maximum(
        0, 1 - np.abs(np.log2(np.maximum(bins, 1)[:, None] / np.sqrt(edges[:-1] * edges[1:]))) * 2
    )
    weights = (weights / np.maximum(weights.sum(axis=0), 1e-9)).astype(np.float32)
    window = np.hanning(frame).astype(np.float32)
    rows = []
    for block in blocks:
        whole = block[: len(block) // frame * frame].reshape(-1, frame)
        power = np.abs(np.fft.rfft(whole * window, axis=1)).astype(np.float32) ** 2
        rows.append(np.maximum(10 * np.log10(power @ weights + 1e-12), _FLOOR_DB))
    return np.concatenate(rows).astype(np.float32) if rows else np.empty((0, _BANDS), dtype=np.float32)


def _normalised(rows: npt.NDArray[np.float32]) -> Float:
    """Each row less its mean, of length 1; a row without any change stays zero."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(lengths, 1e-6), dtype=np.float32)


def _correlation(patch: Audio, music: Audio) -> tuple[float, int]:
    """Largest magnitude of the normalised correlation of a patch with equally long parts of music, and the shift."""
    shifts = len(music) - len(patch)
    if shifts < 0:
        return 0.0, 0
    patch, music = patch - patch.mean(), music - music.mean()
    size = 1 << (len(music) + len(patch) - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(music, size) * np.conj(np.fft.rfft(patch, size)), size)[: shifts + 1]
    energy = np.concatenate(([0.0], np.cumsum(np.square(music, dtype=np.float64))))
    energies = energy[len(patch) :][: shifts + 1] - energy[: shifts + 1]
    own = float(np.square(patch, dtype=np.float64).sum())
    if own < 1e-9:
        return 0.0, 0
    alike = np.abs(products) / np.sqrt(np.maximum(energies * own, 1e-12))
    shift = int(np.argmax(alike))
    return float(min(1.0, alike[shift])), shift
