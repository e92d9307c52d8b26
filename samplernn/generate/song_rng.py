"""Each song's own random streams: Philox4x32-10 (Salmon et al., SC'11), keyed by (seed, song) and counted by time.

The uniform of a sample depends on the song and the sample's number alone, not on the batch, the actor or what was
generated before; any backend can draw any part of it. A song has several streams, told apart by the counter's third
word: SAMPLES for the draws, START for a random h0, AGAIN for the seed of a song begun anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SAMPLES, START, AGAIN = 0, 1, 2

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF


def philox(counter: Sequence[Any], key: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Ten rounds of Philox4x32 on four arrays of 32-bit words; the key is two ints or two arrays that broadcast.

    The words lie in 64 bits: NumPy's uint64, or torch's int64, whose products wrap to the same 64 bits.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _LOW) ^ c1 ^ k0,
            p1 & _LOW,
            ((p0 >> 32) & _LOW) ^ c3 ^ k1,
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


def uniforms(seed: int, song: int, start: int, count: int, stream: int = SAMPLES) -> npt.NDArray[np.float32]:
    """Uniforms in (0, 1] of samples start .. start + count - 1 of a song, float32 [count], 24 random bits each."""
    flat = _words(seed, song, start // 4, (start + count + 3) // 4, stream)[start % 4 :][:count]
    return ((flat >> np.uint64(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2**-24)


def seed_again(seed: int, song: int, take: int) -> int:
    """The seed of a song's take: its own for take 0, one derived from it for each time that it is begun anew."""
    return seed if take == 0 else int(_words(seed, song, take, take + 1, AGAIN)[0])


def _words(seed: int, song: int, first: int, last: int, stream: int) -> npt.NDArray[np.uint64]:
    counter = np.arange(first, last, dtype=np.uint64)
    zero = np.zeros_like(counter)
    words = philox(
        (counter & _LOW, counter >> 32, zero + np.uint64(stream), zero), (seed & _LOW, song & _LOW)
    )
    flat: npt.NDArray[np.uint64] = np.stack(words, axis=1).reshape(-1)
    return flat


def uniforms_beside(seed: Tensor, song: Tensor, start: Tensor, *, count: int) -> Tensor:
    """`uniforms` of several songs, each from its own start: int64 [songs] three times -> float32 [songs, count].

    On whatever device the arguments are; the same bits as NumPy's.
    """
    blocks = count // 4 + 2
    counter = (start // 4)[:, None] + torch.arange(blocks, device=start.device)
    zero = torch.zeros_like(counter)
    words = philox((counter & _LOW, counter >> 32, zero, zero), (seed[:, None], song[:, None]))
    flat = torch.stack(words, dim=2).view(len(start), 4 * blocks)
    flat = flat.gather(1, (start % 4)[:, None] + torch.arange(count, device=start.device))
    drawn: Tensor = ((flat >> 8).to(torch.float32) + 0.5) * 2**-24
    return drawn
