"""DC kept out of a song as it is written: a model's samples have a mean that wanders slowly and isn't heard.

A high pass of second order removes what wanders. A song that ends in mid-wave still has a mean: a tone of amplitude a
at f Hz leaves up to a / (pi f seconds), whatever the filter. So the whole song is then moved by whole steps of 16 bits,
which is nothing in a song of minutes and changes no shape in one of half a second.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
CUTOFF_HZ = 8.0
"""Of the high pass of new songs: -0.11 dB at 20 Hz, -0.02 at 30 and -0.01 at 40."""
_LOWEST, _HIGHEST = -32768, 32767


def without_dc(
    read: Callable[[], Iterable[Pcm]], sample_rate: int, cutoff: float = CUTOFF_HZ
) -> Iterator[Pcm]:
    """A whole song, piece by piece, with a mean of at most half a step (1.5e-5 of full scale).

    `read` gives the song's pieces [samples] from its beginning, and is called twice: the mean is known at the end.
    """
    levels = np.zeros(_HIGHEST - _LOWEST + 1, dtype=np.int64)
    for pcm in _passed(read, sample_rate, cutoff):
        levels += np.bincount(pcm.astype(np.int32) - _LOWEST, minlength=len(levels))
    shift = _shift(levels)
    for pcm in _passed(read, sample_rate, cutoff):
        yield _moved(pcm, shift).astype(np.int16)


class HighPass:
    """Hears PCM in pieces of any size; what comes out doesn't depend on where they were cut."""

    def __init__(self, sample_rate: int, cutoff: float = CUTOFF_HZ) -> None:
        """A Butterworth filter of second order; sample_rate and cutoff in Hz."""
        k = math.tan(math.pi * cutoff / sample_rate)
        norm = 1 / (1 + math.sqrt(2) * k + k * k)
        self._b = [norm, -2 * norm, norm]
        self._a = [1.0, 2 * (k * k - 1) * norm, (1 - math.sqrt(2) * k + k * k) * norm]
        self._state = np.zeros(2)

    def __call__(self, pcm: Pcm) -> Pcm:
        """The next samples [samples] without what lies below the cutoff."""
        from scipy.signal import lfilter  # a second that most can do without

        out, self._state = lfilter(self._b, self._a, pcm.astype(np.float64), zi=self._state)
        return np.asarray(np.clip(np.rint(out), _LOWEST, _HIGHEST), dtype=np.int16)


def _passed(read: Callable[[], Iterable[Pcm]], sample_rate: int, cutoff: float) -> Iterator[Pcm]:
    high_pass = HighPass(sample_rate, cutoff)
    return (high_pass(pcm) for pcm in read())


def _shift(levels: npt.NDArray[np.int64]) -> int:
    """What to subtract from every sample, given how often each level occurs, for a mean within half a step of 0."""
    shifts, steps, half = range(2 * _LOWEST, -2 * _LOWEST), np.arange(_LOWEST, _HIGHEST + 1), levels.sum() / 2
    return shifts[bisect_left(shifts, True, key=lambda by: bool(levels @ _moved(steps, by) <= half))]


def _moved(pcm: npt.NDArray[np.integer], shift: int) -> npt.NDArray[np.int32]:
    return np.asarray(np.clip(pcm.astype(np.int32) - shift, _LOWEST, _HIGHEST))
