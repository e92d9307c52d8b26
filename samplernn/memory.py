"""How much memory a training step takes, before it is tried, and what to say when it was too much.

Counted from the shapes that model.py, recurrent.py and sample_loss.py hold at the same time; checked on a CPU against
the peak of real steps (benchmarks/RESULTS.md has the table). On a GPU the same count with the GPU's chunk is a guess
that nobody has measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from samplernn.config import Experiment, ModelConfig
from samplernn.errors import OutOfMemory
from samplernn.sample_loss import CHUNK
from samplernn.tiers import GATES

GIB = 2**30
_FLOAT = 4
_LIBRARIES = {"cpu": 90 * 2**20, "cuda": 600 * 2**20}
"""Measured on a CPU: 83 to 107 MiB; a guess on a GPU."""


@dataclass(frozen=True)
class Need:
    """Bytes of one training step."""

    weights: int
    """Parameters, their gradients, Adam's two averages, and what weight norm and folding make of the matrices."""
    window: int
    """What the batch's TBPTT window leaves behind for the way back."""
    chunk: int
    """The sample tier's buffers; the same for every batch and length."""
    libraries: int
    """What the matrix libraries and the allocator keep beyond an imported torch."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.window + self.chunk + self.libraries

    def __str__(self) -> str:
        parts = (self.total, self.weights, self.window, self.chunk)
        total, weights, window, chunk = (f"{value / GIB:.2f} GiB" for value in parts)
        return f"{total}: {weights} for the weights, {window} for the window, {chunk} for the sample tier"


def parameters(config: ModelConfig) -> int:
    """Number of trained values."""
    norm = config.weight_norm

    def linear(n_in: int, n_out: int, bias: bool = True) -> int:
        return n_out * (n_in + bias + norm)

    dim, levels, frame = config.dim, config.q_levels, config.frame_sizes[0]
    total = levels * config.emb_size + linear(frame * (config.emb_size or levels), dim, bias=False)
    total += 2 * linear(dim, dim) + linear(dim, levels)
    gates, parts = GATES[config.rnn_type] * dim, 2 if config.rnn_type == "LSTM" else 1
    for tier, size, ratio in _tiers(config):
        top = tier == len(config.frame_sizes) - 1
        n_in = size + len(config.features) if top else dim
        widths = [n_in] + [dim + n_in * config.skip_conn] * (config.n_rnn - 1)
        total += sum(linear(width, gates) + linear(dim, gates, bias=False) for width in widths)
        total += linear(dim, dim * ratio) + (0 if top else linear(size, dim))
        if config.skip_conn:
            total += linear(dim, dim) + (config.n_rnn - 1) * linear(dim, dim, bias=False)
        total += config.n_rnn * parts * dim * config.learn_h0
    return total


def needed(experiment: Experiment, device: str = "cpu") -> Need:
    """What training this takes on a device, in bytes."""
    config, train = experiment.model, experiment.train
    dim, levels, frame = config.dim, config.q_levels, config.frame_sizes[0]
    count, narrow = parameters(config), train.precision == "bf16"
    batch = train.batch_size // train.accumulate
    n, width = batch * experiment.seq_len, config.emb_size or levels
    folds = n > frame * (width + dim)
    made = frame * levels * dim + (frame * dim * (dim + width) if folds else 0)
    held = 4 * count + 2 * made + config.weight_norm * count
    weights = held * _FLOAT + narrow * (count + made) * 2
    window, gates = 0, GATES[config.rnn_type] + (3 if config.rnn_type == "GRU-torch" else 0)
    for _, size, ratio in _tiers(config):
        frames = n // size
        # Gates, state and cell, what the layer read, its output and the gradients of both.
        layer = frames * dim * (gates + 2 + 2 + config.skip_conn)
        window += config.n_rnn * layer + frames * dim * ratio * (size != frame) * 3
    positions = min(n, CHUNK[device])
    layers = 3 if folds else 4
    chunk = positions * (dim * layers + levels) * (2 if narrow else _FLOAT)
    return Need(weights, window * _FLOAT + n * 24, chunk, _LIBRARIES[device])


def advice(experiment: Experiment, room: int, device: str = "cpu") -> str:
    """What would fit into `room` bytes: the nearest part of the batch, or a smaller model."""
    train = experiment.train
    for parts in (p for p in range(train.accumulate, train.batch_size + 1) if train.batch_size % p == 0):
        smaller = train.model_copy(update={"accumulate": parts})
        if needed(experiment.model_copy(update={"train": smaller}), device).total <= room:
            batch = train.batch_size // parts * train.accumulate
            return (
                f"train.accumulate={parts} (the same step in {parts} parts) or train.batch_size={batch} would"
            )
    for dim in range(experiment.model.dim // 64 * 64, 63, -64):
        model = experiment.model.model_copy(update={"dim": dim})
        if needed(experiment.model_copy(update={"model": model}), device).total <= room:
            return f"no batch would; model.dim={dim} would"
    return "no batch or dim of this model would; try fewer model.n_rnn or a smaller train.seq_len"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or in the process."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def out_of_memory(error: BaseException, experiment: Experiment, device: torch.device) -> OutOfMemory:
    """The error that says what did not fit and what would."""
    kind, model, train = device.type, experiment.model, experiment.train
    need = needed(experiment, kind)
    room = available(device)
    said = f"; {room / GIB:.2f} GiB are there: {advice(experiment, room, kind)}" if room else ""
    first = str(error).split("\n", 1)[0].removesuffix(".")
    size = (
        f"dim {model.dim}, n_rnn {model.n_rnn}, batch_size {train.batch_size}, seq_len {experiment.seq_len}"
    )
    return OutOfMemory(f"{size} did not fit on {device}: it takes about {need}{said} ({first})")


def available(device: torch.device) -> int:
    """Bytes that a training process may use on a device; 0 where that can't be told."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    rows = dict(line.split(":", 1) for line in lines)
    return int(rows["MemAvailable"].split()[0]) * 1024


def _tiers(config: ModelConfig) -> Iterator[tuple[int, int, int]]:
    """(tier, frame size, ratio) lowest first."""
    for tier, (below, size) in enumerate(zip((1, *config.frame_sizes), config.frame_sizes, strict=False)):
        yield tier, size, size // below
