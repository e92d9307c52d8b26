"""The parts of SampleRNN: a weight-normalised linear map and one frame tier's stack of RNN layers.

Layout is time-major inside a tier: [frames, batch, dim]. The state of a stack is one tensor [n_rnn, parts, batch,
dim] with parts = 2 (h, c) for LSTM and 1 (h) for both GRUs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from samplernn.config import ModelConfig
from samplernn.recurrent import Recurrent, serves

GATES = {"LSTM": 4, "GRU": 3, "GRU-torch": 3}
FORGET_BIAS = 3.0
Part = TypeVar("Part", bound=nn.Module)


def uniform_(weight: Tensor, gain: float) -> Tensor:
    """Fill [out, in] uniformly with standard deviation sqrt(gain / in): 'he' is gain 2, 'lecun' gain 1."""
    bound = math.sqrt(3 * gain / weight.shape[1])
    return nn.init.uniform_(weight, -bound, bound)


class Linear(nn.Module):
    """y = x W^T + b, with W = g v / ||v|| (one g an output) when weight_norm is on; g starts at ||v||."""

    def __init__(
        self, n_in: int, n_out: int, *, weight_norm: bool, gain: float = 1.0, bias: bool = True
    ) -> None:
        super().__init__()
        self.v = nn.Parameter(uniform_(torch.empty(n_out, n_in), gain))
        self.g = nn.Parameter(torch.linalg.vector_norm(self.v.detach(), dim=1)) if weight_norm else None
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def replace_(self, rows: slice, weight: Tensor) -> None:
        """Start some outputs from other weights [rows, in] (orthogonal ones, for instance)."""
        with torch.no_grad():
            self.v[rows] = weight
            if self.g is not None:
                self.g[rows] = torch.linalg.vector_norm(weight, dim=1)

    @property
    def weight(self) -> Tensor:
        """The effective matrix [out, in]."""
        if self.g is None:
            return self.v
        return torch._weight_norm(self.v, self.g[:, None], 0)

    @property
    def offset(self) -> Tensor:
        """The bias [out] of a map that has one."""
        assert self.bias is not None
        return self.bias

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def layers(parts: Iterable[Part]) -> Sequence[Part]:
    """An nn.ModuleList that the type checker knows the parts of."""
    return cast("Sequence[Part]", nn.ModuleList(parts))


class RnnStack(nn.Module):
    """n_rnn recurrent layers of width dim over inputs of width n_in, with Graves' skip connections if asked for."""

    zero_h0: Tensor
    no_bias: Tensor

    def __init__(self, config: ModelConfig, n_in: int) -> None:
        super().__init__()
        dim, norm = config.dim, config.weight_norm
        self.rnn_type, self.dim, self.skip_conn = config.rnn_type, dim, config.skip_conn
        self.dropout, self.random_h0 = config.dropout, config.random_h0
        self.parts = 2 if config.rnn_type == "LSTM" else 1
        gates = GATES[config.rnn_type] * dim
        widths = [n_in] + [dim + n_in * config.skip_conn] * (config.n_rnn - 1)
        self.inputs = layers(Linear(width, gates, weight_norm=norm) for width in widths)
        self.recurrent = layers(Linear(dim, gates, weight_norm=norm, bias=False) for _ in widths)
        for x_to_h, h_to_h in zip(self.inputs, self.recurrent, strict=True):
            if self.rnn_type == "LSTM":
                with torch.no_grad():
                    x_to_h.offset[dim : 2 * dim] = FORGET_BIAS
            else:  # the candidate's recurrent matrix is square and nothing else is named for it: orthogonal
                h_to_h.replace_(slice(2 * dim, None), nn.init.orthogonal_(torch.empty(dim, dim)))
        self.outputs = layers(
            Linear(dim, dim, weight_norm=norm, gain=2.0, bias=first)
            for first in [True] + [False] * (config.n_rnn - 1)
            if config.skip_conn
        )
        shape = (config.n_rnn, self.parts, 1, dim)
        self.h0 = nn.Parameter(torch.zeros(shape)) if config.learn_h0 else None
        self.register_buffer("zero_h0", torch.zeros(shape), persistent=False)
        self.register_buffer("no_bias", torch.zeros(gates), persistent=False)

    def initial_state(self, batch: int, noise: torch.Generator | None = None) -> Tensor:
        """The state at the start of a chunk, [n_rnn, parts, batch, dim]; with random_h0 drawn from `noise` if given."""
        start = self.zero_h0 if self.h0 is None else self.h0
        start = start.expand(-1, -1, batch, -1)
        if self.random_h0 and noise is not None:
            return torch.empty_like(start.contiguous()).uniform_(-0.5, 0.5, generator=noise)
        return start

    def forward(
        self, x: Tensor, state: Tensor, noise: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """x [frames, batch, n_in] -> (output [frames, batch, dim], the state after the last frame).

        Dropout between layers is drawn from `noise`; there is none without it.
        """
        below, total, ends = x, None, []
        for layer in range(len(self.inputs)):
            if layer and self.dropout and noise is not None:
                kept = torch.empty_like(below).bernoulli_(1 - self.dropout, generator=noise)
                below = below * kept / (1 - self.dropout)
            if layer and self.skip_conn:
                below = torch.cat((below, x), dim=-1)
            below, end = self._layer(layer, below, state[layer])
            ends.append(end)
            if self.skip_conn:
                out = self.outputs[layer](below)
                total = out if total is None else total + out
        return (below if total is None else total), torch.stack(ends)

    def _layer(self, layer: int, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x_to_h, h_to_h = self.inputs[layer], self.recurrent[layer]
        if serves(x, self.dim):
            out, end = Recurrent.apply(  # type: ignore[no-untyped-call]
                self.rnn_type, x, x_to_h.weight, h_to_h.weight, x_to_h.offset, state.contiguous()
            )
            return out, end
        if self.rnn_type == "GRU":
            return _reference_gru(x_to_h(x), h_to_h.weight, state)
        weights = [x_to_h.weight, h_to_h.weight, x_to_h.offset, self.no_bias]
        start = [part[None].contiguous() for part in state]
        if self.rnn_type == "LSTM":
            out, h, c = torch._VF.lstm(x, start, weights, True, 1, 0.0, self.training, False, False)
            return out, torch.cat((h, c))
        out, h = torch._VF.gru(x, start[0], weights, True, 1, 0.0, self.training, False, False)
        return out, h


def _reference_gru(projected: Tensor, recurrent: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The reference's GRU over projected inputs [frames, batch, 3 dim] in the order r, u, candidate.

    h' = u * tanh(x_c + (r * h) W_c) + (1 - u) * h: the reset gate comes before the recurrent matrix.
    """
    h, dim, outs = state[0], recurrent.shape[1], []
    to_gates, to_candidate = recurrent[: 2 * dim].T, recurrent[2 * dim :].T
    for x in projected:
        r, u = torch.sigmoid(x[:, : 2 * dim] + h @ to_gates).chunk(2, dim=-1)
        h = torch.lerp(h, torch.tanh(torch.addmm(x[:, 2 * dim :], r * h, to_candidate)), u)
        outs.append(h)
    return torch.stack(outs), h[None]
