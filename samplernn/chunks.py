"""The chunk store: PCM once, chunks as offsets into it.

A dataset folder holds dataset.json (a record: the card) and tracks/<id>/, a commit each with pcm.arrow: an Arrow IPC
file with one int16 column `pcm` in batches of BATCH samples, memory-mapped when read. The card names for every track
the regions [start, stop) in samples of each split.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from samplernn import commit
from samplernn.errors import BadInput, Damaged
from samplernn.features import Features, measure_features
from samplernn.storage import Storage

CARD = "dataset.json"
PCM = "pcm.arrow"
BATCH = 2**20
SPLITS = ("train", "valid", "test")
_SCHEMA = pa.schema([("pcm", pa.int16())])

Pcm = npt.NDArray[np.int16]


def pcm_to_arrow(blocks: Iterable[Pcm]) -> bytes:
    """The bytes of a pcm.arrow: the blocks joined and cut into batches of BATCH samples."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, _SCHEMA) as writer:
        held: list[Pcm] = []
        for block in (*blocks, None):
            if block is not None:
                held.append(block)
            while (waiting := sum(len(one) for one in held)) >= BATCH or (block is None and waiting):
                joined = np.concatenate(held)
                writer.write_batch(pa.record_batch([pa.array(joined[:BATCH])], schema=_SCHEMA))
                held = [joined[BATCH:]]
    return sink.getvalue()


class Track:
    """One track's PCM, memory-mapped."""

    def __init__(self, path: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches = [
            reader.get_batch(i).column(0).to_numpy(zero_copy_only=True)
            for i in range(reader.num_record_batches)
        ]

        self._features: dict[str, Features] = {}

    @property
    def samples(self) -> int:
        """Length in samples."""
        return sum(len(batch) for batch in self._batches)

    def features(self, names: Sequence[str]) -> Features:
        """Local conditioning of the whole track (see features.py), measured when first asked for: [rows, names]."""
        for name in names:
            if name not in self._features:
                pcm = np.empty(self.samples, dtype=np.int16)
                self.read(0, len(pcm), pcm)
                self._features[name] = measure_features(pcm, [name])
        return np.concatenate([self._features[name] for name in names], axis=1)

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
        regions: dict[str, list[tuple[int, int, int]]] = {split: [] for split in SPLITS}
        tracks = []
        for index, track in enumerate(card["tracks"]):
            tracks.append(Track(_local_pcm(folder.at("tracks", track["id"]), cache / digest)))
            for split in SPLITS:
                regions[split] += [(index, start, stop) for start, stop in track["splits"][split]]
        return cls(card["name"], card["sample_rate"], digest, tuple(tracks), regions)

    def chunks(self, split: str, length: int, count: int | None) -> npt.NDArray[np.int64]:
        """Chunks of a split as rows (track, start, stop), int64 [chunks, 3], none longer than `length` samples.

        count=None lays them end to end. Otherwise `count` chunks start evenly spaced over the split and overlap as
        needed; a region shorter than `length` is one chunk of its own size. Chunks never cross a region.
        """
        regions = self.regions[split]
        if count is None:
            rows = [
                (t, at, min(at + length, stop))
                for t, start, stop in regions
                for at in range(start, stop, length)
            ]
        else:
            rows = _evenly_spaced(regions, length, count)
        if not rows:
            raise BadInput(f"the {split} split of dataset {self.name} is empty; ingest more or longer audio")
        return np.array(rows, dtype=np.int64)

    def seconds(self, split: str) -> float:
        """Length of a split in seconds."""
        return sum(stop - start for _, start, stop in self.regions[split]) / self.sample_rate


def _evenly_spaced(
    regions: Sequence[tuple[int, int, int]], length: int, count: int
) -> list[tuple[int, int, int]]:
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


def _local_pcm(folder: Storage, cache: Path) -> Path:
    """Path of a verified pcm.arrow on this machine."""
    try:
        data = commit.read_file(folder, PCM)
    except FileNotFoundError as error:
        raise Damaged(
            f"{folder} is in the dataset's card and has no manifest; ingest the folder again"
        ) from error
    if folder.local is not None:
        return folder.local / PCM
    copy = Storage.open(cache).at(folder.root.rsplit("/", 1)[-1])
    copy.write(PCM, data)
    return Path(copy.root) / PCM
