"""Audio files in: anything that libsndfile reads becomes 16-bit mono at one sample rate.

A file is decoded in blocks: mean of the channels, resampling (soxr, its best quality), rounding to 16 bits. There is no
normalisation, so that quiet songs stay quiet beside loud ones.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from samplernn.audio_header import WHOLE, check_header, mp3_frames
from samplernn.errors import BadAudio
from samplernn.flac import decode_flac, encode_flac

__all__ = ["FORMATS", "MAX_SECONDS", "SUFFIXES", "Source", "decode", "decode_flac", "encode_flac", "versions"]

# fmt: off
SUFFIXES = frozenset([
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64",
])
# fmt: on
"""File names that are taken for audio."""
FORMATS = frozenset(["WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF"])
"""Formats, by libsndfile's names, that are decoded whatever the file is called."""
MAX_SECONDS = 4 * 3600
_MIN_RATE, _MAX_RATE, _MAX_CHANNELS = 4_000, 192_000, 64
_BLOCK = 2**18
_UNKNOWN_FRAMES = 2**62

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Source:
    """What a decoded file was."""

    format: str
    """Container and coding by libsndfile's names: FLAC PCM_16, OGG VORBIS ..."""
    rate: int
    """Sample rate in Hz before resampling."""
    channels: int
    frames: int
    """Samples per channel before resampling."""
    samples: int
    """Samples handed on."""


def versions() -> dict[str, str]:
    """Versions of what decodes and resamples."""
    return {
        "numpy": np.__version__,
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
        "soxr": soxr.__version__,
    }


def decode(path: str | bytes | Path, sample_rate: int, sink: Callable[[Pcm], None]) -> Source:
    """Decode a file and hand `sink` its PCM, int16 [samples] a block, mono at sample_rate Hz.

    Raises BadAudio, before or after some blocks were handed on, when the file is not whole and sound; OSError when it
    can't be read.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadAudio("not a regular file")
        check_header(file, status.st_size)
        file.seek(0)
        try:
            with soundfile.SoundFile(file.fileno(), closefd=False) as audio:
                _check_format(audio)
                source = _decode_blocks(audio, sample_rate, sink)
        except soundfile.LibsndfileError as error:
            raise BadAudio(_not_opened(file, error.error_string)) from error
        if source.format.startswith("MP3"):
            _check_mp3(file, status.st_size, source)
    return source


def _decode_blocks(audio: soundfile.SoundFile, sample_rate: int, sink: Callable[[Pcm], None]) -> Source:
    same_rate = audio.samplerate == sample_rate
    resampler = soxr.ResampleStream(audio.samplerate, sample_rate, 1, dtype="float32", quality="VHQ")
    block = max(1, _BLOCK // audio.channels)
    frames = samples = 0
    while True:
        signal = _read_block(audio, block, frames)
        frames += len(signal)
        last = len(signal) == 0
        if not same_rate:
            signal = resampler.resample_chunk(signal, last=last)
        if len(signal):
            samples += len(signal)
            sink(_to_pcm(signal))
        if last:
            break
        if frames > MAX_SECONDS * audio.samplerate:
            raise BadAudio(f"longer than {MAX_SECONDS // 3600} hours; cut it into several files")
    promised = audio.frames if audio.frames < _UNKNOWN_FRAMES else frames
    if promised == 0:
        raise BadAudio("header only: there are no samples in it")
    if frames < promised * WHOLE:
        raise BadAudio(
            f"truncated: {frames:,} of {promised:,} frames are there; copy it again from its source"
        )
    if samples == 0:
        raise BadAudio(f"{frames:,} frames are not one sample at {sample_rate:,} Hz; leave it out")
    return Source(f"{audio.format} {audio.subtype}", audio.samplerate, audio.channels, frames, samples)


def _read_block(audio: soundfile.SoundFile, frames: int, at: int) -> npt.NDArray[np.float32]:
    """The next frames as the mean of the channels, float32 [<= frames]; empty at the end."""
    try:
        block = audio.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise BadAudio(
            f"truncated or damaged: libsndfile stops after {at / audio.samplerate:.1f} s of "
            f"{_seconds(audio.frames, audio.samplerate)} ({error.error_string.rstrip('.')}); "
            "copy it again from its source"
        ) from error
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        where = (at + int(np.argmin(np.isfinite(mono)))) / audio.samplerate
        raise BadAudio(f"NaN or infinite samples at {where:.3f} s; export it again from its source")
    return np.ascontiguousarray(mono)


def _to_pcm(signal: npt.NDArray[np.float32]) -> Pcm:
    pcm: Pcm = np.clip(np.rint(signal * np.float32(32768)), -32768, 32767).astype(np.int16)
    return pcm


def _check_format(audio: soundfile.SoundFile) -> None:
    if audio.format not in FORMATS or audio.subtype == "IMA_ADPCM":
        raise BadAudio(
            f"{audio.format} {audio.subtype} is not a format that is read here; convert it to FLAC"
        )
    if not _MIN_RATE <= audio.samplerate <= _MAX_RATE:
        raise BadAudio(
            f"sample rate {audio.samplerate:,} Hz is outside {_MIN_RATE:,} to {_MAX_RATE:,} Hz; "
            "resample it or correct its header"
        )
    if audio.channels > _MAX_CHANNELS:
        raise BadAudio(f"{audio.channels:,} channels are more than {_MAX_CHANNELS}; mix it down")
    if _UNKNOWN_FRAMES > audio.frames > MAX_SECONDS * audio.samplerate:
        length = _seconds(audio.frames, audio.samplerate)
        raise BadAudio(f"claims {length}, longer than {MAX_SECONDS // 3600} hours; cut it into several files")


def _check_mp3(file: BinaryIO, size: int, source: Source) -> None:
    """libsndfile guesses the length of an MP3 without a Xing header and ignores what lies beyond its guess."""
    held = mp3_frames(file, size)
    if source.frames < held * WHOLE - 2 * 1152:
        raise BadAudio(
            f"libsndfile reads {_seconds(source.frames, source.rate)} of this MP3's {_seconds(held, source.rate)} "
            "(variable bit rate without a Xing header); convert it to FLAC"
        )


def _not_opened(file: BinaryIO, said: str) -> str:
    if "not recognised" not in said:
        return f"damaged: libsndfile says {said.rstrip('.')!r}; copy it again from its source"
    file.seek(0)
    return f"not audio that libsndfile knows: it begins with {file.read(16)!r}; convert it to FLAC or leave it out"


def _seconds(frames: int, rate: int) -> str:
    return "an unknown length" if frames >= _UNKNOWN_FRAMES else f"{frames / rate:,.1f} s"
