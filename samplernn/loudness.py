"""Loudness as ITU-R BS.1770-4 measures it, piece by piece: memory does not depend on how long the audio is."""

from __future__ import annotations

from math import log10

import numpy as np
import numpy.typing as npt

_STEP_SECONDS = 0.1
"""Blocks of 0.4 s begin every 0.1 s; energies of these steps are all that is kept."""
_STEPS = 4
SHORTEST_SECONDS = 0.4
"""One block: below it there is no loudness."""
_SILENT, _BELOW = -70.0, 10.0
"""Gates: blocks below -70 LUFS don't count, then those 10 LU below the mean of the others."""


class LoudnessMeter:
    """Hears mono audio in pieces; `integrated` is its loudness so far."""

    def __init__(self, sample_rate: int) -> None:
        """sample_rate in Hz."""
        from pyloudnorm.iirfilter import IIRfilter  # and with it scipy: a second that most can do without

        # The K weighting: a head's high shelf, and a high pass.
        shelf = IIRfilter(4.0, 1 / np.sqrt(2), 1500.0, sample_rate, "high_shelf")
        low_cut = IIRfilter(0.0, 0.5, 38.0, sample_rate, "high_pass")
        self._filters = [(stage.b, stage.a, np.zeros(2)) for stage in (shelf, low_cut)]
        self._step = round(_STEP_SECONDS * sample_rate)
        self._rest = np.empty(0)
        self._energies: list[float] = []

    def hear(self, audio: npt.NDArray[np.float32]) -> LoudnessMeter:
        """Take in the next samples [samples] in [-1, 1]."""
        from scipy.signal import lfilter

        signal = audio.astype(np.float64)
        for at, (b, a, state) in enumerate(self._filters):
            signal, state = lfilter(b, a, signal, zi=state)
            self._filters[at] = (b, a, state)
        signal = np.concatenate([self._rest, signal])
        whole = len(signal) // self._step * self._step
        self._energies += np.square(signal[:whole]).reshape(-1, self._step).mean(axis=1).tolist()
        self._rest = signal[whole:]
        return self

    @property
    def integrated(self) -> float | None:
        """Gated loudness in LUFS; None below 0.4 s, or where all is silent."""
        steps = np.array(self._energies)
        if len(steps) < _STEPS:
            return None
        blocks = np.convolve(steps, np.ones(_STEPS) / _STEPS, mode="valid")
        loud = blocks[_lufs(blocks) > _SILENT]
        if not len(loud):
            return None
        gated = loud[_lufs(loud) > _lufs(loud.mean()) - _BELOW]
        return -0.691 + 10 * log10(float(gated.mean()))


def _lufs(energy: npt.NDArray[np.float64] | np.float64) -> npt.NDArray[np.float64]:
    return np.asarray(-0.691 + 10 * np.log10(np.maximum(energy, 1e-12)))
