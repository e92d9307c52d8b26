"""The measures of a whole track, gathered block by block, however long it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samplernn.measures import FRAME, SILENCE_DBFS, dbfs, frame_flatness, spectral_flatness
from samplernn.passages import Passages, joined

_HALF = FRAME // 2
_STRIDE = 16 * _HALF
"""Samples from one frame whose spectrum is taken to the next: every sixteenth of those that `measures` takes."""

Signal = npt.NDArray[np.float32]


class TrackMeasures:
    """Give `add` the signal in blocks of any size; then ask."""

    def __init__(self) -> None:
        self.samples = 0
        self.peak = 0.0
        self._sum = 0.0
        self._flatness, self._heard = 0.0, 0
        self._held: Signal = np.zeros(0, np.float32)
        self._energies: list[npt.NDArray[np.float32]] = []

    def add(self, signal: Signal) -> None:
        """The next samples [samples], full scale 1."""
        self.samples += len(signal)
        if len(signal):
            self.peak = max(self.peak, float(signal.max()), -float(signal.min()))
        joined_up = np.concatenate([self._held, signal]) if len(self._held) else signal
        whole = len(joined_up) // _STRIDE * _STRIDE
        self._take(joined_up[:whole])
        self._held = joined_up[whole:]

    def result(self) -> dict[str, float]:
        """What measures.measure says, with the flatness of every sixteenth frame; clipping is seen elsewhere."""
        energies = self._half_energies()
        total = float(np.sum(energies, dtype=np.float64)) + self._rest_energy()
        frames = self._frame_levels(SILENCE_DBFS)
        flatness, heard = self._flatness, self._heard
        if not heard and self.samples:
            tail = spectral_flatness(self._held)
            flatness, heard = tail, 1
        return {
            "rms_dbfs": dbfs(float(np.sqrt(total / self.samples)) if self.samples else 0.0),
            "peak_dbfs": dbfs(self.peak),
            "dc": self.mean,
            "silence": float(np.mean(frames)) if len(frames) else 1.0,
            "flatness": flatness / heard if heard else 0.0,
        }

    @property
    def mean(self) -> float:
        """Mean of all samples: DC as a share of full scale."""
        held = float(np.sum(self._held, dtype=np.float64))
        return (self._sum + held) / self.samples if self.samples else 0.0

    def silent(self, below_dbfs: float, seconds: float, sample_rate: int) -> Passages:
        """Passages of at least `seconds` in which every frame of 1,024 samples lies below a level; and such ends."""
        quiet = self._frame_levels(below_dbfs)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
        runs = [[int(a) * _HALF, (int(b) + 1) * _HALF] for a, b in edges.reshape(-1, 2)]
        if runs and runs[-1][1] + _HALF > self.samples:
            runs[-1][1] = self.samples  # the last half frame is not measured alone
        return joined(run for run in runs if run[1] - run[0] >= seconds * sample_rate)

    def _take(self, signal: Signal) -> None:
        halves = signal.reshape(-1, _HALF)
        self._energies.append(np.einsum("ij,ij->i", halves, halves))
        # Of int16 PCM each sum is exact: 9 + 16 bits, sign included, in float32's 25.
        self._sum += float(np.sum(halves.sum(axis=1), dtype=np.float64))
        frames = signal.reshape(-1, _STRIDE)[:, :FRAME]
        heard = frames[np.einsum("ij,ij->i", frames, frames) > FRAME * 10 ** (SILENCE_DBFS / 10)]
        self._flatness += float(np.sum(frame_flatness(heard), dtype=np.float64))
        self._heard += len(heard)

    def _half_energies(self) -> npt.NDArray[np.float32]:
        rest = self._held[: len(self._held) // _HALF * _HALF].reshape(-1, _HALF)
        return np.concatenate([*self._energies, np.einsum("ij,ij->i", rest, rest)])

    def _rest_energy(self) -> float:
        rest = self._held[len(self._held) // _HALF * _HALF :].astype(np.float64)
        return float(rest @ rest)

    def _frame_levels(self, below_dbfs: float) -> npt.NDArray[np.bool_]:
        """Which of the half-overlapping frames lie below a level [frames]."""
        halves = self._half_energies()
        if 0 < self.samples < FRAME:
            halves = np.array([float(np.sum(halves)) + self._rest_energy(), 0.0], dtype=np.float32)
        quiet: npt.NDArray[np.bool_] = (halves[:-1] + halves[1:]) / FRAME < 10 ** (below_dbfs / 10)
        return quiet
