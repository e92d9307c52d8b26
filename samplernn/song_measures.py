"""The measures of a whole song, taken while it passes by: of all of it, and along it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from samplernn.loudness import LoudnessMeter
from samplernn.measures import (
    Audio,
    band_levels,
    centroid,
    dbfs,
    decimate,
    measure,
    repetition,
    rms,
    true_peaks,
    variety,
)

WINDOW_SECONDS = 10
"""One row of `along`."""
MEANS = ("clipped", "silence", "dc", "repetition")


class SongMeasures:
    """Hears a song's PCM in pieces of any size; memory grows by one row of figures for ten seconds."""

    def __init__(self, sample_rate: int) -> None:
        """sample_rate in Hz."""
        self._rate, self._window = sample_rate, WINDOW_SECONDS * sample_rate
        self._meter = LoudnessMeter(sample_rate)
        self._pending: list[Audio] = []
        self._waiting, self._energy, self._samples, self._peak = 0, 0.0, 0, 0.0
        self._rows: list[dict[str, float]] = []
        self._weights: list[int] = []
        self._bands: list[npt.NDArray[np.float64]] = []

    def hear(self, pcm: npt.NDArray[np.int16]) -> None:
        """Take in the next samples [samples]."""
        self._pending.append(pcm.astype(np.float32) / np.float32(32768))
        self._waiting += len(pcm)
        while self._waiting >= self._window:
            audio = np.concatenate(self._pending)
            self._judge(audio[: self._window])
            self._pending, self._waiting = [audio[self._window :]], self._waiting - self._window

    def finish(self) -> dict[str, Any]:
        """The measures of all that was heard, and `along`: a row for every ten seconds (the last may be shorter).

        Shares, repetition and the centroid are means over the rows by their length, flatness by what is not silent of
        it; variety is of the whole.
        """
        if self._waiting:
            self._judge(np.concatenate(self._pending))
            self._pending, self._waiting = [], 0
        weights = np.array(self._weights, dtype=np.float64)
        if not weights.sum():
            return {**measure(np.empty(0, dtype=np.float32)), "along": []}
        heard = weights * [max(1e-9, 1 - row["silence"]) for row in self._rows]
        mean = {key: float(np.average([row[key] for row in self._rows], weights=weights)) for key in MEANS}
        return {
            **mean,
            "rms_dbfs": dbfs(float(np.sqrt(self._energy / self._samples))),
            "peak_dbfs": max(row["peak_dbfs"] for row in self._rows),
            "true_peak_dbtp": dbfs(self._peak),
            "flatness": float(np.average([row["flatness"] for row in self._rows], weights=heard)),
            "centroid_hz": float(np.average([row["centroid_hz"] for row in self._rows], weights=heard)),
            "variety_db": variety(np.concatenate(self._bands)),
            "lufs": self._meter.integrated,
            "along": self._rows,
        }

    def _judge(self, audio: Audio) -> None:
        self._meter.hear(audio)
        self._energy += rms(audio) ** 2 * len(audio)
        self._samples += len(audio)
        self._peak = max(self._peak, float(true_peaks(audio, self._rate).max(initial=0.0)))
        repeats, _ = repetition(decimate(audio, self._rate))
        self._rows.append(
            {**measure(audio), "centroid_hz": centroid(audio, self._rate), "repetition": repeats}
        )
        self._weights.append(len(audio))
        self._bands.append(band_levels(audio, self._rate))
