"""Counted arithmetic: what a training step must compute, and what this machine's matrix products reach."""

from __future__ import annotations

import time

import torch

from samplernn.config import ModelConfig
from samplernn.tiers import GATES


def step_flops(config: ModelConfig, batch: int, seq_len: int) -> float:
    """Floating-point operations of the matrix products of one folded training step, forward and backward.

    A product costs two operations a multiply-add, three times: forward, its input's gradient and its weight's. The
    input's gradient of the top tier's first layer is nobody's.
    """
    dim, frame, levels = config.dim, config.frame_sizes[0], config.q_levels
    n, width = batch * seq_len, config.emb_size or levels
    folds = n > frame * (width + dim)
    total = 3 * n * (dim * dim * (1 if folds else 2) + dim * levels)
    total += 3 * frame * levels * dim * width * bool(config.emb_size)
    if folds:
        total += 3 * (frame * width * dim * dim + frame * dim**3)
    gates = GATES[config.rnn_type]
    for tier, size in enumerate(config.frame_sizes):
        frames, top = n // size, tier == len(config.frame_sizes) - 1
        n_in = size if top else dim
        skip = n_in * config.skip_conn
        layers = [n_in] + [dim + skip] * (config.n_rnn - 1)
        total += sum(
            (2 if top and not layer else 3) * frames * k * gates * dim for layer, k in enumerate(layers)
        )
        total += 3 * frames * config.n_rnn * dim * (gates * dim + dim * config.skip_conn)
        ratio = size // (config.frame_sizes[tier - 1] if tier else 1)
        total += 3 * frames * dim * dim * ratio + (0 if top else 2 * frames * size * dim)
    return 2.0 * total


def gemm_peak(dtype: torch.dtype, seconds: float = 0.4) -> float:
    """The best rate of a large matrix product here and now, in FLOP/s."""
    size = 2048
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    out = torch.empty(size, size, dtype=dtype)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
