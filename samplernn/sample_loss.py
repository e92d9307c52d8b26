"""The sample tier's training loss, with its gradients made on the way.

From a frame tier's output to bits per sample: upsampling, L1 as rows of a table, the MLP and the cross-entropy, for a
few thousand positions at a time. Nothing of size [batch * T, dim] or [batch * T, q_levels] is ever whole in memory, and
what a chunk needs again on the way back is still in the cache. Positions are walked in the order the frame tier gives
them (frame, batch, place in the frame), so that nothing is transposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from samplernn import kernels

CHUNK = {"cpu": 4096, "cuda": 65_536}
"""Positions at a time: on a CPU what fits into its cache (measured), on a GPU what keeps it busy."""


@dataclass(frozen=True)
class Positions:
    """Where the sample tier looks and what it should say, for the n positions of a window in the tier's order."""

    codes: Tensor
    """int32 [batch * (frame + T - 1)]: each chunk's codes, one after the other."""
    starts: Tensor
    """int32 [n]: the first of the `frame` codes before a position."""
    targets: Tensor
    """int32 [n]"""
    weight: Tensor
    """float32 [n]: factor of each position's -ln p in the loss."""

    @classmethod
    def of(cls, codes: Tensor, frame: int, weight: Tensor) -> Positions:
        """codes int [batch, frame + T], weight [batch, T]: the last T codes are the targets."""
        batch, length = codes.shape[0], codes.shape[1] - frame
        below = codes[:, :-1].to(torch.int32)
        device = codes.device
        chunk = torch.arange(batch, dtype=torch.int32, device=device) * below.shape[1]
        time = torch.arange(length, dtype=torch.int32, device=device).view(-1, 1, frame)
        return cls(
            below.flatten(),
            (time + chunk[:, None]).flatten(),
            _tier_order(codes[:, frame:].to(torch.int32), frame),
            _tier_order(weight, frame),
        )


def _tier_order(x: Tensor, frame: int) -> Tensor:
    """[batch, T] -> [T / frame * batch * frame] in the order (frame, batch, place)."""
    return x.reshape(len(x), -1, frame).transpose(0, 1).flatten()


