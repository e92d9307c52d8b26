"""The portable backend: folded tables and plain PyTorch operations, on any device.

Every operation has one fixed batch shape (the slots), so that a song does not depend on who is beside it. The backend
advances all slots by whole blocks; what a slot holds (codes so far, RNN state) can be set slot by slot.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from samplernn.folding import FoldedLayer, FoldedModel, FoldedTier

ARITHMETIC_VERSION = 1
Choose = Callable[[int, Tensor], Tensor]
"""(sample number in the block, logits [slots, q_levels]) -> codes [slots, 1]."""


class TorchBackend:
    """The state of `slots` songs side by side and the loop that advances them."""

    def __init__(self, model: FoldedModel, slots: int) -> None:
        self.model, self.slots = model, slots
        config = model.config
        self._context, self._frame, self._q_levels = config.context, config.frame_sizes[0], config.q_levels
        device = model.table.device
        self._offsets = torch.arange(self._frame, device=device) * config.q_levels
        self._history = torch.full((slots, self._context), config.q_zero, dtype=torch.int64, device=device)
        self._states = [tier.h0.repeat(1, 1, slots, 1) for tier in model.tiers]
        self._bags = torch.arange(0, slots * self._frame, self._frame, device=device)

    @property
    def engine_id(self) -> str:
        """What a song's samples depend on besides its recipe."""
        device = self.model.table.device.type
        return f"torch-{device}-fp32-slots{self.slots}-threads{torch.get_num_threads()}-v{ARITHMETIC_VERSION}"

    @torch.inference_mode()
    def reset(self, slot: int) -> None:
        """Put silence before a slot and its RNNs at the start of a song."""
        self._history[slot] = self.model.config.q_zero
        for state, tier in zip(self._states, self.model.tiers, strict=True):
            state[:, :, slot] = tier.h0[:, :, 0]

    @torch.inference_mode()
    def advance(self, uniforms: Tensor, temperature: Tensor) -> Tensor:
        """Draw one block: uniforms [slots, samples], temperature [slots] -> codes int64 [slots, samples].

        samples is a multiple of the largest frame size.
        """
        greedy = bool((temperature == 0).any())
        sharpness = 1 / torch.where(temperature == 0, 1.0, temperature)[:, None]
        cold = (temperature == 0)[:, None]

        def choose(t: int, logits: Tensor) -> Tensor:
            cdf = torch.cumsum(torch.softmax(logits * sharpness, dim=1), dim=1)
            # The inverse of the distribution function: one uniform a sample; scaled by the last entry, so that
            # rounding can't push a draw past the end.
            drawn = torch.searchsorted(cdf, uniforms[:, t : t + 1] * cdf[:, -1:]).clamp_(
                max=self._q_levels - 1
            )
            return torch.where(cold, logits.argmax(dim=1, keepdim=True), drawn) if greedy else drawn

        return self._walk(uniforms.shape[1], choose)

    @torch.inference_mode()
    def teacher_forced(self, codes: Tensor) -> Tensor:
        """Logits [slots, samples, q_levels] while the given codes [slots, samples] are forced."""
        seen = []

        def choose(t: int, logits: Tensor) -> Tensor:
            seen.append(logits.clone())
            return codes[:, t : t + 1]

        self._walk(codes.shape[1], choose)
        return torch.stack(seen, dim=1)

    def _walk(self, samples: int, choose: Choose) -> Tensor:
        model, context, frame = self.model, self._context, self._frame
        codes = torch.empty((self.slots, context + samples), dtype=torch.int64, device=self._history.device)
        codes[:, :context] = self._history
        above: list[Tensor] = [model.table] * len(model.tiers)  # each tier's conditioning [ratio, slots, dim]
        for t in range(samples):
            now = context + t
            if t % frame == 0:
                self._run_tiers(t, codes[:, :now], above)
            rows = codes[:, now - frame : now] + self._offsets
            x = torch.embedding_bag(model.table, rows.view(-1), self._bags, mode=0)[0]
            x = torch.relu_(x.add_(above[0][t % frame]))
            x = torch.relu_(torch.addmm(model.b3, x, model.w3))
            codes[:, now : now + 1] = choose(t, torch.addmm(model.b_out, x, model.w_out))
        self._history = codes[:, samples:].clone()
        return codes[:, context:]

    def _run_tiers(self, t: int, past: Tensor, above: list[Tensor]) -> None:
        for index in range(len(self.model.tiers) - 1, -1, -1):
            tier = self.model.tiers[index]
            if t % tier.frame_size:
                continue
            frame = (past[:, -tier.frame_size :].to(torch.float32) / (self._q_levels / 2) - 1) * 2
            if tier.expand is not None:
                weight, bias = tier.expand
                upper = above[index + 1]
                frame = torch.addmm(bias, frame, weight) + upper[(t // tier.frame_size) % len(upper)]
            out, self._states[index] = _step(tier, frame, self._states[index], self.model.config.rnn_type)
            up = torch.addmm(tier.up_bias, out, tier.up)
            above[index] = up.view(self.slots, tier.ratio, -1).transpose(0, 1).contiguous()


def _step(tier: FoldedTier, x: Tensor, state: Tensor, rnn_type: str) -> tuple[Tensor, Tensor]:
    """One RNN step of a tier: x [slots, n_in], state [n_rnn, parts, slots, dim] -> (output [slots, dim], state)."""
    below, total, ends = x, tier.out_bias, []
    for index, layer in enumerate(tier.layers):
        if index and layer.to_out is not None:
            below = torch.cat((below, x), dim=1)
        end = _CELLS[rnn_type](layer, below, state[index])
        ends.append(end)
        below = end[0]
        if layer.to_out is not None and total is not None:
            total = torch.addmm(total, below, layer.to_out)
    return (below if total is None else total), torch.stack(ends)


def _lstm(layer: FoldedLayer, x: Tensor, state: Tensor) -> Tensor:
    """state and result [2, slots, dim]: h and c. Gates in torch's order i, f, g, o."""
    h, c = state
    i, f, g, o = torch.addmm(torch.addmm(layer.bias, x, layer.w_x), h, layer.w_h).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.stack((torch.sigmoid(o) * torch.tanh(c), c))


def _gru(layer: FoldedLayer, x: Tensor, state: Tensor) -> Tensor:
    """The reference's GRU, state [1, slots, dim]: r, u, candidate; the reset gate before the recurrent matrix."""
    h, dim = state[0], state.shape[-1]
    projected = torch.addmm(layer.bias, x, layer.w_x)
    r, u = torch.sigmoid(torch.addmm(projected[:, : 2 * dim], h, layer.w_h[:, : 2 * dim])).chunk(2, dim=1)
    candidate = torch.tanh(torch.addmm(projected[:, 2 * dim :], r * h, layer.w_h[:, 2 * dim :]))
    return torch.lerp(h, candidate, u)[None]


def _gru_torch(layer: FoldedLayer, x: Tensor, state: Tensor) -> Tensor:
    """torch.nn.GRU, state [1, slots, dim]: r, z, n; the reset gate after the recurrent matrix."""
    h = state[0]
    x_r, x_z, x_n = torch.addmm(layer.bias, x, layer.w_x).chunk(3, dim=1)
    h_r, h_z, h_n = (h @ layer.w_h).chunk(3, dim=1)
    n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
    return torch.lerp(n, h, torch.sigmoid(x_z + h_z))[None]


_CELLS = {"LSTM": _lstm, "GRU": _gru, "GRU-torch": _gru_torch}
