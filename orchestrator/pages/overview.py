"""A whole track at a glance, seen in one pass while it is made: the waveform's extremes and a spectrogram.

A track's length is not known before its end, so columns begin short; whenever there are MOST of them, each two become
one. Memory and the number of spectra stay bounded however long the track is, and nothing is read again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.pages.spectrogram import to_png
from samplernn.spectrogram import FRAME, bin_powers, hann, rows_from_bins, shades

MOST = 480
"""Columns; there are half as many at least, but in a short track."""
HEIGHT = 72
VERSION = 2
"""Raised whenever the same PCM would give another picture."""

Pcm = npt.NDArray[np.int16]


class Overview:
    """Give `add` a track's PCM in blocks of any size; then take `wave` and `picture`."""

    def __init__(self, sample_rate: int) -> None:
        """sample_rate in Hz."""
        self._rate = sample_rate
        self._cells, self._column = 0, 1  # cells of FRAME samples seen; cells a column
        self._held = np.zeros(0, np.int16)
        self._low, self._high = np.full(MOST, 32767, np.int16), np.full(MOST, -32768, np.int16)
        self._bins, self._columns = np.zeros((MOST, FRAME // 2 + 1), np.float32), 0
        self._window = hann() / np.float32(32768)

    def add(self, pcm: Pcm) -> None:
        """The next samples, int16 [samples]."""
        pcm = np.concatenate([self._held, pcm])
        whole = len(pcm) // FRAME
        cells, self._held = pcm[: whole * FRAME].reshape(whole, FRAME), pcm[whole * FRAME :]
        while len(cells):
            room = MOST * self._column - self._cells
            self._take(cells[:room])
            cells = cells[room:]
            if self._cells == MOST * self._column:
                self._halve()

    def wave(self) -> list[list[int]]:
        """Lowest and highest sample of each column: [lows, highs]."""
        self._end()
        return [one[: self._columns].tolist() for one in (self._low, self._high)]

    def picture(self, rms: float) -> bytes:
        """PNG of the spectrogram [HEIGHT, columns]; `rms` is the track's level, full scale 1."""
        self._end()
        power = rows_from_bins(HEIGHT, self._rate) @ self._bins[: self._columns].T
        return to_png(shades(10 * np.log10(power + 1e-12), np.zeros(0, np.int16), rms))

    def _take(self, cells: Pcm) -> None:
        """Cells [cells, FRAME]; the middle one of a column stands for its spectrum."""
        at = self._cells + np.arange(len(cells))
        np.minimum.at(self._low, at // self._column, cells.min(axis=1))
        np.maximum.at(self._high, at // self._column, cells.max(axis=1))
        middles = cells[at % self._column == self._column // 2]
        spectra = bin_powers(middles * self._window)
        self._bins[self._columns : self._columns + len(spectra)] = spectra
        self._columns += len(spectra)
        self._cells += len(cells)

    def _halve(self) -> None:
        half = MOST // 2
        self._low[:half] = np.minimum(self._low[::2], self._low[1::2])
        self._high[:half] = np.maximum(self._high[::2], self._high[1::2])
        self._low[half:], self._high[half:] = 32767, -32768
        self._bins[:half] = (self._bins[::2] + self._bins[1::2]) / 2
        self._column, self._columns = self._column * 2, half

    def _end(self) -> None:
        """The rest of a column counts if its middle was reached, the rest of a cell if there is nothing else."""
        if len(self._held) and not self._columns:
            self._take(np.pad(self._held, (0, FRAME - len(self._held)))[None])
        self._held = self._held[:0]
