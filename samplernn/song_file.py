"""A song's audio file in any format that libsndfile writes, mono, piece by piece."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import soundfile

from samplernn.errors import BadInput

NAMED = {"opus": ("OGG", "OPUS")}
"""Formats that are known by a name of their own."""
BESIDE = {"sd2"}
"""Formats that libsndfile splits over two files: the second, `._`, would lie in the folder where the program runs."""


def check_format(name: str, bits: int, sample_rate: int) -> None:
    """Raise BadInput when there is no such format, or it can't hold mono sound at sample_rate Hz."""
    known = sorted({*(each.lower() for each in soundfile.available_formats()), *NAMED} - BESIDE)
    if name not in known:
        raise BadInput(f"file.format {name!r} is none that soundfile writes; there are: {', '.join(known)}")
    try:
        with SongFile(io.BytesIO(), name, bits, sample_rate, {}) as file:
            file.write(np.zeros(1024, dtype=np.int16))
    except (soundfile.LibsndfileError, ValueError) as error:
        raise BadInput(
            f"file.format {name} can't be written at {sample_rate:,} Hz in mono ({error}); use flac or wav"
        ) from error


class SongFile:
    """A mono file being written; leave the with block to have it whole."""

    def __init__(
        self, target: Path | IO[bytes], name: str, bits: int, sample_rate: int, tags: Mapping[str, str]
    ) -> None:
        """`bits` a sample (16 or 24) count where the format has whole numbers of that size.

        `tags` as samplernn.flac.TAGS names them are written where the format can carry them.
        """
        container, subtype = NAMED.get(name, (name.upper(), ""))
        if not subtype:
            wanted = [f"PCM_{bits}", "PCM_16", soundfile.default_subtype(container)]
            subtype = next(each for each in wanted if soundfile.check_format(container, each))
        self._whole = subtype.startswith("PCM_")
        self._file = soundfile.SoundFile(target, "w", sample_rate, 1, subtype, format=container)
        for key, value in tags.items():
            with suppress(soundfile.LibsndfileError):  # this format carries none
                setattr(self._file, key, value)

    def write(self, pcm: npt.NDArray[np.int16]) -> None:
        """Append samples; lossless where the format is."""
        self._file.write(pcm if self._whole else pcm.astype(np.float32) / np.float32(32768))

    def __enter__(self) -> SongFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
