"""SampleRNN (arXiv 1612.07837): frame tiers that condition one another, and a sample tier that predicts.

A window of codes [batch, context + T] holds the `context` samples before the first target (the largest frame) and the T
targets. The tier with frames of f samples reads frames that end just before what they condition.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from samplernn.config import ModelConfig
from samplernn.sample_loss import Positions, SampleLoss, TableOfRows, ThroughL2
from samplernn.tiers import Linear, RnnStack, layers

State = list[Tensor]
BITS_PER_NAT = 1 / math.log(2)


class FrameTier(nn.Module):
    """One frame tier: RNN steps over frames of `frame_size` samples, upsampled to `ratio` conditioning vectors each."""

    def __init__(self, config: ModelConfig, tier: int) -> None:
        super().__init__()
        self.frame_size = config.frame_sizes[tier]
        self.ratio = self.frame_size // (config.frame_sizes[tier - 1] if tier else 1)
        self.top = tier == len(config.frame_sizes) - 1
        norm = config.weight_norm
        self.expand = None if self.top else Linear(self.frame_size, config.dim, weight_norm=norm, gain=2.0)
        n_in = self.frame_size + len(config.features) if self.top else config.dim
        self.rnn = RnnStack(config, n_in)
        self.upsample = Linear(config.dim, config.dim * self.ratio, weight_norm=norm, gain=2.0)

    def forward(
        self, samples: Tensor, beside: Tensor | None, state: Tensor, noise: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """samples [batch, frames * frame_size] scaled to [-2, 2]; beside them, at the top, the features [batch,
        frames, features] or None, and below it the conditioning [frames, batch, dim] from above.

        Returns the RNN's output [frames, batch, dim] and the new state.
        """
        x = samples.reshape(len(samples), -1, self.frame_size).transpose(0, 1)
        if self.expand is not None:
            x = self.expand(x) + beside
        elif beside is not None:
            x = torch.cat((x, beside.transpose(0, 1)), dim=-1)
        out: tuple[Tensor, Tensor] = self.rnn(x.contiguous(), state, noise)
        return out

    def conditioning(self, out: Tensor) -> Tensor:
        """The RNN's output [frames, batch, dim] upsampled for the tier below: [frames * ratio, batch, dim]."""
        up = self.upsample(out).view(len(out), out.shape[1], self.ratio, -1)
        turned: Tensor = up.transpose(1, 2).reshape(len(out) * self.ratio, out.shape[1], -1)
        return turned


class SampleTier(nn.Module):
    """The MLP that predicts a sample from the frame before it and the conditioning."""

    offsets: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.q_levels, self.frame_size = config.q_levels, config.frame_sizes[0]
        width = config.emb_size or config.q_levels
        norm = config.weight_norm
        self.embedding = nn.Parameter(torch.randn(config.q_levels, width)) if config.emb_size else None
        self.l1 = Linear(self.frame_size * width, config.dim, weight_norm=norm, gain=2.0, bias=False)
        self.l2 = Linear(config.dim, config.dim, weight_norm=norm, gain=2.0)
        self.l3 = Linear(config.dim, config.dim, weight_norm=norm, gain=2.0)
        self.out = Linear(config.dim, config.q_levels, weight_norm=norm)
        if config.dim == config.q_levels:
            self.out.replace_(slice(None), nn.init.orthogonal_(torch.empty(config.q_levels, config.dim)))
        self.register_buffer("offsets", torch.arange(self.frame_size) * config.q_levels, persistent=False)

    def table(self) -> Tensor:
        """L1 as rows to look up: [frame_size * q_levels, dim], row p * q_levels + q for level q at position p.

        An embedding followed by a linear map without activation is a table (exact): table[p, q] = emb[q] W1[p].
        """
        dim = self.l1.v.shape[0]
        w = self.l1.weight.view(dim, self.frame_size, -1).permute(1, 2, 0)
        rows = w if self.embedding is None else torch.matmul(self.embedding, w)
        return rows.reshape(self.frame_size * self.q_levels, dim)

    def forward(self, codes: Tensor, conditioning: Tensor) -> Tensor:
        """codes [batch, frame_size + T - 1], conditioning [T, batch, dim] -> logits [batch, T, q_levels]."""
        rows = codes.unfold(1, self.frame_size, 1) + self.offsets
        batch, length, _ = rows.shape
        l1 = functional.embedding_bag(rows.reshape(batch * length, -1), self.table(), mode="sum")
        x = l1.view(batch, length, -1) + conditioning.transpose(0, 1)
        x = functional.relu(self.l2(x))
        x = functional.relu(self.l3(x))
        logits: Tensor = self.out(x)
        return logits

    def nll(self, codes: Tensor, out: Tensor, upsample: Linear, weight: Tensor) -> Tensor:
        """Sum of the weighted -ln p of the last T codes, by the shortest exact way.

        codes [batch, frame_size + T], out [frames, batch, dim] of the lowest frame tier, weight float32 [batch, T].
        L2 goes into L1's table and into the upsampling where that costs less than applying it: n positions at D^2
        multiply-adds each, against F * E * D^2 + F * D^3.
        """
        dim, frame = self.l2.v.shape[0], self.frame_size
        l1, up, up_bias = self.l1.weight, upsample.weight, upsample.offset
        mlp = [self.l3.weight, self.l3.offset, self.out.weight, self.out.offset]
        folds = weight.numel() > l1.shape[1] + frame * dim
        if folds:
            w2 = self.l2.weight
            l1 = w2 @ l1
            up = ThroughL2.apply(up, w2)  # type: ignore[no-untyped-call]
            up_bias = (up_bias.view(frame, dim) @ w2.t() + self.l2.offset).flatten()
        else:
            mlp = [self.l2.weight, self.l2.offset, *mlp]
        table = TableOfRows.apply(self.embedding, l1, frame)  # type: ignore[no-untyped-call]
        where = Positions.of(codes, frame, weight)
        operands = (where, folds, out.flatten(0, 1), up, up_bias, table, *mlp)
        loss: Tensor = SampleLoss.apply(*operands)  # type: ignore[no-untyped-call]
        return loss


