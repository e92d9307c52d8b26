"""Audio files in: any recording becomes mono at one sample rate.

A file is decoded in blocks, by libsndfile or (formats it does not know) by PyAV: channels to one, resampling (soxr, its
best quality). There is no normalisation, so that quiet songs stay quiet beside loud ones.
"""

from __future__ import annotations

import importlib.metadata
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from samplernn.audio_header import WHOLE, check_header, mp3_frames
from samplernn.audio_kind import PYAV, kind_of
from samplernn.clipping import Clipping
from samplernn.errors import BadAudio
from samplernn.flac import decode_flac, encode_flac
from samplernn.mono import MEAN, mixed

__all__ = [
    "FORMATS", "MAX_SECONDS", "SUFFIXES", "Pcm", "Signal", "Source", "Stream", "decode", "decode_flac", "decode_signal",
    "encode_flac", "to_pcm", "versions",
]  # fmt: skip

# fmt: off
SUFFIXES = frozenset([
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64",
    ".rf64", ".m4a", ".mp4", ".m4b", ".mov", ".aac", ".wma", ".asf", ".mka", ".mkv", ".webm", ".ape", ".wv", ".tta",
    ".mpc", ".ac3", ".amr", ".dsf", ".spx",
])
# fmt: on
"""File names that are taken for audio; what is in the file decides how it is decoded."""
FORMATS = frozenset(["WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "MPEG", "AIFF", "AU", "CAF"])
"""Formats, by libsndfile's names, that are decoded whatever the file is called."""
MAX_SECONDS = 48 * 3600
_MIN_RATE, _MAX_RATE, _MAX_CHANNELS = 4_000, 192_000, 64
_BLOCK = 2**18
_MARGIN_SECONDS = 2
"""Decoded on either side of a piece and dropped again."""
_UNKNOWN_FRAMES = 2**62

Pcm = npt.NDArray[np.int16]
Signal = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """What a decoded file was."""

    format: str
    """Container and coding by libsndfile's or FFmpeg's names: FLAC PCM_16, OGG VORBIS, MP4 aac ..."""
    rate: int
    """Sample rate in Hz before resampling."""
    channels: int
    frames: int
    """Samples per channel before resampling."""
    samples: int
    """Samples handed on."""
    clipped: int = 0
    """Frames with a channel at full scale."""
    clipped_at: list[list[int]] = field(default_factory=list)
    """Passages [start, stop) in frames in which the recording is clipped."""


@dataclass(frozen=True)
class Stream:
    """An open audio file."""

    format: str
    rate: int
    channels: int
    promised: int | None
    """Frames that the file says it has; None when it does not say."""
    blocks: Iterator[npt.NDArray[np.float32]]
    """[frames, channels] in [-1, 1]."""
    whole: float = WHOLE
    """Share of the promised frames that must be there."""
    at: int = 0
    """Number of the first frame in `blocks`."""


def versions() -> dict[str, str]:
    """Versions of what decodes, resamples and levels; what is not installed is left out."""
    found = {
        "numpy": np.__version__,
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
        "soxr": soxr.__version__,
    }
    for extra in ("av", "pyloudnorm"):
        try:
            found[extra] = importlib.metadata.version(extra)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def decode(path: str | bytes | Path, sample_rate: int, sink: Callable[[Pcm], None]) -> Source:
    """Decode a file and hand `sink` its PCM, int16 [samples] a block, mono (mean of the channels) at sample_rate Hz.

    Raises BadAudio, before or after some blocks were handed on, when the file is not whole and sound; OSError when it
    can't be read.
    """
    return decode_signal(path, sample_rate, lambda signal: sink(to_pcm(signal)))


def decode_signal(
    path: str | bytes | Path,
    sample_rate: int,
    sink: Callable[[Signal], None],
    mono: str = MEAN,
    opened: Callable[[], None] = lambda: None,
    cut: tuple[int, int | None] | None = None,
) -> Source:
    """As decode, before rounding: float32 [samples] a block, full scale 1. `mono` is one of mono.WAYS.

    With `cut`, only the seconds [start, stop) of a file that libsndfile reads; Source then tells of these, but for
    the places in clipped_at, which are those in the file.

    `opened` is called when everything that has to be opened is, before the first byte is given to a decoder.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadAudio("not a regular file")
        check_header(file, status.st_size)
        kind = kind_of(file)
        reading = _with_pyav(kind) if kind in PYAV else partial(_with_libsndfile, cut=cut)
        opened()
        file.seek(0)
        with reading(file) as stream:
            _check_stream(stream)
            source = _decode_blocks(stream, sample_rate, sink, mono, cut or (0, None))
        if kind == "MP3" and cut is None:
            _check_mp3(file, status.st_size, source)
    return source


@contextmanager
def _with_libsndfile(file: Any, cut: tuple[int, int | None] | None) -> Iterator[Stream]:
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as audio:
            if audio.format not in FORMATS or audio.subtype == "IMA_ADPCM":
                raise BadAudio(
                    f"{audio.format} {audio.subtype} is not a format that is read here; convert it to FLAC"
                )
            promised = audio.frames if audio.frames < _UNKNOWN_FRAMES else None
            name, at = f"{audio.format} {audio.subtype}", 0
            if cut is not None:
                at, promised = _sought(audio, cut)
            blocks = _sndfile_blocks(audio, at, promised if cut else None)
            yield Stream(name, audio.samplerate, audio.channels, promised, blocks, at=at)
    except soundfile.LibsndfileError as error:
        said = error.error_string.rstrip(".")
        raise BadAudio(f"damaged: libsndfile says {said!r}; copy it again from its source") from error


def _with_pyav(kind: str) -> Callable[[BinaryIO], Any]:
    try:
        from samplernn.audio_pyav import opener
    except ImportError as error:
        raise BadAudio(
            f"{kind} is read with PyAV, which is not installed: pip install 'samplernn-orchestrator[formats]', "
            "or convert it to FLAC"
        ) from error
    return opener(kind)


def _sought(audio: soundfile.SoundFile, cut: tuple[int, int | None]) -> tuple[int, int]:
    """Go to a piece's first frame, margin included; that frame's number and how many frames there are to its end."""
    start, stop = cut
    first = max(0, start - _MARGIN_SECONDS) * audio.samplerate
    last = audio.frames
    if stop is not None:
        last = min(last, (stop + _MARGIN_SECONDS) * audio.samplerate)
    if audio.frames <= start * audio.samplerate:
        raise BadAudio(f"its header is wrong about its length, {_seconds(audio.frames, audio.samplerate)}")
    audio.seek(first)
    return first, last - first


def _sndfile_blocks(
    audio: soundfile.SoundFile, first: int, most: int | None
) -> Iterator[npt.NDArray[np.float32]]:
    size, at = max(1, _BLOCK // audio.channels), first
    while True:
        wanted = size if most is None else min(size, first + most - at)
        try:
            block = audio.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise BadAudio(
                f"truncated or damaged: libsndfile stops after {at / audio.samplerate:.1f} s of "
                f"{_seconds(audio.frames, audio.samplerate)} ({error.error_string.rstrip('.')}); "
                "copy it again from its source"
            ) from error
        if not len(block):
            return
        at += len(block)
        yield block


def _decode_blocks(
    stream: Stream, sample_rate: int, sink: Callable[[Signal], None], mono: str, cut: tuple[int, int | None]
) -> Source:
    resampler = soxr.ResampleStream(stream.rate, sample_rate, 1, dtype="float32", quality="VHQ")
    start, stop = cut
    end = None if stop is None else stop * stream.rate
    clipping = Clipping(stream.rate, start * stream.rate, end)
    out = _Kept(sink, start * sample_rate - stream.at // stream.rate * sample_rate, cut, sample_rate)
    frames = stream.at
    for block in stream.blocks:
        signal = mixed(block, mono)
        if not clipping.look(block, frames):
            where = (frames + int(np.argmin(np.isfinite(block).all(axis=1)))) / stream.rate
            raise BadAudio(f"NaN or infinite samples at {where:.3f} s; export it again from its source")
        frames += len(block)
        if frames > MAX_SECONDS * stream.rate:
            raise BadAudio(f"longer than {MAX_SECONDS // 3600} hours; cut it into several files")
        out.hand_on(signal if stream.rate == sample_rate else resampler.resample_chunk(signal))
    if stream.rate != sample_rate and frames > stream.at:
        out.hand_on(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    _check_length(stream, frames - stream.at, out.samples, sample_rate)
    own = (frames if end is None else min(frames, end)) - start * stream.rate
    passages = clipping.passages(frames)
    return Source(stream.format, stream.rate, stream.channels, own, out.samples, clipping.frames, passages)


class _Kept:
    """Hands on the samples of a cut and drops those of its margins."""

    def __init__(
        self, sink: Callable[[Signal], None], skip: int, cut: tuple[int, int | None], sample_rate: int
    ) -> None:
        self.samples = 0
        self._sink, self._skip = sink, skip
        self._most = None if cut[1] is None else (cut[1] - cut[0]) * sample_rate

    def hand_on(self, signal: Signal) -> None:
        self._skip, signal = max(0, self._skip - len(signal)), signal[self._skip :]
        if self._most is not None:
            signal = signal[: self._most - self.samples]
        if len(signal):
            self.samples += len(signal)
            self._sink(signal)


def to_pcm(signal: Signal) -> Pcm:
    """Float samples [samples], full scale 1, as int16; what is above full scale is clipped."""
    scaled = signal * np.float32(32768)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768, 32767, out=scaled)
    return scaled.astype(np.int16)


def _check_length(stream: Stream, frames: int, samples: int, sample_rate: int) -> None:
    promised = frames if stream.promised is None else stream.promised
    if promised == 0:
        raise BadAudio("header only: there are no samples in it")
    if frames < promised * stream.whole:
        raise BadAudio(
            f"truncated: {frames:,} of {promised:,} frames are there; copy it again from its source"
        )
    if samples == 0:
        raise BadAudio(f"{frames:,} frames are not one sample at {sample_rate:,} Hz; leave it out")


def _check_stream(stream: Stream) -> None:
    if not _MIN_RATE <= stream.rate <= _MAX_RATE:
        raise BadAudio(
            f"sample rate {stream.rate:,} Hz is outside {_MIN_RATE:,} to {_MAX_RATE:,} Hz; "
            "resample it or correct its header"
        )
    if stream.channels > _MAX_CHANNELS:
        raise BadAudio(f"{stream.channels:,} channels are more than {_MAX_CHANNELS}; mix it down")
    if (stream.promised or 0) > MAX_SECONDS * stream.rate:
        length = _seconds(stream.promised or 0, stream.rate)
        raise BadAudio(f"claims {length}, longer than {MAX_SECONDS // 3600} hours; cut it into several files")


def _check_mp3(file: BinaryIO, size: int, source: Source) -> None:
    """libsndfile guesses the length of an MP3 without a Xing header and ignores what lies beyond its guess."""
    held = mp3_frames(file, size)
    if source.frames < held * WHOLE - 2 * 1152:
        raise BadAudio(
            f"libsndfile reads {_seconds(source.frames, source.rate)} of this MP3's {_seconds(held, source.rate)} "
            "(variable bit rate without a Xing header); convert it to FLAC"
        )


def _seconds(frames: int, rate: int) -> str:
    return "an unknown length" if frames >= _UNKNOWN_FRAMES else f"{frames / rate:,.1f} s"
