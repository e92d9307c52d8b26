"""DC kept out of a song as it is written: a model's samples have a mean that wanders slowly and isn't heard."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CUTOFF_HZ = 5.0
"""Of the first-order high pass of new songs: -0.1 dB at 32 Hz, and no change of level beyond it."""


class DcBlocker:
    """Hears PCM in pieces of any size; what comes out doesn't depend on where they were cut."""

    def __init__(self, sample_rate: int, cutoff: float = CUTOFF_HZ) -> None:
        """sample_rate and cutoff in Hz."""
        pole = float(np.exp(-2 * np.pi * cutoff / sample_rate))
        self._b, self._a = [(1 + pole) / 2, -(1 + pole) / 2], [1.0, -pole]
        self._state = np.zeros(1)

    def __call__(self, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """The next samples [samples] without DC."""
        from scipy.signal import lfilter  # a second that most can do without

        out, self._state = lfilter(self._b, self._a, pcm.astype(np.float64), zi=self._state)
        return np.asarray(np.clip(np.rint(out), -32768, 32767), dtype=np.int16)
