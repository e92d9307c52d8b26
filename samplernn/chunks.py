"""The chunk store: PCM once, chunks as offsets into it.

A dataset folder holds dataset.json (a record: the card) and tracks/<id>/, a commit each with pcm.arrow: an Arrow IPC
file with one int16 column `pcm` in batches of BATCH samples, memory-mapped when read. The card names for every track
the regions [start, stop) in samples of each split.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from samplernn import commit
from samplernn.errors import BadInput, Damaged
from samplernn.features import Features, measure_feature
from samplernn.storage import Storage

CARD = "dataset.json"
PCM = "pcm.arrow"
FEATURES = "features.arrow"
"""A track's local conditioning (features.py) as it was ingested: a float32 column for each feature."""
BATCH = 2**20
SPLITS = ("train", "valid", "test")
_SCHEMA = pa.schema([("pcm", pa.int16())])

Pcm = npt.NDArray[np.int16]
Regions = Sequence[tuple[int, int, int]]


def write_pcm(sink: Any, blocks: Iterable[Pcm]) -> None:
    """Write a pcm.arrow to a writable file: the blocks joined and cut into batches of BATCH samples.

    Where the blocks were cut leaves no trace, and no more than a batch is held in memory.
    """
    with pa.ipc.new_file(sink, _SCHEMA) as writer:
        held: list[Pcm] = []
        waiting = 0
        for block in blocks:
            held.append(block)
            waiting += len(block)
            if waiting >= BATCH:
                joined = np.concatenate(held)
                whole = waiting // BATCH * BATCH
                for at in range(0, whole, BATCH):
                    writer.write_batch(_batch(joined[at : at + BATCH]))
                held, waiting = [joined[whole:]], waiting - whole
        if waiting:
            writer.write_batch(_batch(np.concatenate(held)))


def pcm_to_arrow(blocks: Iterable[Pcm]) -> bytes:
    """The bytes of a pcm.arrow, as write_pcm writes it."""
    sink = io.BytesIO()
    write_pcm(sink, blocks)
    return sink.getvalue()


def _batch(pcm: Pcm) -> pa.RecordBatch:
    return pa.record_batch([pa.array(pcm)], schema=_SCHEMA)


