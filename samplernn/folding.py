"""The exact savings at generation time: a trained model as plain matrices and tables, by algebra.

L1 is a table of rows, and since nothing non-linear stands between L1 and L2, L2 folds into that table and into the
lowest tier's upsampling. Per sample there remain a sum of frame_size rows, a ReLU, one D x D and one D x Q product.
Weight norm folds away everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

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
