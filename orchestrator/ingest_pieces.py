"""Long files in pieces: decoded side by side wherever workers run, and read in order by the task that makes the track.

A piece is a commit in the dataset's folder, gone when the ingest has ended: its samples before cleaning (float32), and
what the decoder said. The task of the track takes the pieces that are there and decodes the others itself, piece by
piece, so that its bytes depend on the file alone, and what is wrong with a file is told in one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Protocol

import numpy as np

from samplernn import commit
from samplernn.audio import Signal, Source
from samplernn.decode_process import decoding
from samplernn.errors import BadAudio, Damaged
from samplernn.pieces import Cut, joined_source
from samplernn.storage import Storage

PIECES = "pieces"
_SIGNAL, _SOURCE = "signal.f32", "source.json"


class Decoded(Protocol):
    """A file being decoded: its samples first, then what it was."""

    source: Source

    def signal(self) -> Iterator[Signal]:
        """Blocks float32 [samples], full scale 1."""
        ...


@contextmanager
def decoded(path: bytes, sample_rate: int, mono: str, found: list[Cut], pieces: Storage) -> Iterator[Decoded]:
    """The whole file: from one decoder, or piece by piece where it has several cuts."""
    if len(found) > 1:
        yield _InPieces(path, sample_rate, mono, found, pieces)
    else:
        with decoding(path, sample_rate, mono) as decoder:
            yield decoder


def make_piece(path: bytes, sample_rate: int, mono: str, cut: Cut, pieces: Storage) -> None:
    """Decode a piece of a file and commit it; one that can't be decoded is left to the track's task to tell of."""
    at = pieces.at(str(cut[0]))
    if _committed(at, _about(sample_rate, mono, cut)):
        return
    try:
        with commit.writing(at, **_about(sample_rate, mono, cut)) as making:
            with decoding(path, sample_rate, mono, cut) as decoder, making.file(_SIGNAL) as sink:
                for block in _quiet(decoder.signal()):
                    sink.write(block.data)
            making.put(_SOURCE, commit.to_json(asdict(decoder.source)))
    except BadAudio:
        pieces.delete(str(cut[0]))


class _InPieces:
    """All pieces of a file, one behind the other."""

    source: Source

    def __init__(self, path: bytes, sample_rate: int, mono: str, found: list[Cut], pieces: Storage) -> None:
        self._path, self._rate, self._mono, self._found, self._pieces = path, sample_rate, mono, found, pieces

    def signal(self) -> Iterator[Signal]:
        """Blocks float32 [samples], full scale 1."""
        sources = []
        for cut in self._found:
            at = self._pieces.at(str(cut[0]))
            if _committed(at, _about(self._rate, self._mono, cut)):
                yield from (np.frombuffer(block, np.float32) for block in at.blocks(_SIGNAL))
                sources.append(Source(**json.loads(at.read(_SOURCE))))
            else:
                with decoding(self._path, self._rate, self._mono, cut) as decoder:
                    yield from decoder.signal()
                    sources.append(decoder.source)
        self.source = joined_source(sources)


def _about(sample_rate: int, mono: str, cut: Cut) -> dict[str, object]:
    return {"sample_rate": sample_rate, "mono": mono, "cut": list(cut)}


def _committed(at: Storage, about: dict[str, object]) -> bool:
    """Whether a piece is there, made as it is wanted, every byte verified."""
    try:
        if commit.read_manifest(at)["about"] != about:
            return False
        for name in (_SIGNAL, _SOURCE):
            commit.verify_file(at, name)
    except (FileNotFoundError, Damaged, KeyError):
        return False
    return True


def _quiet(signal: Iterator[Signal]) -> Iterator[Signal]:
    """The same; a source that can't be read is no fault of the storage that is written to."""
    try:
        yield from signal
    except OSError as error:
        raise BadAudio(str(error)) from error
