"""A piece of a recording: one that a song goes on from, or whose features it follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from samplernn.decode_process import decode_apart
from samplernn.errors import BadAudio, BadInput


def read_piece(
    what: str, path: str, sample_rate: int, offset: float, seconds: float
) -> npt.NDArray[np.int16]:
    """`seconds` of an audio file from `offset` seconds on, mono at sample_rate Hz, int16 [samples].

    `what` the piece is, for the errors: "prompt", for one.

    Raises BadInput when the file can't be used or is too short.
    """
    try:
        pcm, _ = decode_apart(Path(path).expanduser(), sample_rate)
    except BadAudio as error:
        raise BadInput(f"the {what} {path} can't be used: {error}") from error
    except OSError as error:
        raise BadInput(f"the {what} {path} can't be read ({error.strerror}); check the path") from error
    first, count = round(offset * sample_rate), round(seconds * sample_rate)
    if first + count > len(pcm):
        raise BadInput(
            f"the {what} {path} lasts {len(pcm) / sample_rate:.2f} s, and {seconds:g} s from {offset:g} s on end "
            "beyond it; lower offset or seconds"
        )
    return pcm[first : first + count].copy()
