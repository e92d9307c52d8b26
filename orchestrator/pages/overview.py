"""A whole track at a glance, seen in one pass while it is made: the waveform's extremes and a spectrogram.

A track's length is not known before its end, so columns begin short; whenever there are MOST of them, each two become
one. Memory and the number of spectra stay bounded however long the track is, and nothing is read again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.pages.spectrogram import _FRAME, _rows_from_bins, shades, to_png

MOST = 480
"""Columns; there are half as many at least, but in a short track."""
HEIGHT = 72
VERSION = 1
"""Raised whenever the same PCM would give another picture."""

Pcm = npt.NDArray[np.int16]


class Overview:
    """Give `add` a track's PCM in blocks of any size; then take `wave` and `picture`."""

    def __init__(self, sample_rate: int) -> None:
        """sample_rate in Hz."""
        self._column = _FRAME
        self._held = np.zeros(0, np.int16)
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._powers: list[npt.NDArray[np.float64]] = []
        self._weights = _rows_from_bins(HEIGHT, sample_rate)
        self._window = np.hanning(_FRAME) * (2 / np.hanning(_FRAME).sum() / 32768)

    def add(self, pcm: Pcm) -> None:
        """The next samples, int16 [samples]."""
        pcm, at = np.concatenate([self._held, pcm]), 0
        while at + self._column <= len(pcm):
            self._take(pcm[at : at + self._column])
            at += self._column
            if len(self._powers) == MOST:
                self._halve()
        self._held = pcm[at:]

    def wave(self) -> list[list[int]]:
        """Lowest and highest sample of each column: [lows, highs]."""
        self._end()
        return [self._lows, self._highs]

    def picture(self, rms: float) -> bytes:
        """PNG of the spectrogram [HEIGHT, columns]; `rms` is the track's level, full scale 1."""
        self._end()
        power = np.stack(self._powers, axis=1) if self._powers else np.zeros((HEIGHT, 1))
        return to_png(shades(10 * np.log10(power + 1e-12), np.zeros(0, np.int16), rms))

    def _take(self, column: Pcm) -> None:
        self._lows.append(int(column.min()))
        self._highs.append(int(column.max()))
        start = (len(column) - _FRAME) // 2
        bins = np.abs(np.fft.rfft(column[start : start + _FRAME] * self._window)) ** 2
        self._powers.append(self._weights @ bins)

    def _halve(self) -> None:
        self._column *= 2
        self._lows = [*map(min, self._lows[::2], self._lows[1::2])]
        self._highs = [*map(max, self._highs[::2], self._highs[1::2])]
        self._powers = [(a + b) / 2 for a, b in zip(self._powers[::2], self._powers[1::2], strict=True)]

    def _end(self) -> None:
        """What is left becomes a column where it is the greater part of one, or all that there is."""
        if len(self._held) > self._column // 2 or (len(self._held) and not self._powers):
            self._take(np.pad(self._held, (0, self._column - len(self._held))))
        self._held = self._held[:0]
