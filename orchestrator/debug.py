"""`--debug`: the same sweep with everything tiny, as in the reference."""

from __future__ import annotations

from typing import Any

from orchestrator.config import SweepFile
from orchestrator.space import Dimension

_TINY: dict[str, Any] = {
    "max_steps": 8,
    "batch_size": 4,
    "accumulate": 1,
    "diverge_after": None,
    "checkpoint_every": 4,
    "log_every": 2,
    "num_chunks": 32,
    "hop": None,
    "overlap": None,
    "chunk_seconds": 0.5,
    "eval_seconds": 2.0,
    "clips": 1,
    "clip_seconds": 0.25,
}
_ONE: dict[str, Any] = {"search": "grid", "num_samples": None}


def made_tiny(asked: SweepFile) -> SweepFile:
    """Small models, a few steps, the first two values or the two ends of each setting; under a name of its own."""
    body = asked.model_dump(mode="json")
    model = asked.base.model
    body["name"] = f"{asked.name[:58]}-debug"
    body["base"]["model"] |= {"dim": 16, "emb_size": min(16, model.emb_size)}
    body["base"]["train"] |= _TINY | {"n_frames": None, "seq_len": 8 * max(model.context, 16)}
    body["schedule"]["grace_steps"] = 4
    body["space"] = {
        key: _tiny_values(key, dimension)
        for key, dimension in asked.space.items()
        if not key.startswith("train.")
    }
    if asked.num_samples is not None:
        body |= {"num_samples": min(asked.num_samples, 4)} if body["space"] else _ONE
    return SweepFile.model_validate(body)


def _tiny_values(key: str, dimension: Dimension) -> list[Any]:
    values = list(dimension.span or dimension.values or [])[:2]
    return [16 * (at + 1) for at, _ in enumerate(values)] if key == "model.dim" else values
