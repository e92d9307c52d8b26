"""SampleRNN in NumPy float64, written from the papers' equations: slow, small and obvious.

Takes a model's parameters by name and nothing else of its code. One chunk, one sample at a time.
"""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Weights:
    """Parameters by dotted name, with weight norm applied: w = g v / ||v||, g one an output; `moved` is added."""

    def __init__(self, model, moved=()):
        self.values = {
            name: value.detach().numpy().astype(np.float64) for name, value in model.named_parameters()
        }
        for name, by in dict(moved).items():
            self.values[name] = self.values[name] + by

    def matrix(self, name):
        v = self.values[f"{name}.v"]
        g = self.values.get(f"{name}.g")
        return v if g is None else v * (g / np.sqrt((v**2).sum(axis=1)))[:, None]

    def linear(self, name, x):
        return self.matrix(name) @ x + self.values.get(f"{name}.bias", 0.0)


def rnn_step(w, name, config, x, state):
    """One step of a stack: x [n_in], state: a list of (h, c) -> (output, new state)."""
    below, total, ends = x, 0.0, []
    for layer, (h, c) in enumerate(state):
        if layer and config.skip_conn:
            below = np.concatenate([below, x])
        a = w.linear(f"{name}.inputs.{layer}", below)
        u = w.matrix(f"{name}.recurrent.{layer}")
        d = config.dim
        if config.rnn_type == "LSTM":
            i, f, g, o = np.split(a + u @ h, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        elif config.rnn_type == "GRU":
            r, z = np.split(sigmoid(a[: 2 * d] + u[: 2 * d] @ h), 2)
            h = z * np.tanh(a[2 * d :] + u[2 * d :] @ (r * h)) + (1 - z) * h
        else:
            r, z = np.split(sigmoid(a[: 2 * d] + u[: 2 * d] @ h), 2)
            h = (1 - z) * np.tanh(a[2 * d :] + r * (u[2 * d :] @ h)) + z * h
        ends.append((h, c))
        below = h
        if config.skip_conn:
            total = total + w.linear(f"{name}.outputs.{layer}", h)
    return (total if config.skip_conn else below), ends


def logits(model, codes, features=None, moved=()):
    """Logits [T, q_levels] of one chunk of codes [T], from its start; features [T / context, n] of the top tier."""
    config, w = model.config, Weights(model, moved)
    q = config.q_levels
    past = np.concatenate([np.full(config.context, q // 2), codes])
    tiers = len(config.frame_sizes)
    states, above = [], [None] * tiers
    for k in range(tiers):
        h0 = w.values.get(f"frame_tiers.{k}.rnn.h0", np.zeros((config.n_rnn, 2, 1, config.dim)))
        states.append([(h0[n, 0, 0], h0[n, -1, 0]) for n in range(config.n_rnn)])
    out = []
    for t in range(len(codes)):
        now = config.context + t
        for k in reversed(range(tiers)):
            size = config.frame_sizes[k]
            if t % size:
                continue
            x = (past[now - size : now] / (q / 2) - 1) * 2
            if k == tiers - 1 and features is not None:
                x = np.concatenate([x, features[t // size]])
            if k < tiers - 1:
                x = w.linear(f"frame_tiers.{k}.expand", x) + above[k + 1][(t // size) % len(above[k + 1])]
            y, states[k] = rnn_step(w, f"frame_tiers.{k}.rnn", config, x, states[k])
            above[k] = w.linear(f"frame_tiers.{k}.upsample", y).reshape(-1, config.dim)
        frame = past[now - config.frame_sizes[0] : now]
        embedding = w.values.get("sample_tier.embedding", np.eye(q))
        hidden = (
            w.matrix("sample_tier.l1") @ embedding[frame].reshape(-1) + above[0][t % config.frame_sizes[0]]
        )
        hidden = np.maximum(w.linear("sample_tier.l2", hidden), 0)
        hidden = np.maximum(w.linear("sample_tier.l3", hidden), 0)
        out.append(w.linear("sample_tier.out", hidden))
    return np.array(out)


def bits(model, codes, weight=None, features=None, moved=()):
    """Mean -log2 p of the codes, or their sum by weights [T]."""
    z = logits(model, codes, features, moved)
    z = z - z.max(axis=1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    each = -np.log2(p[np.arange(len(codes)), codes])
    return float(each.mean() if weight is None else each @ weight)
