"""Bits per sample on held-out audio."""

from __future__ import annotations

import numpy as np
import torch

from samplernn.chunks import Dataset
from samplernn.config import Experiment
from samplernn.model import SampleRNN
from samplernn.quantize import encode
from samplernn.windows import Batch, ChunkBatch

CHUNKS = 200


@torch.no_grad()
def evaluate(model: SampleRNN, dataset: Dataset, split: str, experiment: Experiment) -> float:
    """Mean -log2 p(sample) over a split, chunk by chunk with the state carried through each, in bits.

    At most train.eval_seconds of audio, in chunks spread evenly over the split.
    """
    train = experiment.train
    length = max(1, round(train.chunk_seconds * dataset.sample_rate))
    rows = dataset.chunks(split, length, None)
    if train.eval_seconds is not None:
        most = max(1, round(train.eval_seconds * dataset.sample_rate / length))
        rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]
    device = next(model.parameters()).device
    bits, samples = torch.zeros((), dtype=torch.float64, device=device), 0
    rows_at_once = train.batch_size // train.accumulate
    for first in range(0, len(rows), rows_at_once):
        part = rows[first : first + rows_at_once]
        chunk = ChunkBatch(
            dataset, part, experiment.model, experiment.seq_len, int((part[:, 2] - part[:, 1]).max())
        )
        state = model.initial_state(len(part))
        for index in range(chunk.windows):
            batch = Batch.of(chunk.window(index), model.config.context, device)
            found, state = model.bits(batch.codes, state, batch.weight, features=batch.features)
            bits += found
        samples += int((part[:, 2] - part[:, 1]).sum())
    return float(bits) / samples


def unigram_bits(dataset: Dataset, experiment: Experiment) -> float:
    """Mean -log2 p of the validation split under the training split's histogram of codes: what no model needs.

    At most CHUNKS chunks of each split are looked at, spread evenly.
    """
    model, levels = experiment.model, experiment.model.q_levels
    length = max(1, round(experiment.train.chunk_seconds * dataset.sample_rate))
    counts = []
    for split in ("train", "valid"):
        rows = dataset.chunks(split, length, None)
        rows = rows[np.linspace(0, len(rows) - 1, min(CHUNKS, len(rows))).round().astype(int)]
        count = np.zeros(levels, dtype=np.int64)
        for track, start, stop in rows:
            pcm = np.empty(stop - start, dtype=np.int16)
            dataset.tracks[track].read(start, stop, pcm)
            count += np.bincount(encode(pcm, model.q_type, levels), minlength=levels)
        counts.append(count)
    p = (counts[0] + 1) / (counts[0] + 1).sum()
    return float(-(counts[1] * np.log2(p)).sum() / counts[1].sum())
