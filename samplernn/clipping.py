"""Where a recording is clipped, seen before channels are mixed and rates changed, which hide it."""

from __future__ import annotations

from math import isfinite

import numpy as np
import numpy.typing as npt

from samplernn.measures import CLIPPED
from samplernn.passages import Passages, joined

_RUN = 3
"""Frames in a row at full scale that make a clipped passage; a lone one is a peak."""
_PAD_SECONDS = 0.05


class Clipping:
    """Counts the frames at full scale, block after block, and remembers the passages that hold runs of them."""

    def __init__(self, rate: int, start: int = 0, stop: int | None = None) -> None:
        self.frames = 0
        """Frames in [start, stop) with a channel at full scale so far."""
        self._start, self._stop = start, stop
        self._pad = round(_PAD_SECONDS * rate)
        self._found: Passages = []
        self._open = 0
        """Clipped frames at the end of the last block."""

    def look(self, block: npt.NDArray[np.float32], at: int) -> bool:
        """Look at a block [frames, channels] that begins at frame `at`; False when not all of it is finite."""
        high, low = float(block.max(initial=0.0)), float(block.min(initial=0.0))
        if not (isfinite(high) and isfinite(low)):
            return False
        if high < CLIPPED and low > -CLIPPED:
            self._open = 0
            return True
        full: npt.NDArray[np.bool_] = np.any(np.abs(block) >= CLIPPED, axis=1)
        inside = full[max(0, self._start - at) : None if self._stop is None else max(0, self._stop - at)]
        self.frames += int(np.count_nonzero(inside))
        before = np.ones(self._open, dtype=bool)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], before, full, [False]]).astype(np.int8)))
        runs = edges.reshape(-1, 2) + at - self._open
        runs = runs[runs[:, 1] - runs[:, 0] >= _RUN]
        wide = [[max(0, int(a) - self._pad), int(b) + self._pad] for a, b in runs]
        self._found = joined(self._found, wide)
        tail = np.flatnonzero(~full)
        self._open = min(_RUN, self._open + len(full) if not len(tail) else len(full) - 1 - int(tail[-1]))
        return True

    def passages(self, frames: int) -> Passages:
        """The passages found in a recording of `frames` frames, with a margin on either side."""
        return [[start, min(stop, frames)] for start, stop in self._found]
