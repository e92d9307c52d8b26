"""A dataset from PCM, as ingest would leave it, without Ray."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from samplernn import commit
from samplernn.chunks import CARD, PCM, pcm_to_arrow
from samplernn.splits import split_track
from samplernn.storage import Storage


def write_dataset(folder: Storage, name: str, tracks: Iterable[np.ndarray], rate: int) -> None:
    """Write int16 tracks [samples] of `rate` Hz, a tenth of each held out for validation and 2 % for tests."""
    rows = []
    for index, pcm in enumerate(tracks):
        track = f"track-{index:03}"
        commit.write_commit(folder.at("tracks", track), {PCM: pcm_to_arrow([pcm])})
        splits = split_track([(0, len(pcm))], rate, track, valid=0.1, test=0.02, guard_seconds=0.25, seed=123)
        rows.append({"id": track, "samples": len(pcm), "splits": splits})
    commit.write_record(folder, CARD, {"schema": 1, "name": name, "sample_rate": rate, "tracks": rows})
