"""The exact savings at generation time: a trained model as plain matrices and tables, by algebra.

L1 is a table of rows, and since nothing non-linear stands between L1 and L2, L2 folds into that table and into the
lowest tier's upsampling. Per sample there remain a sum of frame_size rows, a ReLU, one D x D and one D x Q product.
Weight norm folds away everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from samplernn.config import ModelConfig
from samplernn.model import SampleRNN
from samplernn.tiers import RnnStack


@dataclass(frozen=True)
class FoldedLayer:
    """One RNN layer over [input, h]: matrices stored input-major for x @ w."""

    w_x: Tensor
    """[n_in, gates * dim]"""
    w_h: Tensor
    """[dim, gates * dim]"""
    bias: Tensor
    """[gates * dim]"""
    to_out: Tensor | None
    """[dim, dim] of the skip connection to the tier's output."""


@dataclass(frozen=True)
class FoldedTier:
    """One frame tier."""

    frame_size: int
    ratio: int
    expand: tuple[Tensor, Tensor] | None
    """Matrix [frame_size, dim] and bias of the own frame, below the top tier."""
    layers: tuple[FoldedLayer, ...]
    out_bias: Tensor | None
    up: Tensor
    """[dim, ratio * dim]; in the lowest tier already multiplied by L2."""
    up_bias: Tensor
    h0: Tensor
    """[n_rnn, parts, 1, dim]"""


@dataclass(frozen=True)
class FoldedModel:
    """Everything generation needs, float32, on one device."""

    config: ModelConfig
    tiers: tuple[FoldedTier, ...]
    table: Tensor
    """[frame_size * q_levels, dim]: L1 and L2 in one."""
    w3: Tensor
    b3: Tensor
    w_out: Tensor
    b_out: Tensor

    @property
    def features(self) -> int:
        """Conditioning features that the top tier takes beside each frame's samples; 0 for a model without."""
        top = self.tiers[-1]
        return top.layers[0].w_x.shape[0] - top.frame_size

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> FoldedModel:
        """A copy on another device or in another precision; what is there already is shared."""
        moved: FoldedModel = _each_tensor(self, lambda tensor: tensor.to(device=device, dtype=dtype))
        return moved

    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        found: list[Tensor] = []

        def look(tensor: Tensor) -> Tensor:
            found.append(torch.isfinite(tensor).all())
            return tensor

        _each_tensor(self, look)
        return bool(torch.stack(found).all())


def _each_tensor(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a folded part with every tensor in it changed."""
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, tuple):
        return tuple(_each_tensor(each, change) for each in part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{f.name: _each_tensor(getattr(part, f.name), change) for f in fields(part)})
    return part


@torch.no_grad()
def fold(model: SampleRNN) -> FoldedModel:
    """Fold a model's parameters; the logits equal the training graph's to rounding."""
    sample = model.sample_tier
    w2 = sample.l2.weight.T
    tiers = []
    for index, tier in enumerate(model.frame_tiers):
        up, up_bias = tier.upsample.weight.T, tier.upsample.offset
        if index == 0:
            dim = model.config.dim
            up = (up.reshape(dim, tier.ratio, dim) @ w2).reshape(dim, tier.ratio * dim)
            up_bias = (up_bias.view(tier.ratio, dim) @ w2 + sample.l2.offset).flatten()
        expand = (
            None if tier.expand is None else (tier.expand.weight.T.contiguous(), tier.expand.offset.clone())
        )
        layers, out_bias = _layers(tier.rnn)
        tiers.append(
            FoldedTier(
                tier.frame_size, tier.ratio, expand, layers, out_bias, up.contiguous(), up_bias.clone(),
                tier.rnn.initial_state(1).clone(),
            )
        )  # fmt: skip
    return FoldedModel(
        model.config,
        tuple(tiers),
        (sample.table() @ w2).contiguous(),
        sample.l3.weight.T.contiguous(),
        sample.l3.offset.clone(),
        sample.out.weight.T.contiguous(),
        sample.out.offset.clone(),
    )


def _layers(rnn: RnnStack) -> tuple[tuple[FoldedLayer, ...], Tensor | None]:
    layers = []
    for index in range(len(rnn.inputs)):
        x_to_h, h_to_h = rnn.inputs[index], rnn.recurrent[index]
        to_out = rnn.outputs[index].weight.T.contiguous() if rnn.skip_conn else None
        layers.append(
            FoldedLayer(
                x_to_h.weight.T.contiguous(), h_to_h.weight.T.contiguous(), x_to_h.offset.clone(), to_out
            )
        )
    return tuple(layers), rnn.outputs[0].offset.clone() if rnn.skip_conn else None
