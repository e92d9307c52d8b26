"""Recurrent layers on the CPU: the recurrence in one native call, everything else in whole products.

State and gates are float32 in every precision; under bfloat16 the recurrent matrix is rounded to it. Where the passes
were not built, for a dim that is no multiple of 16, and on a GPU, tiers.py takes torch's own layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from samplernn.kernels import call, native
from samplernn.sample_loss import add_product_, compute_dtype

LANES = 16


def serves(x: Tensor, dim: int) -> bool:
    """Whether `Recurrent` can run a layer of this width over x."""
    return native(x) and dim % LANES == 0


class Recurrent(Function):
    """One layer: x [frames, batch, n_in], w_x [gates * dim, n_in], w_h [gates * dim, dim], bias, state [parts, batch,
    dim] -> (output [frames, batch, dim], the state after the last frame, which carries no gradient).
    """

    @staticmethod
    def forward(
        ctx: Any, rnn_type: str, x: Tensor, w_x: Tensor, w_h: Tensor, bias: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        dtype = compute_dtype(x)
        frames, batch, n_in = x.shape
        flat, to_gates = x.reshape(-1, n_in).to(dtype), w_x.to(dtype)
        if dtype == torch.float32:
            gates = torch.addmm(bias, flat, to_gates.t())
        else:
            gates = torch.mm(flat, to_gates.t()).to(torch.float32).add_(bias)
        walk = _WALKS[rnn_type](gates.view(frames, batch, -1), w_h.contiguous(), state, dtype)
        walk.forward()
        ctx.walk, ctx.x_dtype = walk, x.dtype
        ctx.save_for_backward(flat, to_gates)
        end = walk.end()
        ctx.mark_non_differentiable(end)
        return walk.hs[1:], end

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, to_gates = ctx.saved_tensors
        walk, ctx.walk = ctx.walk, None
        dy = grads[0].contiguous()
        d_state = walk.backward(dy)
        d_gates = walk.gates.view(len(flat), -1)
        narrow = d_gates.to(flat.dtype)
        d_wx = _zeros_like(to_gates)
        add_product_(d_wx, narrow.t(), flat)
        d_x = None
        if ctx.needs_input_grad[1]:
            d_x = torch.mm(narrow, to_gates).view(*dy.shape[:2], -1).to(ctx.x_dtype)
        return None, d_x, d_wx, walk.weights_grad(narrow), d_gates.sum(0), d_state


def _zeros_like(x: Tensor) -> Tensor:
    return torch.zeros(x.shape, dtype=torch.float32)


class _Walk:
    """One layer's way over the frames and back, in place over gates [frames, batch, gates * dim]."""

    name: str

    def __init__(self, gates: Tensor, w_h: Tensor, state: Tensor, dtype: torch.dtype) -> None:
        self.gates, self.w_h, self.dtype = gates, w_h, dtype
        self.frames, self.batch, self.dim = len(gates), gates.shape[1], w_h.shape[1]
        self.hs = self._states(state[0])

    def _states(self, first: Tensor) -> Tensor:
        """[frames + 1, batch, dim]: the state before every frame, and after the last."""
        states = self.gates.new_empty((self.frames + 1, self.batch, self.dim))
        states[0] = first
        return states

    def run(self, way: str, *tensors: Tensor) -> None:
        """Call the C function; its arguments begin with the gates."""
        suffix = "bf16" if self.dtype == torch.bfloat16 else "f32"
        call(f"{self.name}_{way}_{suffix}", self.gates, *tensors, self.frames, self.batch, self.dim)

    def end(self) -> Tensor:
        """The state after the last frame, [parts, batch, dim]."""
        return self.hs[-1:].clone()

    def weights_grad(self, d_gates: Tensor) -> Tensor:
        """The recurrent matrix's gradient, from that of the gates [frames * batch, gates * dim]."""
        return self._product(d_gates, self.hs[:-1])

    def _product(self, d_gates: Tensor, before: Tensor) -> Tensor:
        grad = torch.zeros((d_gates.shape[1], self.dim))
        add_product_(grad, d_gates.t(), before.reshape(-1, self.dim).to(d_gates.dtype))
        return grad


class _Lstm(_Walk):
    name = "lstm"

    def __init__(self, gates: Tensor, w_h: Tensor, state: Tensor, dtype: torch.dtype) -> None:
        super().__init__(gates, w_h, state, dtype)
        self.cs = self._states(state[1])

    def end(self) -> Tensor:
        return torch.stack((self.hs[-1], self.cs[-1]))

    def forward(self) -> None:
        self.run("forward", self.w_h, self.hs, self.cs)

    def backward(self, dy: Tensor) -> Tensor:
        d_state = torch.zeros((2, self.batch, self.dim))
        self.run("backward", self.w_h, self.cs, dy, d_state[0], d_state[1])
        return d_state


class _GruTorch(_Walk):
    name = "gru_torch"

    def forward(self) -> None:
        self.hidden = torch.empty_like(self.gates)  # h W, whose reset gate comes behind it
        self.run("forward", self.hidden, self.w_h, self.hs)

    def backward(self, dy: Tensor) -> Tensor:
        d_state = torch.zeros((1, self.batch, self.dim))
        self.run("backward", self.hidden, self.w_h, self.hs, dy, d_state[0])
        return d_state

    def weights_grad(self, d_gates: Tensor) -> Tensor:
        return self._product(self.hidden.view(len(d_gates), -1).to(d_gates.dtype), self.hs[:-1])


class _Gru(_Walk):
    """The reference's: the reset gate before the matrix."""

    name = "gru"

    def forward(self) -> None:
        self.reset = torch.empty_like(self.hs[1:])
        self.run("forward", self.reset, self.w_h, self.hs)

    def backward(self, dy: Tensor) -> Tensor:
        d_state = torch.zeros((1, self.batch, self.dim))
        self.run("backward", self.w_h, self.hs, dy, d_state[0])
        return d_state

    def weights_grad(self, d_gates: Tensor) -> Tensor:
        wide = 2 * self.dim
        gates, candidate = d_gates[:, :wide], d_gates[:, wide:]
        return torch.cat((self._product(gates, self.hs[:-1]), self._product(candidate, self.reset)))


_WALKS: dict[str, type[_Lstm | _Gru | _GruTorch]] = {"LSTM": _Lstm, "GRU": _Gru, "GRU-torch": _GruTorch}
