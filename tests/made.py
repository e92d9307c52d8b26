"""Small real parts that several tests make: a dataset on disk from known PCM, without Ray."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from samplernn import commit
from samplernn.chunks import CARD, PCM, pcm_to_arrow
from samplernn.config import Experiment, ModelConfig, TrainConfig
from samplernn.storage import Storage


def tone(samples: int, seed: int = 0) -> np.ndarray:
    """A noisy chord, int16 [samples]."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples)
    wave = sum(np.sin(t * f) for f in rng.uniform(0.01, 0.6, 4)) * 3000
    return (wave + rng.normal(0, 300, samples)).astype(np.int16)


def write_dataset(
    folder: Storage,
    *,
    name: str = "toy",
    tracks: int = 2,
    samples: int = 16_000,
    rate: int = 16_000,
    sounds: list[np.ndarray] | None = None,
):
    """Write a dataset of the given sounds, or of `tracks` tones, with train, valid and test blocks."""
    rows = []
    for index, sound in enumerate(sounds or [tone(samples, index) for index in range(tracks)]):
        track, samples = f"track-{index}", len(sound)
        commit.write_commit(folder.at("tracks", track), {PCM: pcm_to_arrow([sound])})
        a, b = int(samples * 0.8), int(samples * 0.9)
        splits = {"train": [[0, a - 10]], "valid": [[a, b - 10]], "test": [[b, samples]]}
        rows.append({"id": track, "samples": samples, "splits": splits, "measures": {"flatness": 0.1}})
    commit.write_record(folder, CARD, {"schema": 1, "name": name, "sample_rate": rate, "tracks": rows})


def tiny_experiment(**train) -> Experiment:
    """A model that trains in milliseconds."""
    defaults = {
        "max_steps": 12, "batch_size": 3, "seq_len": 64, "chunk_seconds": 0.02, "num_chunks": 40,
        "checkpoint_every": 4, "log_every": 2, "clips": 2, "clip_seconds": 0.05,
    }  # fmt: skip
    model = ModelConfig(frame_sizes=(4, 16), dim=16, n_rnn=2, emb_size=8, q_levels=32)
    return Experiment(model=model, train=TrainConfig(**{**defaults, **train}))


def wait_until(
    process: subprocess.Popen[Any],
    condition: Callable[[], bool],
    what: str,
    seconds: float = 180,
    every: float = 0.2,
) -> None:
    """Wait until something that a running process does can be seen; fails when the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {seconds:.0f} s"
        try:
            code = process.wait(every)
        except subprocess.TimeoutExpired:
            continue
        assert condition(), f"the process ended with {code} before {what}"
