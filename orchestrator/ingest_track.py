"""One source file into one committed track: hash, decode, clean, measure, commit. Runs wherever a worker runs.

Everything streams: a block is decoded (in a process of its own), cleaned, rounded, measured and written before the next
one is asked for, so that memory does not grow with the length of the file.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.audio_folder import AudioFile
from orchestrator.config import Clean
from orchestrator.levelling import levelled
from orchestrator.pages import overview, spectrogram
from orchestrator.ranges import RANGES, Span
from samplernn import commit
from samplernn.audio import Source, to_pcm
from samplernn.chunks import PCM, read_pcm, write_pcm
from samplernn.decode_process import decoding
from samplernn.errors import BadAudio, Damaged, StorageError
from samplernn.flac import encode_flac
from samplernn.passages import Passages, joined, length, scaled, within, without
from samplernn.sketch import Sketch
from samplernn.storage import Storage
from samplernn.track_measures import TrackMeasures

TRACK = "track.json"
PICTURE, EXCERPT, EXCERPT_PICTURE = "picture.png", "excerpt.flac", "excerpt.png"
"""What the report's page shows of a track."""
_EXCERPT_SECONDS, _EXCERPT_HEIGHT = 8, 96
_SLUG = 40
_BLOCK_BYTES = 2**20
_LEAST_SECONDS = 0.5
"""A shorter piece between two passages that are left out is left out as well."""

Signal = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrackJob:
    """What is wanted of every file."""

    folder: Storage
    """The dataset's."""
    sample_rate: int
    mono: str
    clean: Clean
    ranges: dict[str, list[Span]]
    origin: Storage | None = None
    """Where the files are to be fetched from; None when they are on the file system."""


@dataclass(frozen=True)
class Outcome:
    """What became of one source file."""

    name: str
    """Its path in the source folder."""
    track: dict[str, Any] | None = None
    """The body of its track.json; None when it was left out."""
    reason: str | None = None
    """Why it was left out."""
    twin: str | None = None
    """The file of the same content, when that is why."""
    kept: bool = False
    """Whether an earlier run had committed it."""
    where: str = ""
    """The Ray node that did it."""
    storage: str | None = None
    """Why the dataset's folder could not be written; the ingest can't go on."""


def ingest_file(file: AudioFile, job: TrackJob, seen: dict[str, str]) -> Outcome:
    """Commit one file as a track; whatever is wrong with it is in the outcome.

    `seen` remembers, by SHA-256, the files that were given before; the second of the same content is left out.
    """
    try:
        with _at_hand(file, job.origin) as path:
            outcome = _ingest(file, path, job, seen)
    except BadAudio as error:
        return Outcome(file.name, reason=str(error))
    except StorageError as error:
        return Outcome(file.name, storage=str(error))
    except OSError as error:
        return Outcome(file.name, reason=_unreadable(error, file.path))
    except MemoryError:
        return Outcome(
            file.name, reason="this machine's memory is full; end other work and run the ingest again"
        )
    if outcome.track:
        seen.setdefault(outcome.track["source_sha256"], outcome.name)
    return outcome


def track_id(name: str, digest: str) -> str:
    """The track's folder: what the file is called, and the first 8 hex digits of its SHA-256."""
    slug = re.sub(r"[^a-z0-9]+", "-", PurePath(name).stem.lower()).strip("-")[:_SLUG].strip("-")
    return f"{slug or 'track'}-{digest[:8]}"


def _ingest(file: AudioFile, path: bytes, job: TrackJob, seen: dict[str, str]) -> Outcome:
    before = _signature(path)
    digest = _digest(path, before[1])
    if digest in seen:
        return Outcome(file.name, reason=f"duplicate of {seen[digest]}", twin=seen[digest])
    tracks, identifier = job.folder.at("tracks"), track_id(file.name, digest)
    identity = {
        "source_sha256": digest,
        "sample_rate": job.sample_rate,
        "mono": job.mono,
        "clean": job.clean.model_dump(mode="json"),
        "ranges": [list(span) for span in job.ranges.get(file.name, [])],
        "pictures": [overview.VERSION, spectrogram.VERSION],
    }
    finished = _finished(tracks.at(identifier), identity)
    if finished is not None:
        return Outcome(file.name, finished, kept=True)
    try:
        track = _write(path, tracks.at(identifier), job, identity, before)
    except BadAudio:
        tracks.delete(identifier)  # what was written of it before the fault was found
        raise
    return Outcome(file.name, track)


