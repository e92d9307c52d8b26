"""FLAC as it is kept: mono with its tags, encoded to bytes and decoded from them."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import soundfile

from samplernn.errors import BadAudio

TAGS = (
    "title",
    "artist",
    "album",
    "comment",
    "date",
    "software",
    "copyright",
    "license",
    "tracknumber",
    "genre",
)


def encode_flac(
    pcm: npt.NDArray[np.int16] | npt.NDArray[np.int32], sample_rate: int, tags: Mapping[str, str]
) -> bytes:
    """The FLAC file of mono PCM [samples] at sample_rate Hz; decoding it gives back the same samples.

    int16 makes a 16-bit file; int32 a 24-bit one of the upper 24 bits. `tags` become Vorbis comments; keys are those of
    TAGS, ValueError otherwise.
    """
    unknown = sorted(set(tags) - set(TAGS))
    if unknown:
        raise ValueError(f"FLAC tags {unknown} are not written by libsndfile; use {', '.join(TAGS)}")
    if pcm.dtype not in (np.int16, np.int32) or pcm.ndim != 1:
        raise ValueError(f"FLAC is made of int16 or int32 [samples], not {pcm.dtype} {list(pcm.shape)}")
    subtype = "PCM_16" if pcm.dtype == np.int16 else "PCM_24"
    sink = io.BytesIO()
    with soundfile.SoundFile(sink, "w", sample_rate, 1, subtype, format="FLAC") as file:
        for key, value in tags.items():
            setattr(file, key, value)
        file.write(pcm)
    return sink.getvalue()


def decode_flac(data: bytes) -> tuple[npt.NDArray[np.int16], int]:
    """PCM int16 [samples] and the sample rate in Hz of a FLAC file: 16-bit mono, or 24-bit of the same samples.

    Raises BadAudio for anything else.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format != "FLAC" or file.channels != 1 or file.subtype not in ("PCM_16", "PCM_24"):
                raise BadAudio(
                    f"{file.format} {file.subtype} with {file.channels} channels is not 16- or 24-bit mono FLAC"
                )
            frames, sample_rate = file.frames, file.samplerate
            pcm = file.read(dtype="int16")
    except soundfile.LibsndfileError as error:
        raise BadAudio(f"{len(data)} bytes are not a FLAC file: {error.error_string}") from error
    if len(pcm) != frames:
        raise BadAudio(f"FLAC is truncated: {len(pcm)} of {frames} samples")
    return np.asarray(pcm, dtype=np.int16), int(sample_rate)
