"""One source file into one committed track: hash, decode, measure, commit. Runs wherever a worker runs."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.audio_folder import AudioFile
from samplernn import commit
from samplernn.audio import Source
from samplernn.chunks import BATCH, PCM, pcm_to_arrow
from samplernn.decode_process import decode_apart
from samplernn.errors import BadAudio, Damaged, StorageError
from samplernn.measures import measure
from samplernn.storage import Storage

TRACK = "track.json"
_SLUG = 40
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Outcome:
    """What became of one source file."""

    name: str
    """Its path in the source folder."""
    track: dict[str, Any] | None = None
    """The body of its track.json; None when it was left out."""
    reason: str | None = None
    """Why it was left out."""
    kept: bool = False
    """Whether an earlier run had committed it."""
    storage: str | None = None
    """Why the dataset's folder could not be written; the ingest can't go on."""


def ingest_file(file: AudioFile, folder: Storage, sample_rate: int, seen: dict[str, str]) -> Outcome:
    """Commit one file as a track at sample_rate Hz below `folder`; whatever is wrong with it is in the outcome.

    `seen` remembers, by SHA-256, the files that were given before; the second of the same content is left out.
    """
    try:
        outcome = _ingest(file, folder, sample_rate, seen)
    except BadAudio as error:
        return Outcome(file.name, reason=str(error))
    except StorageError as error:
        return Outcome(file.name, storage=str(error))
    except OSError as error:
        gone = not os.path.exists(file.path)  # noqa: PTH110
        where = f" on {socket.gethostname()}; the folder must be readable on every node" if gone else ""
        return Outcome(file.name, reason=f"can't be read: {error.strerror or error}{where}")
    except MemoryError:
        return Outcome(file.name, reason="too long for this machine's memory; cut it into several files")
    if outcome.track:
        seen.setdefault(outcome.track["source_sha256"], outcome.name)
    return outcome


def track_id(name: str, digest: str) -> str:
    """The track's folder: what the file is called, and the first 8 hex digits of its SHA-256."""
    slug = re.sub(r"[^a-z0-9]+", "-", PurePath(name).stem.lower()).strip("-")[:_SLUG].strip("-")
    return f"{slug or 'track'}-{digest[:8]}"


def _ingest(file: AudioFile, folder: Storage, sample_rate: int, seen: dict[str, str]) -> Outcome:
    digest = _digest(file.path)
    if digest in seen:
        return Outcome(file.name, reason=f"duplicate of {seen[digest]}")
    at = folder.at("tracks", track_id(file.name, digest))
    identity = {"source_sha256": digest, "sample_rate": sample_rate}
    finished = _finished(at, identity)
    if finished is not None:
        return Outcome(file.name, finished, kept=True)
    pcm, source = decode_apart(file.path, sample_rate)
    if _digest(file.path) != digest:
        raise BadAudio("changed while it was read; run the ingest again")
    track = _describe(pcm, source, identity)
    blocks = (pcm[start : start + BATCH] for start in range(0, len(pcm), BATCH))
    commit.write_commit(at, {PCM: pcm_to_arrow(blocks), TRACK: commit.record_bytes(track)}, **identity)
    return Outcome(file.name, track)


def _finished(at: Storage, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The track.json of a track that an earlier run committed from the same source, every byte verified."""
    try:
        if commit.read_manifest(at)["about"] != identity:
            return None
        commit.read_file(at, PCM)
        commit.read_file(at, TRACK)
        return commit.read_record(at, TRACK)
    except (FileNotFoundError, Damaged, KeyError):
        return None


def _describe(pcm: npt.NDArray[np.int16], source: Source, identity: dict[str, Any]) -> dict[str, Any]:
    measures = measure(pcm.astype(np.float32) / np.float32(32768))
    return {
        **identity,
        "pcm_sha256": hashlib.sha256(pcm.data).hexdigest(),
        "samples": len(pcm),
        "source": asdict(source),
        "measures": {name: round(value, 6) for name, value in measures.items()},
    }


def _digest(path: bytes) -> str:
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: bytes) -> Iterator[bytes]:
    with open(path, "rb") as stream:  # noqa: PTH123
        while block := stream.read(_BLOCK_BYTES):
            yield block
