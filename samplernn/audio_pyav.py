"""Formats that libsndfile does not know, through PyAV (FFmpeg's libraries).

FFmpeg is given an open file and the one demuxer that our own look at the file chose: it neither guesses a format nor
opens anything by name, so a playlist, a reference to another file or a URL leads nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO

import av
import av.audio.codeccontext
import av.audio.stream
import av.error
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
import av.video.stream  # PyAV would import all of these later, when the decoding process may open nothing any more
import numpy as np
import numpy.typing as npt

from samplernn.audio import Stream
from samplernn.audio_kind import PYAV
from samplernn.errors import BadAudio

CODECS = frozenset([
    "aac", "alac", "ac3", "eac3", "amrnb", "amrwb", "ape", "flac", "mp2", "mp3", "mp3float", "musepack7", "musepack8",
    "mpc7", "mpc8", "opus", "libopus", "vorbis", "speex", "libspeex", "tta", "wavpack", "wmav1", "wmav2", "wmapro",
    "wmalossless", "dsd_lsbf", "dsd_msbf", "dsd_lsbf_planar", "dsd_msbf_planar", "pcm_s16le", "pcm_s16be", "pcm_s24le",
    "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_f32be",
])  # fmt: skip
"""Decoders that a file may use."""
_OPTIONS = {"protocol_whitelist": "none", "enable_drefs": "0"}
_BLOCK = 2**16
_ALAC_PACKET = 4096
_WHOLE = {"MP4": 0.999}
_ROUGH = 0.98
"""Containers other than MP4 state their length roughly."""


def opener(kind: str) -> Callable[[BinaryIO], AbstractContextManager[Stream]]:
    """What opens a file of this kind."""

    @contextmanager
    def reading(file: BinaryIO) -> Iterator[Stream]:
        try:
            with av.open(file, format=PYAV[kind], options=_OPTIONS, metadata_errors="replace") as container:
                yield _stream(container, kind)
        except av.error.FFmpegError as error:
            said = error.strerror or type(error).__name__
            raise BadAudio(
                f"truncated or damaged: FFmpeg says {said!r}; copy it again from its source"
            ) from error

    return reading


def _stream(container: Any, kind: str) -> Stream:
    if not container.streams.audio:
        raise BadAudio(f"an {kind} file without a stream of audio; leave it out")
    stream = container.streams.audio[0]
    context = stream.codec_context
    name = getattr(getattr(context, "codec", None), "name", None)
    if name not in CODECS:
        raise BadAudio(
            f"{kind} {name or 'unknown coding'} is not a coding that is read here; convert it to FLAC"
        )
    if not context.sample_rate or not context.channels:
        raise BadAudio(f"damaged: its {kind} header states no sample rate or channels; copy it again")
    rate, promised = context.sample_rate, None
    if stream.duration:
        promised = round(stream.duration * stream.time_base * rate)
    elif container.duration:
        promised = round(container.duration / 1_000_000 * rate)
    if kind == "CAF ALAC" and promised is not None:
        promised = max(1, promised - _ALAC_PACKET)  # FFmpeg counts whole packets
    most = promised if kind == "MP4" else None
    blocks = _blocks(container, stream, rate, context.channels, most)
    return Stream(f"{kind} {name}", rate, context.channels, promised, blocks, _WHOLE.get(kind, _ROUGH))


def _blocks(
    container: Any, stream: Any, rate: int, channels: int, most: int | None
) -> Iterator[npt.NDArray[np.float32]]:
    """Blocks [frames, channels]; `most` frames at the most: an MP4's last packet is padded to a whole one."""
    at, held, waiting = 0, list[npt.NDArray[np.float32]](), 0
    for frame in container.decode(stream):
        if frame.sample_rate != rate or frame.layout.nb_channels != channels:
            raise BadAudio(f"its sample rate or channels change after {at / rate:.1f} s; convert it to FLAC")
        block = _floats(frame, channels)
        if most is not None:
            block = block[: max(0, most - at)]
        at, waiting = at + len(block), waiting + len(block)
        held.append(block)
        if waiting >= _BLOCK:  # frames of 1,024 samples one by one would cost more than decoding them
            yield np.concatenate(held)
            held, waiting = [], 0
    if waiting:
        yield np.concatenate(held)


def _floats(frame: Any, channels: int) -> npt.NDArray[np.float32]:
    """A decoded frame as float32 [frames, channels], full scale 1."""
    data: npt.NDArray[Any] = frame.to_ndarray()
    data = data.T if frame.format.is_planar else data.reshape(-1, channels)
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / np.float32(128)
    if np.issubdtype(data.dtype, np.integer):
        return data.astype(np.float32) / np.float32(2.0 ** (8 * data.dtype.itemsize - 1))
    return np.asarray(data, dtype=np.float32)
