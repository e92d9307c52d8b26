"""Our own look at an audio file before libsndfile opens it: bytes only, no decoding.

It refuses what libsndfile 1.2.2 must not be given (IMA ADPCM: CVE-2026-37555; a RIFF LIST chunk of a wild size, on
which sf_open loops for ever: libsndfile#1118) and finds what libsndfile does not tell: that fewer bytes of samples
are there than the header promises, that an Ogg file lacks its last page, and how long an MP3 really is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from samplernn.errors import BadAudio

IMA_ADPCM = 0x11
EXTENSIBLE = 0xFFFE
_WAVE_CODINGS = (1, 2, 3, 6, 7, 0x55)  # PCM, MS ADPCM, float, A-law, mu-law, MP3
WHOLE = 0.999
"""Share of the promised samples that must be there; a missing pad byte or MP3 frame is no loss."""
_UNKNOWN_SIZES = (0, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_MAX_CHUNKS = 10_000
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_OGG_TAIL = 2**17
_WINDOW = 2**20
_MP3_KBITS = {
    # (MPEG version 1?, layer): kbit/s by index 1..14
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class Chunk:
    """One chunk of an IFF-like container."""

    id: bytes
    at: int
    """Offset of its body in the file, in bytes."""
    size: int
    """Bytes of its body, as it claims."""


def check_header(file: BinaryIO, size: int) -> None:
    """Raise BadAudio for a file of `size` bytes that must not be decoded, or that is clearly cut off."""
    if size == 0:
        raise BadAudio("0 bytes: there is nothing in it; copy it again from its source")
    head = read_at(file, 0, 24)
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        _check_wave(file, size, ">" if head[:4] == b"RIFX" else "<")
    elif head[:16] == _W64_RIFF:
        _check_wave64(file, size)
    elif head[:4] == b"FORM" and head[8:11] == b"AIF":
        for chunk in chunks(file, 12, size, ">"):
            if chunk.id == b"SSND":
                _check_promise(chunk.size, size - chunk.at)
    elif head[:4] in (b".snd", b"dns."):
        offset, promised = struct.unpack(
            (">" if head[:4] == b".snd" else "<") + "II", head[4:12].ljust(8, b"\0")
        )
        _check_promise(promised, size - offset)
    elif head[:4] == b"caff":
        for chunk in chunks(file, 8, size, ">", wide=True):
            if chunk.id == b"data":
                _check_promise(chunk.size, size - chunk.at)
    elif head[:4] == b"OggS":
        _check_ogg(file, size)


def mp3_frames(file: BinaryIO, size: int) -> int:
    """Audio frames (samples per channel) that the MPEG audio in this file holds, counted header by header.

    libsndfile estimates the length of a variable-bit-rate MP3 without a Xing header from its first frame, and then
    stops reading there.
    """
    at, frames, start, data = after_id3(read_at(file, 0, 10)), 0, 0, b""
    while at + 4 <= size:
        if not start <= at <= start + len(data) - 200:
            start, data = at, read_at(file, at, _WINDOW)  # an hour of MP3 is not held in memory
        here = at - start
        length, samples = mpeg_frame(data[here : here + 4].ljust(4, b"\0"))
        if not length:
            # Garbage between frames: resynchronise, but never walk megabytes of it byte by byte in Python.
            found = data.find(b"\xff", here + 1)
            at = start + (found if found >= 0 else len(data))
            continue
        head = data[here : here + 200]
        first = not frames and any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))
        frames += 0 if first else samples
        at += length
    return frames


def _check_wave(file: BinaryIO, size: int, order: str) -> None:
    wide_size = 0
    for chunk in chunks(file, 12, size, order):
        if chunk.id == b"ds64":
            wide_size = int.from_bytes(read_at(file, chunk.at + 8, 8), "little")
        elif chunk.id == b"fmt ":
            _check_coding(read_at(file, chunk.at, 26), order)
        elif chunk.id == b"data":
            promised = wide_size if chunk.size == 0xFFFFFFFF and wide_size else chunk.size
            _check_promise(promised, size - chunk.at)
        elif chunk.id in (b"LIST", b"INFO"):
            _check_list(file, chunk, size, order)


def _check_list(file: BinaryIO, chunk: Chunk, size: int, order: str) -> None:
    end = chunk.at + chunk.size
    inner = [*chunks(file, chunk.at + 4, min(end, size), order)] if chunk.size >= 4 else []
    if end > size or any(sub.at + sub.size > end for sub in inner):
        raise BadAudio(
            f"damaged: its {chunk.id.decode()} chunk claims more bytes than there are, on which libsndfile hangs; "
            "write the file anew with an audio editor"
        )


def _check_wave64(file: BinaryIO, size: int) -> None:
    at = 40
    for _ in range(_MAX_CHUNKS):
        head = read_at(file, at, 24)
        if len(head) < 24:
            return
        length = int.from_bytes(head[16:], "little")
        if head[:4] == b"fmt ":
            _check_coding(read_at(file, at + 24, 26), "<")
        elif head[:4] == b"data":
            _check_promise(length - 24, size - at - 24)
        if length < 24:
            return
        at += (length + 7) & ~7


def _check_coding(fmt: bytes, order: str) -> None:
    """Whether the fmt chunk of a WAV or W64 names a coding that libsndfile may be given."""
    tags = [struct.unpack(order + "H", fmt[at : at + 2])[0] for at in (0, 24) if len(fmt) >= at + 2]
    if not tags:
        return
    tag = tags[-1] if tags[0] == EXTENSIBLE else tags[0]
    if tag == IMA_ADPCM:
        raise BadAudio(
            "IMA ADPCM is refused: libsndfile is not safe with it (CVE-2026-37555); convert it to FLAC"
        )
    if tag not in _WAVE_CODINGS:
        raise BadAudio(f"a WAV with coding 0x{tag:04x} is not read here; convert it to FLAC")


def _check_promise(promised: int, present: int) -> None:
    """Compare the bytes of samples that the header promises with those that are there."""
    if promised not in _UNKNOWN_SIZES and present < promised * WHOLE:
        raise BadAudio(
            f"truncated: {max(present, 0):,} of {promised:,} bytes of samples are there; copy it again from its source"
        )


def _check_ogg(file: BinaryIO, size: int) -> None:
    start = max(0, size - _OGG_TAIL)
    tail = read_at(file, start, size - start)
    at = tail.rfind(b"OggS\0")
    segments = tail[at + 27 : at + 27 + tail[at + 26]] if 0 <= at < len(tail) - 27 else b""
    whole = segments and at + 27 + len(segments) + sum(segments) <= len(tail)
    if not whole or not tail[at + 5] & 4:
        raise BadAudio(
            "truncated: the Ogg page that ends the stream is missing; copy it again from its source"
        )


def chunks(file: BinaryIO, at: int, end: int, order: str, wide: bool = False) -> Iterator[Chunk]:
    """Chunks in [at, end): four letters, a size of 32 (or 64) bits, a body padded to an even length (not if wide)."""
    head_size = 12 if wide else 8
    for _ in range(_MAX_CHUNKS):
        head = read_at(file, at, head_size) if at + head_size <= end else b""
        if len(head) < head_size:
            return
        size = struct.unpack(order + ("q" if wide else "I"), head[4:])[0]
        size = 2**63 - 1 if size < 0 else size
        yield Chunk(head[:4], at + head_size, size)
        at += head_size + size + (0 if wide else size & 1)


def after_id3(head: bytes) -> int:
    """Where the audio begins in a file with this head: behind its ID3v2 tag, if any."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])


def mpeg_frame(head: bytes) -> tuple[int, int]:
    """(bytes, samples) of the MPEG audio frame with this header, or (0, 0) where there is none."""
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if head[0] != 0xFF or head[1] < 0xE0 or version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return 0, 0
    hertz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    kbits = _MP3_KBITS[version == 3, layer][bits - 1]
    if layer == 1:
        return (12_000 * kbits // hertz + padding) * 4, 384
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples * 125 * kbits // hertz + padding, samples


def read_at(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(max(0, size))
