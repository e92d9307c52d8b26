"""One frame of generation, of the largest frame size, for some songs side by side: torch operations on fixed buffers.

Everything that goes in or out of a frame lives in buffers made once; a frame reads and writes them in place, never
looks at a value from Python and takes no branch that depends on one. So the same code runs step by step on any device
and can be recorded as a CUDA graph (cuda_backend.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samplernn.folding import FoldedLayer, FoldedModel, FoldedTier


@dataclass(frozen=True)
class Variant:
    """What a frame has to do for the songs at hand; what none of them asks for is left out."""

    cold: bool = False
    """Some sample is the most likely one (sharpness 0)."""
    limited: bool = False
    """Some song draws among fewer levels (top_k, top_p)."""
    forced: bool = False
    """Some sample is given (a prompt)."""
    logits: bool = False
    """Keep the logits."""


class Frame:
    """The buffers of a frame and the arithmetic over them. Matrices may be bf16; states and logits are float32."""

    def __init__(self, model: FoldedModel, slots: int) -> None:
        self.model, self.slots = model, slots
        config, device = model.config, model.table.device
        self.context, self._size, self._q_levels = config.context, config.frame_sizes[0], config.q_levels
        self.codes = torch.full((slots, 2 * self.context), config.q_zero, dtype=torch.int64, device=device)
        """The frame before this one and this one, int64 [slots, 2 * context]."""
        self.states = [tier.h0.to(torch.float32).repeat(1, 1, slots, 1) for tier in model.tiers]
        """RNN state of each tier, float32 [n_rnn, parts, slots, dim]."""
        self.uniforms = torch.full((slots, self.context), 0.5, device=device)
        self.sharpness = torch.ones((slots, self.context), device=device)
        """1 / temperature; 0 takes the most likely sample."""
        self.top_k = torch.full((slots, 1), self._q_levels, dtype=torch.int64, device=device)
        self.top_p = torch.ones((slots, 1), device=device)
        self.forced = torch.full((slots, self.context), -1, dtype=torch.int64, device=device)
        self.features = torch.zeros((slots, model.features), device=device)
        self.logits = torch.zeros((slots, self.context, self._q_levels), device=device)
        self._rows = torch.arange(self._size, device=device) * self._q_levels
        self._bags = torch.arange(0, slots * self._size, self._size, device=device)
        self._ranks = torch.arange(self._q_levels, device=device)

    def run(self, variant: Variant) -> None:
        """Make the next `context` samples."""
        model, codes, size = self.model, self.codes, self._size
        codes[:, : self.context] = codes[:, self.context :]
        above: list[Tensor] = [model.table] * len(model.tiers)  # each tier's conditioning [ratio, slots, dim]
        for t in range(self.context):
            now = self.context + t
            if t % size == 0:
                self._run_tiers(t, above)
            rows = (codes[:, now - size : now] + self._rows).view(-1)
            x = torch.embedding_bag(model.table, rows, self._bags, mode=0)[0]
            x = torch.relu_(x.add_(above[0][t % size]))
            x = torch.relu_(torch.addmm(model.b3, x, model.w3))
            logits = _affine(model.b_out, x, model.w_out)
            if variant.logits:
                self.logits[:, t] = logits
            codes[:, now : now + 1] = self._choose(t, logits, variant)

    def _run_tiers(self, t: int, above: list[Tensor]) -> None:
        """Run every tier whose frame begins at sample t, the top one first."""
        now = self.context + t
        for index in range(len(self.model.tiers) - 1, -1, -1):
            tier = self.model.tiers[index]
            if t % tier.frame_size:
                continue
            x = (self.codes[:, now - tier.frame_size : now].to(torch.float32) / (self._q_levels / 2) - 1) * 2
            if tier.expand is not None:
                weight, bias = tier.expand
                upper = above[index + 1]
                x = _affine(bias, x, weight) + upper[(t // tier.frame_size) % len(upper)]
            elif self.model.features:
                x = torch.cat((x, self.features), dim=1)
            out = _run_stack(tier, x, self.states[index], self.model.config.rnn_type)
            up = _affine(tier.up_bias, out, tier.up).view(self.slots, tier.ratio, -1)
            above[index] = up.transpose(0, 1).contiguous()

    def _choose(self, t: int, logits: Tensor, variant: Variant) -> Tensor:
        """The codes [slots, 1] of sample t from logits [slots, q_levels].

        A draw is the inverse of the distribution function at one uniform, scaled by the last entry, so that rounding
        can't push it past the end.
        """
        sharpness = self.sharpness[:, t : t + 1]
        weights = torch.softmax(logits * sharpness, dim=1)
        if variant.limited:
            weights = self._limit(weights)
        cdf = torch.cumsum(weights, dim=1)
        chosen = torch.searchsorted(cdf, self.uniforms[:, t : t + 1] * cdf[:, -1:])
        chosen = chosen.clamp_(max=self._q_levels - 1)
        if variant.cold:
            chosen = torch.where(sharpness == 0, logits.argmax(dim=1, keepdim=True), chosen)
        if variant.forced:
            forced = self.forced[:, t : t + 1]
            chosen = torch.where(forced >= 0, forced, chosen)
        return chosen

    def _limit(self, weights: Tensor) -> Tensor:
        """Weights [slots, q_levels] with those outside of top_k and top_p at 0; other songs' stay bit for bit."""
        order = weights.argsort(dim=1, descending=True, stable=True)
        ranked = weights.gather(1, order)
        ranked = torch.where(self._ranks < self.top_k, ranked, 0.0)
        total = torch.cumsum(ranked, dim=1)
        needed = (total - ranked < self.top_p * total[:, -1:]) | (self.top_p >= 1)
        return torch.zeros_like(weights).scatter_(1, order, torch.where(needed, ranked, 0.0))