def compute_dtype(x: Tensor) -> torch.dtype:
    """What matrix products of x are made in: x's type, or autocast's."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def add_product_(into: Tensor, a: Tensor, b: Tensor) -> None:
    """into += a @ b, into float32."""
    if a.dtype == into.dtype:
        into.addmm_(a, b)
    else:
        into += a @ b


class TableOfRows(Function):
    """L1 as rows to look up: embedding [Q, E] (or None: one-hot), weight [D, F * E] -> [F * Q, D].

    An embedding followed by a linear map without activation is a table (exact): table[p, q] = W1[p] emb[q].
    """

    @staticmethod
    def forward(ctx: Any, embedding: Tensor | None, weight: Tensor, frame: int) -> Tensor:
        dtype, dim = compute_dtype(weight), len(weight)
        ctx.frame, ctx.one_hot = frame, embedding is None
        w = weight.to(dtype).view(dim, frame, -1)
        if embedding is None:
            return w.permute(1, 2, 0).reshape(-1, dim).contiguous()
        emb = embedding.to(dtype)
        ctx.save_for_backward(emb, w)
        table = torch.empty((frame, len(emb), dim), dtype=dtype, device=emb.device)
        for place in range(frame):
            torch.mm(emb, w[:, place].t(), out=table[place])
        return table.view(-1, dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None]:
        dim = grads[0].shape[1]
        grad = grads[0].view(ctx.frame, -1, dim)
        if ctx.one_hot:
            return None, grad.permute(2, 0, 1).reshape(dim, -1), None
        emb, w = ctx.saved_tensors
        d_emb = torch.zeros(emb.shape, dtype=torch.promote_types(emb.dtype, torch.float32), device=emb.device)
        d_weight = torch.empty_like(w)
        for place in range(ctx.frame):
            add_product_(d_emb, grad[place], w[:, place])
            torch.mm(grad[place].t(), emb, out=d_weight[:, place])
        return d_emb, d_weight.view(dim, -1), None


class ThroughL2(Function):
    """The upsampling's matrix with L2 behind it: up [F * D, D], w2 [D, D] -> [F * D, D], w2 applied place by place."""

    @staticmethod
    def forward(ctx: Any, up: Tensor, w2: Tensor) -> Tensor:
        dtype, dim = compute_dtype(up), len(w2)
        up, w2 = up.to(dtype).view(-1, dim, up.shape[1]), w2.to(dtype)
        ctx.save_for_backward(up, w2)
        folded = torch.empty_like(up)
        for place, matrix in enumerate(up):
            torch.mm(w2, matrix, out=folded[place])
        return folded.view(-1, up.shape[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        up, w2 = ctx.saved_tensors
        grad = grads[0].view(up.shape)
        d_w2 = torch.zeros(w2.shape, dtype=torch.promote_types(w2.dtype, torch.float32), device=w2.device)
        d_up = torch.empty_like(up)
        for place in range(len(up)):
            torch.mm(w2.t(), grad[place], out=d_up[place])
            add_product_(d_w2, grad[place], up[place].t())
        return d_up.view(-1, up.shape[2]), d_w2


class SampleLoss(Function):
    """Sum of the positions' weighted -ln p.

    out [R, D] (rows frame * batch + chunk), up [F * D, D] and its bias, table [F * Q, D], then weight and bias of each
    layer of the MLP, all but the last with a ReLU behind them. `relu` says whether one stands before the first as well.
    """

    @staticmethod
    def forward(
        ctx: Any, positions: Positions, relu: bool, out: Tensor, up: Tensor, up_bias: Tensor, table: Tensor,
        *mlp: Tensor,
    ) -> Tensor:  # fmt: skip
        dtype = compute_dtype(out)
        learns = any(ctx.needs_input_grad)
        given = (out, up, up_bias, table, *mlp)
        weights, biases = [w.to(dtype) for w in mlp[::2]], mlp[1::2]
        pass_ = _Pass(
            positions,
            relu,
            up.to(dtype),
            up_bias.to(positions.weight.dtype),
            table.to(dtype),
            weights,
            biases,
        )
        grads = pass_.zero_grads(given) if learns else None
        nll = pass_.run(out.to(dtype), grads)
        ctx.grads = grads
        return nll.sum()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Any, ...]:
        grads, (scale,) = ctx.grads, outer
        if scale.device.type != "cpu" or float(scale) != 1:  # no wait for a GPU to see whether it is 1
            torch._foreach_mul_(grads, scale)
        return None, None, *grads


@dataclass
class _Pass:
    """One walk over all positions, forward and (with grads) backward, chunk by chunk."""

    positions: Positions
    relu: bool
    up: Tensor
    up_bias: Tensor
    table: Tensor
    weights: list[Tensor]
    biases: tuple[Tensor, ...]

    @staticmethod
    def zero_grads(given: tuple[Tensor, ...]) -> list[Tensor]:
        """Where gradients are summed: float32, and the output's own type for the frame tier's output."""
        wide = [torch.promote_types(x.dtype, torch.float32) for x in given[1:]]
        return [torch.empty_like(given[0])] + [
            torch.zeros(x.shape, dtype=dtype, device=x.device)
            for x, dtype in zip(given[1:], wide, strict=True)
        ]

    def run(self, out: Tensor, grads: list[Tensor] | None) -> Tensor:
        """nll [n] of all positions; adds to the gradients in the order of SampleLoss's inputs."""
        dim = self.table.shape[1]
        frame = len(self.up) // dim
        rows = max(1, CHUNK.get(out.device.type, 4096) // frame)
        most = min(rows, len(out)) * frame
        levels = len(self.weights[-1])
        # acts[k] is what layer k reads; the last is the logits, which become their own gradient.
        buffers = [out.new_empty((most, dim)) for _ in self.weights] + [out.new_empty((most, levels))]
        spare = out.new_empty((most, dim))
        nll = torch.empty_like(self.positions.weight)
        for first in range(0, len(out), rows):
            h = out[first : first + rows]
            here = slice(first * frame, (first + len(h)) * frame)
            acts = [buffer[: len(h) * frame] for buffer in buffers]
            self._forward(h, here, acts, nll[here], frame, learns=grads is not None)
            if grads is not None:
                d_out = grads[0][first : first + rows]
                self._backward(h, here, acts, spare[: len(h) * frame], d_out, grads[1:], frame)
        return nll

    def _forward(
        self, h: Tensor, here: slice, acts: list[Tensor], nll: Tensor, frame: int, learns: bool
    ) -> None:
        where = self.positions
        torch.mm(h, self.up.t(), out=acts[0].view(len(h), -1))
        kernels.add_rows_(
            acts[0], self.up_bias, self.table, where.codes, where.starts[here], frame, self.relu
        )
        for layer, weight in enumerate(self.weights):
            torch.mm(acts[layer], weight.t(), out=acts[layer + 1])
            if layer < len(self.weights) - 1:
                kernels.bias_relu_(acts[layer + 1], self.biases[layer])
        kernels.cross_entropy_(
            acts[-1], self.biases[-1], where.targets[here], where.weight[here], nll, learns
        )

    def _backward(
        self, h: Tensor, here: slice, acts: list[Tensor], spare: Tensor, d_out: Tensor, grads: list[Tensor],
        frame: int,
    ) -> None:  # fmt: skip
        d_up, d_up_bias, d_table, *d_mlp = grads
        grad = acts[-1]
        kernels.relu_backward_(grad, None, d_mlp[-1])
        for layer in range(len(self.weights) - 1, -1, -1):
            add_product_(d_mlp[2 * layer], grad.t(), acts[layer])
            # What the layer above read is not needed again: its buffer takes the next gradient.
            grad, spare = torch.mm(grad, self.weights[layer], out=spare), acts[layer]
            if layer:
                kernels.relu_backward_(grad, acts[layer], d_mlp[2 * layer - 1])
        wide = grad.view(len(h), -1)
        kernels.relu_backward_(wide, acts[0].view(wide.shape) if self.relu else None, d_up_bias)
        kernels.scatter_rows_(d_table, grad, self.positions.codes, self.positions.starts[here], frame)
        add_product_(d_up, wide.t(), h)
        d_out.copy_(wide @ self.up)
