"""Clips: what a checkpoint sounds like, generated as it is made, with their measures beside them."""

from __future__ import annotations

import numpy as np

from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.audio import encode_flac
from samplernn.checkpoint import About
from samplernn.folding import fold
from samplernn.generate.engine import Engine, Song, generate_whole
from samplernn.measures import measure
from samplernn.model import SampleRNN
from samplernn.storage import Storage


def make_clips(trial: Storage, attempt: int, model: SampleRNN, about: About) -> None:
    """Generate and commit the clips of one checkpoint; the same checkpoint gives the same clips."""
    train = about.experiment.train
    samples = max(1, round(train.clip_seconds * about.sample_rate))
    songs = [Song(seed=train.seed, index=i, samples=samples) for i in range(train.clips)]
    files = {}
    measures = []
    for index, pcm in enumerate(generate_whole(Engine(fold(model)), songs)):
        tags = {"title": f"clip {index} of step {about.step}"}
        files[f"clip-{index}.flac"] = encode_flac(pcm, about.sample_rate, tags)
        measures.append(measure(pcm.astype(np.float32) / np.float32(32768)))
    files["measures.json"] = commit.to_json(measures)
    commit.write_commit(
        trial.at("clips", step_name(about.step, attempt)),
        files,
        step=about.step,
        attempt=attempt,
        seconds=about.seconds,
    )


def has_clips(trial: Storage, step: int) -> bool:
    """Whether the clips of a step are committed."""
    return any(
        commit.is_committed(trial.at("clips", step_name(at, attempt)))
        for at, attempt in list_commits(trial, "clips")
        if at == step
    )
