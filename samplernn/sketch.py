"""Whether two tracks are the same recording, at whatever level: a short sketch of each track's PCM tells.

The sketch is a random projection of the PCM to 256 numbers, brought to length 1, which takes the level out of it. The
cosine of two sketches estimates that of the two signals within 1/16 where they are unlike, and ever closer where they
are alike (Johnson and Lindenstrauss; the count sketch of Charikar, Chen and Farach-Colton, 2002). A copy at another
level measures 1.000, an MP3 of the same track 0.98 and more, any other track about 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SIZE = 256
ALIKE = 0.98
"""A cosine above this is the same recording: what differs lies 14 dB below it."""
_BLOCK = SIZE * SIZE
_SEED = 0x5A4D504C
_AT_ONCE = 512


class Sketch:
    """Give `add` a track's PCM in blocks of any size; then take `hex`."""

    def __init__(self) -> None:
        rng = np.random.Generator(np.random.PCG64(_SEED))
        # As many +1 as -1 in each row: a constant offset, which is no likeness, projects to nothing.
        rows = np.repeat(np.array([1, -1], dtype=np.float32), SIZE // 2)
        self._signs = rng.permuted(np.tile(rows, (SIZE, 1)), axis=1)
        self._block_signs = rng
        self._sums = np.zeros(SIZE, dtype=np.int64)
        self._held = np.zeros(0, dtype=np.int16)
        self._blocks = 0

    def add(self, pcm: npt.NDArray[np.int16]) -> None:
        """The next samples, int16 [samples]."""
        pcm = np.concatenate([self._held, pcm])
        whole = len(pcm) // _BLOCK
        for block in pcm[: whole * _BLOCK].reshape(whole, SIZE, SIZE):
            self._take(block)
        self._held = pcm[whole * _BLOCK :]

    def hex(self) -> str:
        """The sketch of all that was added, as hex digits; of silence it is all zeros."""
        if len(self._held):
            self._take(np.pad(self._held, (0, _BLOCK - len(self._held))).reshape(SIZE, SIZE))
            self._held = self._held[:0]
        norm = float(np.sqrt(np.sum(self._sums.astype(np.float64) ** 2)))
        scaled = np.rint(self._sums / norm * 32767) if norm else np.zeros(SIZE)
        return scaled.astype("<i2").tobytes().hex()

    def _take(self, block: npt.NDArray[np.int16]) -> None:
        # Exact: 8 + 16 bits, sign included, fit into float32; and four times as fast as integers.
        sums = np.einsum("ij,ij->i", block.astype(np.float32), self._signs).astype(np.int64)
        sign = 1 - 2 * int(self._block_signs.integers(2))
        self._sums += sign * np.roll(sums, self._blocks)
        self._blocks += 1


def twins(sketches: Sequence[str]) -> dict[int, tuple[int, float]]:
    """For each track that is the same recording as an earlier one: that one's number and the cosine."""
    if not sketches:
        return {}
    rows = np.stack([np.frombuffer(bytes.fromhex(sketch), "<i2").astype(np.float32) for sketch in sketches])
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
    found: dict[int, tuple[int, float]] = {}
    for first in range(0, len(rows), _AT_ONCE):
        cosines = np.abs(rows[first : first + _AT_ONCE] @ rows.T)
        for at, row in enumerate(cosines, start=first):
            row[at:] = 0
            row[[other for other in found if other < at]] = 0
            best = int(np.argmax(row)) if at else 0
            if at and row[best] >= ALIKE:
                found[at] = best, float(row[best])
    return found


def most_alike(sketches: Sequence[str]) -> float:
    """The largest cosine of any two tracks; 0 when there are fewer than two."""
    if len(sketches) < 2:
        return 0.0
    rows = np.stack([np.frombuffer(bytes.fromhex(sketch), "<i2").astype(np.float32) for sketch in sketches])
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
    most = 0.0
    for first in range(0, len(rows), _AT_ONCE):
        cosines = np.abs(rows[first : first + _AT_ONCE] @ rows.T)
        cosines[np.arange(len(cosines)), np.arange(first, first + len(cosines))] = 0
        most = max(most, float(cosines.max()))
    return most