def read_pcm(folder: Storage, start: int, stop: int) -> Pcm:
    """Samples [start, stop) of the pcm.arrow in a folder anywhere; only the batches that hold them are read."""
    first = start // BATCH
    with folder.reading(PCM) as stream:
        reader = pa.ipc.open_file(stream)
        batches = [reader.get_batch(at).column(0).to_numpy() for at in range(first, -(-stop // BATCH))]
    pcm: Pcm = np.concatenate(batches)[start - first * BATCH : stop - first * BATCH]
    return pcm


def features_to_arrow(features: Mapping[str, Features]) -> bytes:
    """The bytes of a features.arrow: for each name its rows, float32 [rows]."""
    sink = io.BytesIO()
    table = pa.table({name: pa.array(rows) for name, rows in features.items()})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


class Track:
    """One track's PCM, memory-mapped, and its features, read or else measured when first asked for."""

    def __init__(self, path: Path, features: Path | None = None) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches = [
            reader.get_batch(i).column(0).to_numpy(zero_copy_only=True)
            for i in range(reader.num_record_batches)
        ]
        self._samples = sum(map(len, self._batches))
        self._features: dict[str, Features] = {}
        self._stored = features

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, part: slice) -> Pcm:
        """A copy of the samples in a slice without step, as of an array."""
        start, stop, _ = part.indices(self._samples)
        out = np.empty(max(0, stop - start), np.int16)
        self.read(start, start + len(out), out)
        return out

    def features(self, names: Sequence[str]) -> Features:
        """Local conditioning of the whole track (see features.py): float32 [rows, names]."""
        if self._stored is not None and not self._features:
            table = pa.ipc.open_file(pa.memory_map(str(self._stored))).read_all()
            self._features.update({name: table.column(name).to_numpy() for name in table.column_names})
        for name in names:
            if name not in self._features:
                blocks = (self[at : at + BATCH] for at in range(0, len(self), BATCH))
                self._features[name] = measure_feature(blocks, name)
        return np.stack([self._features[name] for name in names], axis=1)

    def read(self, start: int, stop: int, out: Pcm) -> None:
        """Copy samples [start, stop) to the front of out."""
        at = start
        while at < stop:
            batch, offset = divmod(at, BATCH)
            piece = self._batches[batch][offset : offset + stop - at]
            if not len(piece):
                raise IndexError(f"samples [{start}, {stop}) reach beyond the end of the track")
            out[at - start : at - start + len(piece)] = piece
            at += len(piece)


@dataclass(frozen=True)
class Dataset:
    """An ingested dataset, open for reading."""

    name: str
    sample_rate: int
    """Hz."""
    digest: str
    """SHA-256 of the card: two datasets with the same digest hold the same samples in the same splits."""
    tracks: tuple[Track, ...]
    regions: dict[str, list[tuple[int, int, int]]]
    """For each split its (track, start, stop) in samples."""

    @classmethod
    def open(cls, folder: Storage, cache: Path) -> Dataset:
        """Open a dataset, verifying every track; one on an object store is first copied to the folder `cache`.

        Raises BadInput when there is no such dataset, Damaged when a track does not verify.
        """
        try:
            card = commit.read_record(folder, CARD)
        except FileNotFoundError as error:
            raise BadInput(
                f"there is no dataset at {folder}; make it with: orchestrator ingest FOLDER"
            ) from error
        digest = commit.sha256(commit.to_json(card))
        tracks = tuple(open_track(folder.at("tracks", track["id"]), track, cache) for track in card["tracks"])
        return cls(card["name"], card["sample_rate"], digest, tracks, regions_of(card))

    def chunks(
        self, split: str, length: int, count: int | None = None, hop: int | None = None
    ) -> npt.NDArray[np.int64]:
        """Chunks of a split as rows (track, start, stop), int64 [chunks, 3], none longer than `length` samples.

        With `count`, so many chunks start evenly spaced over the split and overlap as needed. Otherwise one starts
        every `hop` samples of each region, by default end to end, and the last of a region ends with it. A region
        shorter than `length` is one chunk of its own size. Chunks never cross a region.
        """
        regions = self.regions[split]
        every = hop or length
        rows = _every(regions, length, every) if count is None else _evenly_spaced(regions, length, count)
        if not rows:
            raise BadInput(f"the {split} split of dataset {self.name} is empty; ingest more or longer audio")
        return np.array(rows, dtype=np.int64)

    def seconds(self, split: str) -> float:
        """Length of a split in seconds."""
        return sum(stop - start for _, start, stop in self.regions[split]) / self.sample_rate


def regions_of(card: dict[str, Any]) -> dict[str, list[tuple[int, int, int]]]:
    """For each split its regions (track, start, stop) as a dataset's card has them."""
    return {
        split: [
            (index, start, stop)
            for index, track in enumerate(card["tracks"])
            for start, stop in track["splits"][split]
        ]
        for split in SPLITS
    }


def _every(regions: Regions, length: int, hop: int) -> list[tuple[int, int, int]]:
    return [
        (track, at, min(at + length, stop))
        for track, start, stop in regions
        # The last chunk is the first that reaches the end of the region.
        for at in range(start, min(stop, max(start + 1, stop - length + hop)), hop)
    ]


def _evenly_spaced(regions: Regions, length: int, count: int) -> list[tuple[int, int, int]]:
    short = [(track, start, stop) for track, start, stop in regions if stop - start <= length]
    long = [(track, start, stop) for track, start, stop in regions if stop - start > length]
    if not long:
        return short
    rooms = np.array([stop - start - length + 1 for _, start, stop in long])
    firsts = np.concatenate([[0], np.cumsum(rooms)])
    spots = np.linspace(0, firsts[-1] - 1, max(1, count - len(short))).astype(np.int64)
    rows = list(short)
    for spot in spots:
        region = int(np.searchsorted(firsts, spot, side="right")) - 1
        track, start, _ = long[region]
        at = start + int(spot - firsts[region])
        rows.append((track, at, at + length))
    return rows


def open_track(folder: Storage, row: Mapping[str, Any], cache: Path) -> Track:
    """The track in `folder`, of which the card says `row`, verified; see local_file for `cache`. Raises Damaged."""
    stored = local_file(folder, FEATURES, cache) if row.get("features") else None
    return Track(local_file(folder, PCM, cache), stored)


def local_file(folder: Storage, name: str, cache: Path) -> Path:
    """Path on this machine of a track's file, verified by its hash.

    One on an object store is fetched to `cache` once, whoever on this machine asks for it first, under the name of its
    SHA-256; the others wait for it, verify it and read the same file. Raises Damaged.
    """
    try:
        if folder.local is not None:
            commit.verify_file(folder, name)
            return folder.local / name
        entry = commit.read_manifest(folder)["files"][name]
    except FileNotFoundError as error:
        raise Damaged(
            f"{folder} is in the dataset's card and has no manifest; ingest the folder again"
        ) from error
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{entry['sha256']}.arrow"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_whole(path, entry):
            # Not written in place: a trial that has the old file mapped must not see it change.
            fetched = path.with_suffix(f".{os.getpid()}")
            with fetched.open("wb") as out:
                for block in folder.blocks(name):
                    out.write(block)
            if not _is_whole(fetched, entry):
                fetched.unlink()
                raise Damaged(f"{folder}/{name} does not match its SHA-256 in the manifest")
            fetched.replace(path)
    return path


def cache_folder() -> Path:
    """Where this node keeps copies of datasets from object stores."""
    return Path(tempfile.gettempdir()) / f"samplernn-datasets-{os.getuid()}"


def _is_whole(path: Path, entry: dict[str, Any]) -> bool:
    if not path.exists() or path.stat().st_size != entry["bytes"]:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == str(entry["sha256"])
