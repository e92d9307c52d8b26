"""One source file into one committed track: hash, decode, clean, measure, commit. Runs wherever a worker runs.

Everything streams: a block is decoded (in a process of its own), cleaned, rounded, measured and written before the next
one is asked for, so that memory does not grow with the length of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.audio_folder import AudioFile
from orchestrator.config import Clean
from orchestrator.ingest_pieces import PIECES, decoded
from orchestrator.levelling import levelled
from orchestrator.pages import overview
from orchestrator.pages.spectrogram import spectrogram_png
from orchestrator.ranges import RANGES, Span
from orchestrator.source_file import at_hand, digest, readable, signature, unreadable
from samplernn import commit
from samplernn.audio import Source, to_pcm
from samplernn.chunks import FEATURES, PCM, features_to_arrow, read_pcm, write_pcm
from samplernn.errors import BadAudio, Damaged, StorageError
from samplernn.features import EXTRACTORS
from samplernn.flac import encode_flac
from samplernn.passages import Passages, joined, length, scaled, within, without
from samplernn.pieces import cuts_of
from samplernn.sketch import Sketch
from samplernn.spectrogram import VERSION
from samplernn.storage import Storage
from samplernn.track_measures import TrackMeasures

TRACK = "track.json"
PICTURE, EXCERPT, EXCERPT_PICTURE = "picture.png", "excerpt.flac", "excerpt.png"
"""What the report's page shows of a track."""
_EXCERPT_SECONDS, _EXCERPT_HEIGHT = 8, 96
_SLUG = 40
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
    features: tuple[str, ...] = ()
    """Conditioning features that are measured in the same pass."""
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
        with at_hand(file, job.origin) as path:
            outcome = _ingest(file, path, job, seen)
    except BadAudio as error:
        return Outcome(file.name, reason=str(error))
    except StorageError as error:
        return Outcome(file.name, storage=str(error))
    except OSError as error:
        return Outcome(file.name, reason=unreadable(error, file.path))
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
    before = signature(path)
    sha256 = digest(path, before[1])
    if sha256 in seen:
        return Outcome(file.name, reason=f"duplicate of {seen[sha256]}", twin=seen[sha256])
    tracks, identifier = job.folder.at("tracks"), track_id(file.name, sha256)
    identity = identity_of(file, sha256, job)
    finished = finished_track(tracks.at(identifier), identity)
    if finished is not None:
        return Outcome(file.name, finished, kept=True)
    try:
        track = _write(path, tracks.at(identifier), job, identity, before)
    except BadAudio:
        tracks.delete(identifier)  # what was written of it before the fault was found
        raise
    return Outcome(file.name, track)


def identity_of(file: AudioFile, sha256: str, job: TrackJob) -> dict[str, Any]:
    """What a track is made from; a track made from anything else is another one."""
    return {
        "source_sha256": sha256,
        "sample_rate": job.sample_rate,
        "mono": job.mono,
        "clean": job.clean.model_dump(mode="json"),
        "ranges": [list(span) for span in job.ranges.get(file.name, [])],
        "features": list(job.features),
        "pictures": [overview.VERSION, VERSION],
    }


def _write(
    path: bytes, at: Storage, job: TrackJob, identity: dict[str, Any], before: tuple[int, ...]
) -> dict[str, Any]:
    """Decode, clean, measure and commit a track; its track.json."""
    measures, sketch, seen = TrackMeasures(), Sketch(), overview.Overview(job.sample_rate)
    features = {name: EXTRACTORS[name]() for name in job.features}

    def rounded(blocks: Iterable[Signal]) -> Iterator[npt.NDArray[np.int16]]:
        for block in blocks:
            pcm = to_pcm(block)
            measures.add(pcm.astype(np.float32) / np.float32(32768))
            sketch.add(pcm)
            seen.add(pcm)
            for feature in features.values():
                feature.add(pcm)
            yield pcm

    spans = _in_samples(identity["ranges"], job.sample_rate)
    pieces = job.folder.at(PIECES, identity["source_sha256"])
    with (
        commit.writing(at, **identity) as making,
        decoded(path, job.sample_rate, job.mono, cuts_of(path), pieces) as decoder,
    ):
        signal = _selected(readable(decoder.signal(), path), spans)
        with levelled(signal, job.clean, job.sample_rate) as level, making.file(PCM) as sink:
            write_pcm(sink, rounded(level.blocks))
        if signature(path) != before:
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
        if features:
            making.put(FEATURES, features_to_arrow({name: one.rows() for name, one in features.items()}))
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
    making.put(EXCERPT_PICTURE, spectrogram_png(pcm, sample_rate, _EXCERPT_HEIGHT))
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


def finished_track(at: Storage, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The track.json of a track that an earlier run committed from the same source, every byte verified."""
    try:
        manifest = commit.read_manifest(at)
        if manifest["about"] != identity:
            return None
        for name in manifest["files"]:
            commit.verify_file(at, name)
        return commit.read_record(at, TRACK)
    except (FileNotFoundError, Damaged, KeyError):
        return None


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
