"""Integrated loudness (ITU-R BS.1770-4) of a signal of any length, gathered block by block.

The K-weighting filters are pyloudnorm's; its meter wants the whole signal at once, which an hours-long track is not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samplernn.errors import BadInput

_HOP_SECONDS, _HOPS_A_BLOCK = 0.1, 4
_ABSOLUTE_LUFS, _RELATIVE_LU = -70.0, -10.0
_OFFSET = -0.691


class Loudness:
    """Give `add` a mono signal in blocks of any size; then take `lufs`."""

    def __init__(self, sample_rate: int) -> None:
        try:
            from pyloudnorm import IIRfilter
            from scipy.signal import lfilter
        except ImportError as error:
            raise BadInput(
                "level=lufs needs pyloudnorm: pip install 'samplernn-orchestrator[lufs]', or take level=peak"
            ) from error
        shelf = IIRfilter(4.0, 1 / np.sqrt(2), 1500.0, sample_rate, "high_shelf")
        high_pass = IIRfilter(0.0, 0.5, 38.0, sample_rate, "high_pass")
        self._filters = [(one.passband_gain * one.b, one.a) for one in (shelf, high_pass)]
        self._states = [np.zeros(len(a) - 1) for _, a in self._filters]
        self._lfilter = lfilter
        self._hop = round(_HOP_SECONDS * sample_rate)
        self._held = np.zeros(0)
        self._energies: list[npt.NDArray[np.float64]] = []

    def add(self, signal: npt.NDArray[np.float32]) -> None:
        """The next samples [samples], full scale 1."""
        weighted: npt.NDArray[np.float64] = signal.astype(np.float64)
        for index, (b, a) in enumerate(self._filters):
            weighted, self._states[index] = self._lfilter(b, a, weighted, zi=self._states[index])
        weighted = np.concatenate([self._held, weighted])
        whole = len(weighted) // self._hop * self._hop
        hops = weighted[:whole].reshape(-1, self._hop)
        self._energies.append(np.einsum("ij,ij->i", hops, hops))
        self._held = weighted[whole:]

    def lufs(self) -> float | None:
        """Loudness of all that was added, gated; None for silence and for less than 0.4 s."""
        hops = np.concatenate(self._energies) if self._energies else np.zeros(0)
        if len(hops) < _HOPS_A_BLOCK:
            return None
        sums = np.convolve(hops, np.ones(_HOPS_A_BLOCK), "valid")
        power = sums / (_HOPS_A_BLOCK * self._hop)
        power = power[power > 10 ** ((_ABSOLUTE_LUFS - _OFFSET) / 10)]
        if not len(power):
            return None
        gate = float(np.mean(power)) * 10 ** (_RELATIVE_LU / 10)
        return float(_OFFSET + 10 * np.log10(np.mean(power[power > gate])))
