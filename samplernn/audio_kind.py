"""What an audio file is, by our own look at its first bytes: the list of containers that a decoder may be given.

A file's name is no evidence. What is not on the list is not opened at all, so a playlist, a web page or a picture named
.wav never reaches a demuxer.
"""

from __future__ import annotations

from typing import BinaryIO

from samplernn.audio_header import after_id3, mpeg_frame, read_at
from samplernn.errors import BadAudio

LIBSNDFILE = frozenset(["WAV", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"])
"""Kinds that libsndfile decodes."""
PYAV = {
    "MP4": "mov", "ASF": "asf", "Matroska": "matroska", "AAC": "aac", "APE": "ape", "WavPack": "wv", "TTA": "tta",
    "Musepack": "mpc", "Musepack 8": "mpc8", "AC3": "ac3", "AMR": "amr", "DSF": "dsf", "Speex": "ogg",
    "CAF ALAC": "caf",
}  # fmt: skip
"""Kinds that PyAV decodes, each with the one demuxer of FFmpeg that it is given to."""

_MAGIC = (
    (b"fLaC", "FLAC"), (b".snd", "AU"), (b"dns.", "AU"), (b"caff", "CAF"),
    (bytes.fromhex("726966662e91cf11a5d628db04c10000"), "W64"),
    (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "ASF"),
    (bytes.fromhex("1a45dfa3"), "Matroska"),
    (b"MAC ", "APE"), (b"wvpk", "WavPack"), (b"TTA1", "TTA"), (b"MP+", "Musepack"), (b"MPCK", "Musepack 8"),
    (b"\x0bw", "AC3"), (b"#!AMR", "AMR"), (b"DSD ", "DSF"),
)  # fmt: skip
_WAVE = (b"RIFF", b"RF64", b"RIFX")
_MP3_SEARCH = 2**16


def kind_of(file: BinaryIO) -> str:
    """The kind of an audio file, a member of LIBSNDFILE or PYAV. Raises BadAudio when it is neither."""
    head = read_at(file, 0, 36)
    if head[:4] in _WAVE and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head[:4] == b"OggS":
        return "Speex" if head[28:36] == b"Speex   " else "OGG"
    if head[:4] == b"caff" and head[28:32] == b"alac":
        return "CAF ALAC"  # libsndfile knows its own and not Apple's or FFmpeg's
    if head[4:8] == b"ftyp":
        return "MP4"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    found = _behind_tags(file)
    if found is None:
        raise BadAudio(
            f"not audio of a kind that is read here: it begins with {head[:16]!r}; convert it to FLAC or leave it out"
        )
    return found


def _behind_tags(file: BinaryIO) -> str | None:
    """MP3, AAC or FLAC behind ID3 tags; None when there is none of them."""
    at = 0
    while (after := after_id3(read_at(file, at, 10))) and at < 2**28:
        at += after
    head = read_at(file, at, _MP3_SEARCH)
    if at and head[:4] in (*_WAVE, b"riff", b"FORM"):
        # libsndfile skips the tag and looks again; nobody writes such a file but to get past a look like this one.
        raise BadAudio("an ID3 tag stands before its header; write the file anew with an audio editor")
    if head.startswith(b"fLaC"):
        return "FLAC"
    if head[:1] == b"\xff" and head[1:2] and head[1] & 0xF6 == 0xF0:
        return "AAC"
    start = len(head) - len(head.lstrip(b"\0"))
    return "MP3" if _is_mpeg(head[start:]) else None


def _is_mpeg(data: bytes) -> bool:
    """Whether two MPEG audio frames, or one at the end of the data, follow each other somewhere in the first 4 KiB."""
    at = data.find(b"\xff")
    while 0 <= at < 4096 and at + 4 <= len(data):
        length, _ = mpeg_frame(data[at : at + 4])
        following = data[at + length : at + length + 4]
        if length and (len(following) < 4 or mpeg_frame(following)[0]):
            return True
        at = data.find(b"\xff", at + 1)
    return False
