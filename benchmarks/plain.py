"""Generation as one would write it in PyTorch: the yardstick of benchmarks/generation.py.

Eager, nothing folded: for each sample an embedding, a concatenation, four Linears and a multinomial draw; for each
frame torch.nn's own LSTM or GRU layers. Random weights: only its speed counts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samplernn.config import ModelConfig


class PlainTier(nn.Module):
    """One frame tier: a stack of torch RNN layers with Graves' skip connections, and the upsampling."""

    def __init__(self, config: ModelConfig, tier: int) -> None:
        super().__init__()
        dim, self.frame = config.dim, config.frame_sizes[tier]
        self.ratio = self.frame // (config.frame_sizes[tier - 1] if tier else 1)
        top = tier == len(config.frame_sizes) - 1
        self.expand = None if top else nn.Linear(self.frame, dim)
        n_in = self.frame if top else dim
        cell = nn.LSTM if config.rnn_type == "LSTM" else nn.GRU
        widths = [n_in] + [dim + n_in * config.skip_conn] * (config.n_rnn - 1)
        self.layers = nn.ModuleList(cell(width, dim) for width in widths)
        self.skips = nn.ModuleList(nn.Linear(dim, dim) for _ in widths) if config.skip_conn else None
        self.up = nn.Linear(dim, dim * self.ratio)
        self.state: list[Tensor | tuple[Tensor, Tensor] | None] = [None] * config.n_rnn

    def forward(self, frame: Tensor, above: Tensor | None) -> Tensor:
        """frame [songs, frame_size], above [songs, dim] or None -> conditioning [songs, ratio, dim]."""
        x = frame if self.expand is None else self.expand(frame) + above
        below, total = x, None
        for index, layer in enumerate(self.layers):
            if index and self.skips is not None:
                below = torch.cat((below, x), dim=1)
            out, self.state[index] = layer(below[None], self.state[index])
            below = out[0]
            if self.skips is not None:
                part = self.skips[index](below)
                total = part if total is None else total + part
        return self.up(below if total is None else total).view(len(frame), self.ratio, -1)


class PlainSampler(nn.Module):
    """The whole model and its loop."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, frame = config, config.frame_sizes[0]
        self.tiers = nn.ModuleList(PlainTier(config, tier) for tier in range(len(config.frame_sizes)))
        self.embedding = nn.Embedding(config.q_levels, config.emb_size)
        self.l1 = nn.Linear(frame * config.emb_size, config.dim, bias=False)
        self.l2 = nn.Linear(config.dim, config.dim)
        self.l3 = nn.Linear(config.dim, config.dim)
        self.out = nn.Linear(config.dim, config.q_levels)

    @torch.inference_mode()
    def generate(self, songs: int, samples: int) -> Tensor:
        """Codes int64 [songs, samples], samples a multiple of the largest frame."""
        config = self.config
        context, lowest = config.context, config.frame_sizes[0]
        codes = torch.full((songs, context + samples), config.q_zero)
        above: list[Tensor | None] = [None] * (len(self.tiers) + 1)
        for tier in self.tiers:
            tier.state = [None] * config.n_rnn
        for t in range(context, context + samples):
            for index in range(len(self.tiers) - 1, -1, -1):
                size = config.frame_sizes[index]
                if (t - context) % size:
                    continue
                frame = (codes[:, t - size : t] / (config.q_levels / 2) - 1) * 2
                upper = above[index + 1]
                if upper is not None:
                    upper = upper[:, (t - context) // size % upper.shape[1]]
                above[index] = self.tiers[index](frame, upper)
            conditioning = above[0]
            assert conditioning is not None
            x = self.l1(self.embedding(codes[:, t - lowest : t]).flatten(1)) + conditioning[:, t % lowest]
            x = torch.relu(self.l2(x))
            x = torch.relu(self.l3(x))
            codes[:, t] = torch.multinomial(torch.softmax(self.out(x), dim=1), 1)[:, 0]
        return codes[:, context:]
