"""One optimiser step: a batch of TBPTT windows in, new weights and the mean bits out.

Everything random in it (dropout, random h0) is drawn from a generator seeded by (seed, step), so that a step is a pure
function of the weights, the carried state and its number; nothing in it waits for a GPU.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from samplernn.checkpoint import Training
from samplernn.config import TrainConfig
from samplernn.model import State
from samplernn.windows import Batch

PRECISION = {"fp32": "highest", "tf32": "high", "bf16": "highest"}


def learning_rate(config: TrainConfig, step: int) -> float:
    """Step size of optimiser step `step`, counted from 0."""
    late = max(0, step - config.lr_decay_after)
    if config.lr_schedule == "exponential":
        return config.learning_rate * float(0.5 ** (late / config.lr_half_life))
    if config.lr_schedule == "cosine":
        length = max(1, config.max_steps - config.lr_decay_after)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, late / length)))
    return config.learning_rate


def optimiser(parameters: Iterable[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    """Adam or AdamW, all parameters in one pass."""
    if config.optimiser == "adamw":
        return torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    return torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)


def train_step(run: Training, batch: Batch, config: TrainConfig) -> Tensor:
    """One optimiser step. Returns the mean bits over the unmasked targets, still on the device."""
    run.noise.manual_seed(_seed(config.seed, run.step))
    count = batch.weight.sum().clamp(min=1)
    start = run.model.initial_state(len(batch.codes), run.noise) if batch.starts_chunk else run.hidden
    run.optimiser.zero_grad(set_to_none=True)
    loss, ends = torch.zeros((), device=count.device), []
    rows = len(batch.codes) // config.accumulate
    for first in range(0, len(batch.codes), rows):
        part = slice(first, first + rows)
        bits, end = _part(run, batch, [state[:, :, part] for state in start], part, count, config)
        loss += bits
        ends.append(end)
    _clip(run, config)
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(config, run.step)
    run.optimiser.step()
    run.hidden = [torch.cat(tier, dim=2) if len(tier) > 1 else tier[0] for tier in zip(*ends, strict=True)]
    run.step += 1
    return loss


def _part(
    run: Training, batch: Batch, start: State, part: slice, count: Tensor, config: TrainConfig
) -> tuple[Tensor, State]:
    features = None if batch.features is None else batch.features[part]
    with torch.autocast(count.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        bits, hidden = run.bits(
            batch.codes[part], start, batch.weight[part] / count, features=features, noise=run.noise
        )
    # The reference's loss is in bits; elementwise clipping makes the unit part of what is computed.
    bits.backward()  # type: ignore[no-untyped-call]
    return bits.detach(), [state.detach() for state in hidden]


def gradient_norm(run: Training) -> Tensor:
    """The norm of all gradients of the last step, after clipping."""
    return torch.nn.utils.get_total_norm([p.grad for p in run.model.parameters() if p.grad is not None])


def _clip(run: Training, config: TrainConfig) -> None:
    if config.grad_clip is None:
        return
    if config.clip_by == "element":
        torch.nn.utils.clip_grad_value_(run.model.parameters(), config.grad_clip)
    else:
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.grad_clip)


def _seed(seed: int, step: int) -> int:
    digest = hashlib.sha256(f"{seed}:{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