def _affine(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """x [slots, n_in] @ weight + bias, in the weight's precision."""
    return torch.addmm(bias, x.to(weight.dtype), weight)


def _run_stack(tier: FoldedTier, x: Tensor, state: Tensor, rnn_type: str) -> Tensor:
    """One step of a tier's RNNs: x [slots, n_in], state [n_rnn, parts, slots, dim] in place -> [slots, dim]."""
    below, total = x, tier.out_bias
    for index, layer in enumerate(tier.layers):
        if index and layer.to_out is not None:
            below = torch.cat((below, x), dim=1)
        below = _CELLS[rnn_type](layer, below, state[index])
        if layer.to_out is not None and total is not None:
            total = _affine(total, below, layer.to_out)
    return below if total is None else total


def _lstm(layer: FoldedLayer, x: Tensor, state: Tensor) -> Tensor:
    """state [2, slots, dim]: h and c. Gates in torch's order i, f, g, o."""
    i, f, g, o = _affine(_affine(layer.bias, x, layer.w_x), state[0], layer.w_h).chunk(4, dim=1)
    state[1] = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    state[0] = torch.sigmoid(o) * torch.tanh(state[1])
    return state[0]


def _gru(layer: FoldedLayer, x: Tensor, state: Tensor) -> Tensor:
    """The reference's GRU, state [1, slots, dim]: r, u, candidate; the reset gate before the recurrent matrix."""
    h, dim = state[0], state.shape[-1]
    projected = _affine(layer.bias, x, layer.w_x)
    r, u = torch.sigmoid(_affine(projected[:, : 2 * dim], h, layer.w_h[:, : 2 * dim])).chunk(2, dim=1)
    candidate = torch.tanh(_affine(projected[:, 2 * dim :], r * h, layer.w_h[:, 2 * dim :]))
    state[0] = h + u * (candidate - h)
    return state[0]


def _gru_torch(layer: FoldedLayer, x: Tensor, state: Tensor) -> Tensor:
    """torch.nn.GRU, state [1, slots, dim]: r, z, n; the reset gate after the recurrent matrix."""
    h = state[0]
    x_r, x_z, x_n = _affine(layer.bias, x, layer.w_x).chunk(3, dim=1)
    h_r, h_z, h_n = (h.to(layer.w_h.dtype) @ layer.w_h).chunk(3, dim=1)
    n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
    state[0] = n + torch.sigmoid(x_z + h_z) * (h - n)
    return state[0]


_CELLS = {"LSTM": _lstm, "GRU": _gru, "GRU-torch": _gru_torch}
