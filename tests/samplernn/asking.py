"""Requests and small models for the tests of what generates."""

from __future__ import annotations

import numpy as np

from samplernn.config import ModelConfig
from samplernn.generate.backend import Request

FULL = [
    ModelConfig(
        frame_sizes=sizes, dim=24, n_rnn=2, rnn_type=rnn, skip_conn=skip, emb_size=emb, q_levels=32, learn_h0=True
    )
    for sizes in [(16,), (4, 16), (2, 8, 16)]
    for rnn in ["LSTM", "GRU", "GRU-torch"]
    for skip, emb in [(True, 8), (False, 0)]
]  # fmt: skip


def request(slots: int, samples: int, *, temperature=1.0, start=0, top_k=0, top_p=1.0, **given) -> Request:
    """Every slot s draws from the stream (7, s)."""
    return Request(
        active=np.ones(slots, dtype=bool),
        seed=np.full(slots, 7, dtype=np.uint32),
        song=np.arange(slots, dtype=np.uint32),
        start=np.full(slots, start, dtype=np.int64),
        temperature=np.broadcast_to(np.float32(temperature), (slots, samples)).copy(),
        top_k=np.broadcast_to(np.int32(top_k), slots).copy(),
        top_p=np.broadcast_to(np.float32(top_p), slots).copy(),
        **given,
    )


def limited(logits: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    """Probabilities [n, q_levels] within top_k and then top_p, one row at a time."""
    rows = []
    for row in logits.astype(np.float64):
        p = np.exp(row - row.max())
        order = sorted(range(len(p)), key=lambda q: (-p[q], q))[: top_k or None]
        total, held, kept = sum(p[order]), 0.0, []
        for q in order:
            if kept and held >= top_p * total:
                break
            kept.append(q)
            held += p[q]
        rows.append(np.where(np.isin(np.arange(len(p)), kept), p, 0) / held)
    return np.array(rows)