def _write(
    path: bytes, at: Storage, job: TrackJob, identity: dict[str, Any], before: tuple[int, ...]
) -> dict[str, Any]:
    """Decode, clean, measure and commit a track; its track.json."""
    measures, sketch, seen = TrackMeasures(), Sketch(), overview.Overview(job.sample_rate)

    def rounded(blocks: Iterable[Signal]) -> Iterator[npt.NDArray[np.int16]]:
        for block in blocks:
            pcm = to_pcm(block)
            measures.add(pcm.astype(np.float32) / np.float32(32768))
            sketch.add(pcm)
            seen.add(pcm)
            yield pcm

    spans = _in_samples(identity["ranges"], job.sample_rate)
    with commit.writing(at, **identity) as making, decoding(path, job.sample_rate, job.mono) as decoder:
        signal = _selected(_readable(decoder.signal(), path), spans)
        with levelled(signal, job.clean, job.sample_rate) as level, making.file(PCM) as sink:
            write_pcm(sink, rounded(level.blocks))
        if _signature(path) != before:
            raise BadAudio("changed while it was read; run the ingest again")
        source = decoder.source
        if not measures.samples:
            seconds = source.frames / source.rate
            raise BadAudio(f"{RANGES} chooses nothing of it: it lasts {seconds:.2f} s; correct its line")
        usable, left = _usable(job, source, measures, _bounded(spans, source.samples))
        track = {
            **identity,
            "pcm_sha256": making.listing[PCM]["sha256"],
            "samples": measures.samples,
            "source": {name: value for name, value in asdict(source).items() if name != "clipped_at"},
            "measures": _rounded({**measures.result(), "clipped": source.clipped / source.frames}),
            "cleaned": _rounded(level.done | left),
            "usable": usable,
            "sketch": sketch.hex(),
            "wave": seen.wave(),
            "excerpt": _put_excerpt(making, usable, job.sample_rate),
        }
        making.put(PICTURE, seen.picture(10 ** (measures.result()["rms_dbfs"] / 20)))
        making.put(TRACK, commit.record_bytes(track))
    return track


def _put_excerpt(making: commit.Writing, usable: Passages, sample_rate: int) -> list[int]:
    """Some seconds from the middle of the longest passage, to be heard and seen: [start, stop) in samples."""
    start, stop = max(usable, key=lambda passage: passage[1] - passage[0])
    length = min(_EXCERPT_SECONDS * sample_rate, stop - start)
    first = (start + stop - length) // 2
    pcm = read_pcm(making.folder, first, first + length)
    making.put(EXCERPT, encode_flac(pcm, sample_rate, {}))
    making.put(EXCERPT_PICTURE, spectrogram.spectrogram_png(pcm, sample_rate, _EXCERPT_HEIGHT))
    return [first, first + length]


