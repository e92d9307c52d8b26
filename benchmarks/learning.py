"""What is learned in the same time: bits per sample on held-out music after some minutes, ours beside the public peer.

    python benchmarks/learning.py [--seconds 300] [--minutes 11.5] [--music FOLDER] [--quick] [--json FILE]

Three tiers (16/64, GRU, dim 256, one layer), mu-law 256, 16 kHz, batch 16, windows of 1,024 samples, Adam at 1e-3: both
sides train on the same codes in the same order, one after the other, and are judged on the same held-out chunks.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import music
import numpy as np
import torch
from dataset import write_dataset
from public_training import PublicTrainer
from report import Report, machine
from training import SETTINGS

from samplernn.audio import decode
from samplernn.chunks import Dataset
from samplernn.config import Experiment, TrainConfig
from samplernn.evaluate import evaluate, unigram_bits
from samplernn.kernels import keep_heap
from samplernn.step import train_step
from samplernn.storage import Storage
from samplernn.train import _windows, fresh
from samplernn.windows import Batch, ChunkBatch

RATE = 16_000
CPU = torch.device("cpu")


def made_dataset(folder: Storage, paths: list[Path]) -> Dataset:
    """The music as a dataset, a tenth of each track held out for validation."""
    write_dataset(folder, "music", map(decoded, paths), RATE)
    return Dataset.open(folder, Path(folder.root) / "cache")


def decoded(path: Path) -> np.ndarray:
    """A file's sound, int16 [samples] at RATE."""
    blocks: list[np.ndarray] = []
    decode(path, RATE, blocks.append)
    return np.concatenate(blocks)


def ours(experiment: Experiment, dataset: Dataset, seconds: float) -> tuple[float, int]:
    """(held-out bits, steps) of this project."""
    keep_heap()
    run, windows = fresh(experiment, CPU), _windows(experiment, dataset)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        train_step(run, Batch.of(windows.at(run.step), experiment.model.context, CPU), experiment.train)
    return evaluate(run.model, dataset, "valid", experiment), run.step


def public(experiment: Experiment, dataset: Dataset, seconds: float) -> tuple[float, int]:
    """(held-out bits, steps) of the peer."""
    torch.manual_seed(experiment.train.seed)
    trainer, windows, steps = PublicTrainer(experiment.model), _windows(experiment, dataset), 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        window = windows.at(steps)
        if window.starts_chunk:
            trainer.start_chunks()
        trainer.step(torch.from_numpy(window.codes.astype(np.int64)))
        steps += 1
    return _public_bits(trainer, dataset, experiment), steps


@torch.no_grad()
def _public_bits(trainer: PublicTrainer, dataset: Dataset, experiment: Experiment) -> float:
    """As samplernn.evaluate does it: chunk by chunk, the state carried through each, padding not counted."""
    length = round(experiment.train.chunk_seconds * dataset.sample_rate)
    bits, samples = 0.0, 0
    for row in dataset.chunks("valid", length, None):
        chunk = ChunkBatch(dataset, row[None], experiment.model, experiment.seq_len, int(row[2] - row[1]))
        trainer.start_chunks()
        states = trainer.states
        for index in range(chunk.windows):
            window = chunk.window(index)
            codes = torch.from_numpy(window.codes.astype(np.int64))
            logp, states = trainer.model(codes, states)
            picked = logp.gather(2, codes[:, experiment.model.context :, None])[..., 0].double()
            if window.mask is not None:
                picked = picked * torch.from_numpy(window.mask)
            bits -= float(picked.sum()) / np.log(2)
        samples += int(row[2] - row[1])
    return bits / samples


def main() -> None:
    """Read the command line, train both sides, print, and write JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="of training for each side")
    parser.add_argument("--minutes", type=float, default=11.5, help="of music")
    parser.add_argument("--music", type=Path, help="a folder of audio instead of the Debian package")
    parser.add_argument("--quick", action="store_true", help="20 s a side")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    seconds = 20.0 if asked.quick else asked.seconds
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    model, batch = SETTINGS["S3"]
    experiment = Experiment(model=model, train=TrainConfig(batch_size=batch, seq_len=1024, eval_seconds=None))
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        dataset = made_dataset(Storage.open(folder), music.get(asked.minutes, asked.music))
        print(
            f"{dataset.seconds('train') / 60:.1f} minutes to train on, {dataset.seconds('valid'):.0f} s held out"
        )
        floor = report.add("unigram", "bits", [unigram_bits(dataset, experiment)])
        print(f"  histogram      {floor:.3f} bits a sample")
        found = {}
        for name, side in (("ours fp32", ours), ("public", public)):
            bits, steps = side(experiment, dataset, seconds)
            found[name] = report.add(f"{name} after {seconds:.0f} s", "bits", [bits])
            print(f"  {name:12} {bits:7.3f} bits a sample after {seconds:.0f} s, {steps:,} steps", flush=True)
    better = report.add("public - ours", "bits", [found["public"] - found["ours fp32"]])
    print(f"  ours is better by {better:.3f} bits")
    if asked.json:
        report.write(asked.json)


if __name__ == "__main__":
    main()
