"""A dataset's chunks as a sharded ray.data.Dataset: for evaluation, features and statistics over a cluster.

    chunks = chunk_dataset(workspace.dataset("band"), "train", length=8 * 16_000, count=3200)
    chunks.map_batches(loudness, batch_format="numpy")       # a function of {"pcm": int16 [chunks, samples], ...}
    mine, yours = chunks.streaming_split(2)                  # for two workers that train together

The driver makes index rows (track, start, samples); the PCM is gathered where it is wanted, from the node's
memory-mapped copy. A trial of a sweep does not read this: its own seeded index (windows.py) resumes exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray.data

from samplernn import commit
from samplernn.chunks import CARD, PCM, Dataset, Track, cache_folder, local_file, regions_of
from samplernn.errors import BadInput
from samplernn.storage import Storage

CHUNKS_A_BLOCK = 256
_MOST_OPEN = 256
_open: dict[str, Track] = {}


def chunk_dataset(
    folder: Storage, split: str, length: int, count: int | None = None, hop: int | None = None
) -> ray.data.Dataset:
    """Chunks of a split, chosen as Dataset.chunks does, in its order within each track.

    Columns: track (its id), start, samples (of audio: less than `length` where the chunk is shorter, zeros behind), and
    pcm, int16 [length]. A block lies in one track, so that a task reads one file. Raises BadInput.
    """
    card = commit.read_record(folder, CARD)
    index = Dataset(card["name"], card["sample_rate"], "", (), regions_of(card))
    rows = index.chunks(split, length, count, hop)
    identifiers = [track["id"] for track in card["tracks"]]
    blocks = []
    for track in np.unique(rows[:, 0]).tolist():
        own = rows[rows[:, 0] == track]
        for at in range(0, len(own), CHUNKS_A_BLOCK):
            part = own[at : at + CHUNKS_A_BLOCK]
            names = pa.array([identifiers[track]] * len(part))
            columns = {"track": names, "start": part[:, 1], "samples": part[:, 2] - part[:, 1]}
            blocks.append(pa.table(columns))
    if not blocks:
        raise BadInput(f"the {split} split of {card['name']} holds no chunks")
    return ray.data.from_arrow(blocks).map_batches(
        _gather, fn_kwargs={"folder": folder, "length": length}, batch_format="numpy", batch_size=None
    )


def _gather(rows: dict[str, npt.NDArray[Any]], folder: Storage, length: int) -> dict[str, npt.NDArray[Any]]:
    pcm = np.zeros((len(rows["start"]), length), np.int16)
    for out, name, start, samples in zip(pcm, rows["track"], rows["start"], rows["samples"], strict=True):
        _track(folder, str(name)).read(int(start), int(start + samples), out)
    return {**rows, "pcm": pcm}


def _track(folder: Storage, name: str) -> Track:
    """A track, verified once a process and on an object store fetched once a node."""
    key = f"{folder}/{name}"
    if key not in _open:
        if len(_open) >= _MOST_OPEN:
            _open.clear()
        _open[key] = Track(local_file(folder.at("tracks", name), PCM, cache_folder()))
    return _open[key]
