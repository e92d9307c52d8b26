"""Bits per sample on held-out audio."""

from __future__ import annotations

import numpy as np
import torch

from samplernn.chunks import Dataset
from samplernn.config import Experiment
from samplernn.model import SampleRNN, nll_bits
from samplernn.windows import ChunkBatch


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
    bits, samples = 0.0, 0
    was_training = model.training
    model.eval()
    for first in range(0, len(rows), train.batch_size):
        part = rows[first : first + train.batch_size]
        chunk = ChunkBatch(
            dataset, part, experiment.model, experiment.seq_len, int((part[:, 2] - part[:, 1]).max())
        )
        state = model.initial_state(len(part))
        for index in range(chunk.windows):
            window = chunk.window(index)
            codes = torch.from_numpy(window.codes.astype(np.int64)).to(device)
            mask = None if window.mask is None else torch.from_numpy(window.mask).to(device)
            logits, state = model(codes, state)
            bits += float(nll_bits(logits, codes[:, model.config.context :], mask))
        samples += int((part[:, 2] - part[:, 1]).sum())
    model.train(was_training)
    return bits / samples
