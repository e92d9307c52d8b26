"""`ingest --export NAME`: a dataset's chunks as .npy files, for those who go on with code written for the original.

datasets/<name>/npy/<split>.npy holds [chunks, samples], shuffled; unlike the original's, the splits share nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from orchestrator.config import ExportConfig
from samplernn.chunks import SPLITS, Dataset, cache_folder
from samplernn.errors import BadInput
from samplernn.storage import Storage

NPY = "npy"
_AT_ONCE = 64


def export(folder: Storage, config: ExportConfig) -> dict[str, tuple[str, int]]:
    """Write train, valid and test; for each split where it is and how many chunks it holds. Raises BadInput."""
    dataset = Dataset.open(folder, cache_folder())
    length = max(1, round(config.chunk_seconds * dataset.sample_rate))
    total = sum(dataset.seconds(split) for split in SPLITS)
    written = {}
    for split in SPLITS:
        count = max(1, round(config.num_chunks * dataset.seconds(split) / total))
        rows = dataset.chunks(split, length, count)
        rows = rows[rows[:, 2] - rows[:, 1] == length]
        if not len(rows):
            raise BadInput(
                f"no region of the {split} split of {dataset.name} lasts {config.chunk_seconds:g} s; lower "
                "chunk_seconds"
            )
        rows = np.random.default_rng(config.seed).permutation(rows)
        name = f"{split}.npy"
        with folder.at(NPY).writing(name) as sink:
            header = {
                "descr": np.dtype(config.dtype).str,
                "fortran_order": False,
                "shape": (len(rows), length),
            }
            np.lib.format.write_array_header_1_0(sink, header)
            for at in range(0, len(rows), _AT_ONCE):
                sink.write(_chunks(dataset, rows[at : at + _AT_ONCE], config.dtype))
        written[split] = f"{folder.at(NPY)}/{name}", len(rows)
    return written


def _chunks(dataset: Dataset, rows: Any, dtype: str) -> bytes:
    pcm = np.empty((len(rows), int(rows[0, 2] - rows[0, 1])), np.int16)
    for out, (track, start, stop) in zip(pcm, rows.tolist(), strict=True):
        dataset.tracks[track].read(start, stop, out)
    return pcm.tobytes() if dtype == "int16" else (pcm / np.float32(32768)).astype(dtype).tobytes()