class SampleRNN(nn.Module):
    """The whole network; `config` says what it is."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_tiers = layers(FrameTier(config, tier) for tier in range(len(config.frame_sizes)))
        self.sample_tier = SampleTier(config)

    @classmethod
    def seeded(cls, config: ModelConfig, seed: int) -> SampleRNN:
        """A model whose initial weights depend only on the config and the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    def initial_state(self, batch: int, noise: torch.Generator | None = None) -> State:
        """The state at the start of a chunk, one tensor a frame tier; with random_h0 drawn from `noise` if given."""
        return [tier.rnn.initial_state(batch, noise) for tier in self.frame_tiers]

    def forward(self, codes: Tensor, state: State, features: Tensor | None = None) -> tuple[Tensor, State]:
        """codes int [batch, context + T] -> (logits [batch, T, q_levels] of the last T samples, the new state).

        T is a multiple of the largest frame size; features are [batch, T / context, features].
        """
        out, state = self._frames(codes, state, features, None)
        above = self.frame_tiers[0].conditioning(out)
        below = codes[:, self.config.context - self.config.frame_sizes[0] : -1]
        return self.sample_tier(below, above), state

    def bits(
        self,
        codes: Tensor,
        state: State,
        weight: Tensor,
        *,
        features: Tensor | None = None,
        noise: torch.Generator | None = None,
    ) -> tuple[Tensor, State]:
        """Sum of weight * -log2 p of the last T codes: codes int [batch, context + T], weight float32 [batch, T].

        What `forward` and a cross-entropy give, to rounding, without their logits in memory. Returns the new state
        beside it. `noise` is what dropout draws from: None while not training.
        """
        out, state = self._frames(codes, state, features, noise)
        below = codes[:, self.config.context - self.config.frame_sizes[0] :]
        upsample = self.frame_tiers[0].upsample
        return self.sample_tier.nll(below, out, upsample, weight * BITS_PER_NAT), state

    def _frames(
        self, codes: Tensor, state: State, features: Tensor | None, noise: torch.Generator | None
    ) -> tuple[Tensor, State]:
        """The frame tiers over a window: the lowest one's output [frames, batch, dim] and all new states."""
        context = self.config.context
        length = codes.shape[1] - context
        scaled = (codes.to(torch.float32) / (self.config.q_levels / 2) - 1) * 2
        out, above, ends = scaled, None, []
        for tier, start in zip(reversed(self.frame_tiers), reversed(state), strict=True):
            first = context - tier.frame_size
            beside = features if above is None else above.conditioning(out)
            out, end = tier(scaled[:, first : first + length], beside, start, noise)
            above = tier
            ends.append(end)
        return out, ends[::-1]


def nll_bits(logits: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
    """Sum of -log2 p(target) over the unmasked targets: logits [batch, T, q_levels], targets and mask [batch, T]."""
    nats = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    if mask is not None:
        nats = nats * mask.flatten()
    return nats.sum() * BITS_PER_NAT