def _usable(
    job: TrackJob, source: Source, measures: TrackMeasures, spans: Passages
) -> tuple[Passages, dict[str, float]]:
    """The passages that may be used, and the seconds that were left out as silent and as clipped."""
    clean, rate, end = job.clean, job.sample_rate, measures.samples
    silent: Passages = []
    if clean.skip_silence is not None:
        silent = measures.silent(clean.silence_dbfs, clean.skip_silence, rate)
    if clean.trim_silence:
        ends = [one for one in measures.silent(clean.silence_dbfs, 0, rate) if one[0] == 0 or one[1] == end]
        silent = joined(silent, ends)
    clipped: Passages = []
    if clean.skip_clipped:
        clipped = joined(within(scaled(source.clipped_at, rate / source.rate, source.samples), spans))
    whole = within([[0, source.samples]], spans)
    usable = [
        piece
        for piece in without(whole, joined(silent, clipped))
        if piece in whole or piece[1] - piece[0] >= _LEAST_SECONDS * rate
    ]
    left = {}
    if clean.skip_silence is not None or clean.trim_silence:
        left["silence_seconds"] = length(silent) / rate
    if clean.skip_clipped:
        left["clipped_seconds"] = length(clipped) / rate
    if not usable:
        told = ", ".join(f"{name.split('_')[0]} {seconds:.1f} s" for name, seconds in left.items())
        raise BadAudio(
            f"nothing is left of its {end / rate:.1f} s after cleaning ({told}); leave it out or clean less"
        )
    return usable, left


def _in_samples(spans: list[list[float | None]], sample_rate: int) -> Passages:
    """Spans in seconds as passages in samples; everything where there are none."""
    far = 2**62
    found = [[round((a or 0) * sample_rate), far if b is None else round(b * sample_rate)] for a, b in spans]
    return found or [[0, far]]


def _bounded(spans: Passages, samples: int) -> Passages:
    return [[start, min(stop, samples)] for start, stop in spans if start < samples]


def _selected(signal: Iterable[Signal], spans: Passages) -> Iterator[Signal]:
    """The parts of the signal that lie in the spans; the rest is decoded and dropped, so that the file is checked."""
    at = 0
    for block in signal:
        for start, stop in spans:
            piece = block[max(0, start - at) : max(0, stop - at)]
            if len(piece):
                yield piece
        at += len(block)


def _readable(signal: Iterator[Signal], path: bytes) -> Iterator[Signal]:
    """The same; a source that can't be read is the file's fault and not the storage's that is written to."""
    try:
        yield from signal
    except OSError as error:
        raise BadAudio(_unreadable(error, path)) from error


def _unreadable(error: OSError, path: bytes) -> str:
    gone = not os.path.exists(path)  # noqa: PTH110
    where = f" on {socket.gethostname()}; the folder must be readable on every node" if gone else ""
    return f"can't be read: {error.strerror or error}{where}"


@contextmanager
def _at_hand(file: AudioFile, origin: Storage | None) -> Iterator[bytes]:
    """Path of the file on this machine; one on an object store is fetched for as long as it is needed."""
    if origin is None:
        yield file.path
        return
    *folders, name = os.fsdecode(file.path).split("/")
    with tempfile.NamedTemporaryFile(prefix="samplernn-") as copy:
        try:
            for block in origin.at(*folders).blocks(name):
                copy.write(block)
            copy.flush()
        except (StorageError, FileNotFoundError) as error:
            raise BadAudio(f"can't be fetched: {error}") from error
        yield os.fsencode(copy.name)


def _finished(at: Storage, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The track.json of a track that an earlier run committed from the same source, every byte verified."""
    try:
        if commit.read_manifest(at)["about"] != identity:
            return None
        commit.verify_file(at, PCM)
        for name in (PICTURE, EXCERPT, EXCERPT_PICTURE, TRACK):
            commit.verify_file(at, name)
        return commit.read_record(at, TRACK)
    except (FileNotFoundError, Damaged, KeyError):
        return None


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def _signature(path: bytes) -> tuple[int, ...]:
    """What changes when a file is written to or put in another's place."""
    status = os.stat(path)  # noqa: PTH116
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(path: bytes, size: int) -> str:
    """SHA-256 of a file of `size` bytes; one that has grown since is not read to an end that may never come."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
        size -= len(block)
        if size < 0:
            break
    if size:
        raise BadAudio("changed while it was read; run the ingest again")
    return digest.hexdigest()


def _blocks(path: bytes) -> Iterator[bytes]:
    # O_NONBLOCK: a FIFO put in the file's place must not hold the worker.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream:  # noqa: PTH123
        while block := stream.read(_BLOCK_BYTES):
            yield block
