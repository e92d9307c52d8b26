"""What bf16 and int8 weights cost on held-out music, in bits a sample: teacher-forced by the native backend.

    python benchmarks/precision.py MODEL_COMMIT DATASET [--split valid] [--seconds 60] [--json FILE]

MODEL_COMMIT is a checkpoint's folder (.../model/step-<n>.<attempt>), DATASET a dataset's (.../datasets/<name>). Chunks
are spread evenly over the split, each from silence with the state carried through it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samplernn.checkpoint import load_model
from samplernn.chunks import Dataset
from samplernn.folding import FoldedModel, fold
from samplernn.generate.native_backend import PRECISIONS, NativeBackend, Precision
from samplernn.quantize import encode
from samplernn.storage import Storage

BLOCK = 1024
SONGS = 16


def bits(model: FoldedModel, codes: npt.NDArray[np.int16], precision: Precision) -> float:
    """Mean -log2 p of codes [chunks, samples], samples a multiple of the block."""
    total, block = 0.0, -(-BLOCK // model.config.context) * model.config.context
    for first in range(0, len(codes), SONGS):
        part = codes[first : first + SONGS]
        backend = NativeBackend(model, len(part), precision=precision)
        for at in range(0, part.shape[1], block):
            given = np.ascontiguousarray(part[:, at : at + block])
            logits = backend.teacher_forced(given).astype(np.float64)
            top = logits.max(axis=2, keepdims=True)
            log_z = np.log(np.exp(logits - top).sum(axis=2)) + top[:, :, 0]
            chosen = np.take_along_axis(logits, given[:, :, None].astype(np.int64), axis=2)[:, :, 0]
            total += float((log_z - chosen).sum()) / np.log(2)
    return total / codes.size


def held_out(
    dataset: Dataset, model: FoldedModel, split: str, chunk_seconds: float, seconds: float
) -> npt.NDArray[np.int16]:
    """Codes [chunks, samples] of whole chunks spread over a split, at most `seconds` of them (one at least).

    A chunk is as long as the model was trained with, or as the shortest region of the split.
    """
    block = -(-BLOCK // model.config.context) * model.config.context
    shortest = min(stop - start for _, start, stop in dataset.regions[split])
    length = min(round(chunk_seconds * dataset.sample_rate), shortest) // block * block
    if not length:
        sys.exit(
            f"a region of the {split} split has {shortest} samples, less than a block of {block}; take another"
        )
    rows = dataset.chunks(split, length, max(1, round(seconds * dataset.sample_rate / length)))
    rows = rows[rows[:, 2] - rows[:, 1] == length]
    pcm = np.zeros((len(rows), length), dtype=np.int16)
    for out, (track, start, stop) in zip(pcm, rows, strict=True):
        dataset.tracks[track].read(start, stop, out)
    return encode(pcm, model.config.q_type, model.config.q_levels)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a model commit")
    parser.add_argument("dataset", help="folder of a dataset")
    parser.add_argument("--split", default="valid", choices=["train", "valid", "test"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model, about = load_model(Storage.open(options.model))
    folded = fold(model)
    with tempfile.TemporaryDirectory() as cache:
        dataset = Dataset.open(Storage.open(options.dataset), Path(cache))
        chunk = min(about.experiment.train.chunk_seconds, options.seconds)
        codes = held_out(dataset, folded, options.split, chunk, options.seconds)
    print(
        f"{len(codes)} chunks of {codes.shape[1] / dataset.sample_rate:.2f} s of {options.split}; step {about.step}"
    )
    figures = {}
    for precision in PRECISIONS:
        value = bits(folded, codes, precision)
        figures[f"{precision} bits"] = {"value": value, "unit": "bits", "samples": [value]}
        more = value - float(figures["fp32 bits"]["value"])  # type: ignore[arg-type]
        print(f"{precision:5} {value:.5f} bits a sample ({more:+.5f})")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": {}, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
