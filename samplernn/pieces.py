"""Where a long recording is cut, so that its pieces can be decoded side by side and joined again.

Cuts lie at whole seconds, where both the file's rate and the dataset's have a sample, and depend on the file alone. A
piece is decoded with a margin on either side, many times longer than the resampler's filter; its samples are those of
a decoder that went through the whole file (tests/samplernn/test_pieces.py).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from samplernn.audio import MAX_SECONDS, Source
from samplernn.audio_header import chunks, read_at
from samplernn.passages import joined

LONG_SECONDS, PIECE_SECONDS = 600, 300

Cut = tuple[int, int | None]
"""[start, stop) in seconds; None is the end."""
WHOLE: Cut = (0, None)


def cuts(seconds: float) -> list[Cut]:
    """The pieces of a recording; a single one where it isn't long, or longer than any that is decoded."""
    if not LONG_SECONDS < seconds <= MAX_SECONDS:
        return [WHOLE]
    starts = range(0, int(seconds) - PIECE_SECONDS // 2, PIECE_SECONDS)
    return [*zip(starts, [*starts[1:], None], strict=True)]


def cuts_of(path: str | bytes | Path) -> list[Cut]:
    """The pieces of an audio file, by a look at its header; one for a file whose decoder can't seek to a sample.

    A header that lies leads to cuts that decoding refuses. Raises OSError.
    """
    # O_NONBLOCK: a FIFO put in the file's place must not hold the worker.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:  # noqa: PTH123
        return cuts(_seconds(file)) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else [WHOLE]


def _seconds(file: BinaryIO) -> float:
    """Length of a FLAC, WAV, RF64 or AIFF of plain samples as its header has it; 0 for anything else."""
    head = read_at(file, 0, 26)
    if head[:4] == b"fLaC" and len(head) == 26:
        bits = int.from_bytes(head[18:26], "big")
        return _over(bits & (1 << 36) - 1, bits >> 44)
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return _wave_seconds(file)
    if head[:4] == b"FORM" and head[8:12] == b"AIFF":
        end = file.seek(0, 2)
        for chunk in chunks(file, 12, end, ">"):
            if chunk.id == b"COMM":
                return _aiff_seconds(read_at(file, chunk.at, 18))
    return 0.0


def _wave_seconds(file: BinaryIO) -> float:
    end, tag, rate, width = file.seek(0, 2), 0, 0, 0
    for chunk in chunks(file, 12, end, "<"):
        if chunk.id == b"fmt " and len(fmt := read_at(file, chunk.at, 26)) >= 16:
            tag, rate, width = struct.unpack("<H2xI4xH", fmt[:14])
            tag = int.from_bytes(fmt[24:26], "little") if tag == 0xFFFE else tag
        elif chunk.id == b"data":
            size = min(chunk.size, end - chunk.at)
            return _over(size, rate * width) if tag in (1, 3) else 0.0
    return 0.0


def _aiff_seconds(common: bytes) -> float:
    if len(common) < 18:
        return 0.0
    frames, exponent, mantissa = struct.unpack(">2xI2xHQ", common)
    return _over(frames, mantissa * 2.0 ** (exponent - 16383 - 63)) if 16383 < exponent < 16383 + 32 else 0.0


def _over(amount: float, rate: float) -> float:
    return amount / rate if rate > 0 else 0.0


def joined_source(sources: Sequence[Source]) -> Source:
    """What the whole file was, from its pieces in their order."""
    first = sources[0]
    return Source(
        first.format,
        first.rate,
        first.channels,
        sum(source.frames for source in sources),
        sum(source.samples for source in sources),
        sum(source.clipped for source in sources),
        joined(*(source.clipped_at for source in sources)),
    )
