"""One mid-tread quantiser for all laws, as two tables: 16-bit PCM -> code and code -> amplitude.

    code(x) = Q/2 + round(c(x) * (Q/2 - 1)),   x = pcm / 32768,   c the companding curve, odd, [-1, 1] -> [-1, 1]

so that silence is code Q//2 and decodes to exactly 0, for every law; code 0 of an even Q is never produced and decodes
clipped. Q = 2 has no middle and is the named exception: code 1 for x >= 0, decoded to -1/2 and +1/2. For odd Q the
codes are 0 .. Q-1 around Q//2. mu-law: mu = 255; a-law: A = 87.6 (ITU-T G.711's curves).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

MU = 255.0
A = 87.6


def _compand(x: npt.NDArray[np.float64], q_type: str) -> npt.NDArray[np.float64]:
    m = np.abs(x)
    if q_type == "mu-law":
        m = np.log1p(MU * m) / np.log1p(MU)
    elif q_type == "a-law":
        m = np.where(m < 1 / A, A * m, 1 + np.log(np.maximum(A * m, 1))) / (1 + np.log(A))
    return np.asarray(np.copysign(m, x))


def _expand(y: npt.NDArray[np.float64], q_type: str) -> npt.NDArray[np.float64]:
    m = np.abs(y)
    if q_type == "mu-law":
        m = np.expm1(m * np.log1p(MU)) / MU
    elif q_type == "a-law":
        s = m * (1 + np.log(A))
        m = np.where(s < 1, s / A, np.exp(s - 1) / A)
    return np.asarray(np.copysign(m, y))


def _half_steps(q_levels: int) -> int:
    """Codes on each side of silence."""
    return q_levels // 2 - 1 if q_levels % 2 == 0 else q_levels // 2


@lru_cache(maxsize=32)
def encode_table(q_type: str, q_levels: int) -> npt.NDArray[np.int16]:
    """Codes of all 16-bit samples: `table[pcm + 32768]`, int16 [65536]."""
    x = np.arange(-32768, 32768) / 32768.0
    if q_levels == 2:
        codes = (x >= 0).astype(np.float64)
    else:
        codes = q_levels // 2 + np.round(_compand(x, q_type) * _half_steps(q_levels))
    table = codes.astype(np.int16)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=32)
def decode_table(q_type: str, q_levels: int) -> npt.NDArray[np.float32]:
    """Amplitudes in [-1, 1] of all codes, float32 [q_levels]; silence is exactly 0."""
    if q_levels == 2:
        amplitude = np.array([-0.5, 0.5])
    else:
        y = (np.arange(q_levels) - q_levels // 2) / _half_steps(q_levels)
        amplitude = _expand(np.clip(y, -1, 1), q_type)
    table = amplitude.astype(np.float32)
    table.flags.writeable = False
    return table


def encode(pcm: npt.NDArray[np.int16], q_type: str, q_levels: int) -> npt.NDArray[np.int16]:
    """Codes in [0, q_levels) of 16-bit PCM of any shape."""
    return encode_table(q_type, q_levels)[pcm.astype(np.int32) + 32768]


def decode(codes: npt.NDArray[np.integer], q_type: str, q_levels: int) -> npt.NDArray[np.float32]:
    """Amplitudes in [-1, 1] of codes of any shape."""
    amplitude: npt.NDArray[np.float32] = decode_table(q_type, q_levels)[codes]
    return amplitude


def to_pcm(amplitude: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """16-bit PCM of amplitudes in [-1, 1], rounded half to even, clipped."""
    return np.clip(np.rint(amplitude.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
