"""`--debug`: the same sweep with everything tiny, as in the reference."""

from __future__ import annotations

from typing import Any

from orchestrator.config import SweepConfig

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


def made_tiny(config: SweepConfig) -> SweepConfig:
    """Small models, a few steps, the first two values of each setting; under a name of its own."""
    body = config.model_dump(mode="json")
    context = config.base.model.context
    body["name"] = f"{config.name[:58]}-debug"
    body["base"]["model"] |= {"dim": 16, "emb_size": min(16, config.base.model.emb_size)}
    body["base"]["train"] |= _TINY | {"n_frames": None, "seq_len": 8 * max(context, 16)}
    body["schedule"]["grace_steps"] = 4
    body["num_samples"] = config.num_samples and min(config.num_samples, 4)
    body["space"] = {
        key: [16 * (i + 1) for i, _ in enumerate(values[:2])] if key == "model.dim" else values[:2]
        for key, values in config.space.items()
        if not key.startswith("train.")
    }
    return SweepConfig.model_validate(body)
