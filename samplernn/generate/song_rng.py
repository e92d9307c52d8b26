"""Each song's own random stream: Philox4x32-10 (Salmon et al., SC'11), keyed by (seed, song) and counted by time.

The uniform of a sample depends on the song and the sample's number alone, not on the batch, the actor or what was
generated before; any backend can draw any part of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)

Words = npt.NDArray[np.uint64]


def philox(
    counter: tuple[Words, Words, Words, Words], key: tuple[int, int]
) -> tuple[Words, Words, Words, Words]:
    """Ten rounds of Philox4x32 on arrays of 32-bit words held in uint64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def uniforms(seed: int, song: int, start: int, count: int) -> npt.NDArray[np.float32]:
    """Uniforms in (0, 1) of samples start .. start + count - 1 of a song, float32 [count], 24 random bits each."""
    first, last = start // 4, (start + count + 3) // 4
    blocks = np.arange(first, last, dtype=np.uint64)
    zero = np.zeros_like(blocks)
    words = philox((blocks & _LOW, blocks >> _SHIFT, zero, zero), (seed & 0xFFFFFFFF, song & 0xFFFFFFFF))
    flat = np.stack(words, axis=1).reshape(-1)[start - 4 * first :][:count]
    return ((flat >> np.uint64(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2**-24)
