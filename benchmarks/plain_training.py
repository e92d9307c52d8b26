"""The plain path: the original's network as REFERENCE describes it, in PyTorch's ordinary modules, no algebra.

The F preceding samples are embedded, concatenated [batch * T, F * E] and multiplied by L1; torch.nn.LSTM (or a loop of
torch.nn.LSTMCell) runs the frame tier; Adam as it comes. Two tiers only. It has the parameters of samplernn.model
under other names, so that both can compute the same loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from samplernn.config import ModelConfig
from samplernn.model import BITS_PER_NAT


def linear(n_in: int, n_out: int, norm: bool, bias: bool = True) -> nn.Module:
    """A torch Linear, weight-normalised by torch's own parametrisation if asked for."""
    module = nn.Linear(n_in, n_out, bias=bias)
    return nn.utils.parametrizations.weight_norm(module) if norm else module


class CellLoop(nn.Module):
    """One LSTM layer as a loop of torch.nn.LSTMCell: x [frames, batch, n_in], state (h, c)."""

    def __init__(self, n_in: int, dim: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(n_in, dim)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        outs = []
        h, c = state[0][0], state[1][0]
        for step in x:
            h, c = self.cell(step, (h, c))
            outs.append(h)
        return torch.stack(outs), (h[None], c[None])


class PlainSampleRNN(nn.Module):
    """Two tiers, LSTM; `cells` takes the loop of cells instead of torch.nn.LSTM."""

    def __init__(self, config: ModelConfig, *, cells: bool) -> None:
        super().__init__()
        dim, (self.frame,) = config.dim, config.frame_sizes
        self.config, norm = config, config.weight_norm
        widths = [self.frame] + [dim + self.frame * config.skip_conn] * (config.n_rnn - 1)
        self.rnns = nn.ModuleList(CellLoop(n, dim) if cells else nn.LSTM(n, dim) for n in widths)
        if norm:
            for rnn in self.rnns:
                holder = rnn.cell if cells else rnn
                for name in [n for n, _ in holder.named_parameters() if n.startswith("weight")]:
                    nn.utils.parametrizations.weight_norm(holder, name)
        self.outputs = nn.ModuleList(
            linear(dim, dim, norm, bias=not layer) for layer in range(config.n_rnn) if config.skip_conn
        )
        self.upsample = linear(dim, self.frame * dim, norm)
        self.embedding = nn.Embedding(config.q_levels, config.emb_size)
        self.l1 = linear(self.frame * config.emb_size, dim, norm, bias=False)
        self.l2, self.l3 = linear(dim, dim, norm), linear(dim, dim, norm)
        self.out = linear(dim, config.q_levels, norm)

    def initial_state(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        """Zeros for every layer."""
        shape = (1, batch, self.config.dim)
        return [(torch.zeros(shape), torch.zeros(shape)) for _ in self.rnns]

    def forward(
        self, codes: Tensor, state: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """codes [batch, F + T] -> logits [batch, T, q_levels] and the new state."""
        batch, frame = len(codes), self.frame
        scaled = (codes[:, :-frame].float() / (self.config.q_levels / 2) - 1) * 2
        x = scaled.view(batch, -1, frame).transpose(0, 1)
        below, ends = x, []
        total: Tensor | None = None
        for layer, rnn in enumerate(self.rnns):
            if layer and self.config.skip_conn:
                below = torch.cat((below, x), dim=-1)
            below, end = rnn(below, state[layer])
            ends.append(end)
            if self.config.skip_conn:
                out = self.outputs[layer](below)
                total = out if total is None else total + out
        conditioning = self.upsample(below if total is None else total).transpose(0, 1)
        windows = codes[:, :-1].unfold(1, frame, 1)
        embedded = self.embedding(windows).flatten(2)
        y = self.l1(embedded) + conditioning.reshape(batch, -1, self.config.dim)
        y = functional.relu(self.l2(y))
        y = functional.relu(self.l3(y))
        return self.out(y), ends


class PlainTrainer:
    """The plain step: forward, loss in bits, backward, elementwise clipping, Adam."""

    def __init__(self, config: ModelConfig, batch: int, *, cells: bool) -> None:
        self.model = PlainSampleRNN(config, cells=cells)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.state = self.model.initial_state(batch)

    def step(self, codes: Tensor) -> Tensor:
        """One optimiser step on codes [batch, F + T]; returns the mean bits."""
        logits, state = self.model(codes, self.state)
        targets = codes[:, self.model.frame :]
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) * BITS_PER_NAT
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.state = [(h.detach(), c.detach()) for h, c in state]
        return loss.detach()
