"""What the public three-tier implementations do, re-created: an honest peer for speed and for learning.

Embedding -> convolution -> ReLU MLP for the samples, torch's GRU (a learned state at the start of a chunk) and a
transposed convolution upwards for the frames, batch-major, weight norm on the matrices, Adam, clipped gradients, the
negative log-likelihood of a log-softmax: the structure of the PyTorch implementation that most people find first. Its
sample tier has a ReLU behind the first layer and one layer less than the original's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from samplernn.config import ModelConfig


def normed(module: nn.Module) -> nn.Module:
    """The module with a weight-normalised weight."""
    return nn.utils.parametrizations.weight_norm(module)


class FrameRnn(nn.Module):
    """One frame tier: frames expanded to dim, a GRU, and `ratio` conditioning vectors a frame."""

    def __init__(self, frame: int, ratio: int, dim: int, n_rnn: int) -> None:
        super().__init__()
        self.frame = frame
        self.expand = normed(nn.Conv1d(frame, dim, 1))
        self.h0 = nn.Parameter(torch.zeros(n_rnn, dim))
        self.rnn = nn.GRU(dim, dim, n_rnn, batch_first=True)
        self.upsample = normed(nn.ConvTranspose1d(dim, dim, ratio, ratio))
        nn.init.kaiming_uniform_(self.expand.parametrizations.weight.original1)
        nn.init.uniform_(
            self.upsample.parametrizations.weight.original1, -math.sqrt(6 / dim), math.sqrt(6 / dim)
        )

    def forward(self, samples: Tensor, above: Tensor | None, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """samples [batch, T] in [-2, 2], above [batch, frames, dim] -> [batch, frames * ratio, dim], state."""
        frames = samples.view(len(samples), -1, self.frame)
        x = self.expand(frames.transpose(1, 2)).transpose(1, 2)
        if above is not None:
            x = x + above
        start = self.h0[:, None].expand(-1, len(samples), -1).contiguous() if state is None else state
        out, state = self.rnn(x, start)
        return self.upsample(out.transpose(1, 2)).transpose(1, 2), state


class SampleMlp(nn.Module):
    """The sample tier."""

    def __init__(self, frame: int, dim: int, levels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(levels, levels)
        self.first = normed(nn.Conv1d(levels, dim, frame, bias=False))
        self.hidden = normed(nn.Conv1d(dim, dim, 1))
        self.last = normed(nn.Conv1d(dim, levels, 1))

    def forward(self, codes: Tensor, above: Tensor) -> Tensor:
        """codes [batch, frame + T - 1], above [batch, T, dim] -> log-probabilities [batch, T, levels]."""
        x = self.first(self.embedding(codes).transpose(1, 2))
        x = functional.relu(x + above.transpose(1, 2))
        x = functional.relu(self.hidden(x))
        return functional.log_softmax(self.last(x).transpose(1, 2), dim=2)


class PublicSampleRNN(nn.Module):
    """Three tiers (any number from two)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.frame_sizes
        self.tiers = nn.ModuleList(
            FrameRnn(size, size // below, config.dim, config.n_rnn)
            for below, size in zip((1, *sizes), sizes, strict=False)
        )
        self.mlp = SampleMlp(sizes[0], config.dim, config.q_levels)

    def forward(self, codes: Tensor, states: list[Tensor | None]) -> tuple[Tensor, list[Tensor | None]]:
        """codes [batch, context + T] -> log-probabilities [batch, T, levels] and the new states."""
        context = self.config.context
        length = codes.shape[1] - context
        samples = (codes.float() / (self.config.q_levels / 2) - 1) * 2
        above: Tensor | None = None
        ends: list[Tensor | None] = []
        for tier, state in zip(reversed(self.tiers), reversed(states), strict=True):
            first = context - tier.frame
            above, end = tier(samples[:, first : first + length].contiguous(), above, state)
            ends.append(end)
        return self.mlp(codes[:, context - self.config.frame_sizes[0] : -1], above), ends[::-1]


class PublicTrainer:
    """Its step."""

    def __init__(self, config: ModelConfig) -> None:
        self.model = PublicSampleRNN(config)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.states: list[Tensor | None] = [None] * len(config.frame_sizes)

    def step(self, codes: Tensor) -> Tensor:
        """One optimiser step on codes [batch, context + T]; returns the mean bits."""
        logp, states = self.model(codes, self.states)
        targets = codes[:, self.model.config.context :]
        loss = functional.nll_loss(logp.reshape(-1, logp.shape[2]), targets.reshape(-1))
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.states = [None if s is None else s.detach() for s in states]
        return loss.detach() / math.log(2)

    def start_chunks(self) -> None:
        """Begin the next window from the learned state."""
        self.states = [None] * len(self.states)
