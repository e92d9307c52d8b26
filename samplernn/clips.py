"""Clips: what a checkpoint sounds like, generated as it is made, with their measures beside them."""

from __future__ import annotations

import numpy as np

from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.audio import encode_flac
from samplernn.checkpoint import About
from samplernn.features import Features
from samplernn.folding import fold
from samplernn.generate.backends import choose_backend
from samplernn.generate.engine import Engine, generate_whole
from samplernn.generate.song import Song
from samplernn.measures import decimate, measure, repetition
from samplernn.model import SampleRNN
from samplernn.storage import Storage


def make_clips(
    trial: Storage, attempt: int, model: SampleRNN, about: About, features: Features | None = None
) -> None:
    """Generate and commit the clips of one checkpoint; the same checkpoint gives the same clips.

    Every second one starts from a random state of the RNNs, as the reference meant half of its clips to.
    A model with conditioning is given `features` [frames, features], of held-out audio.
    """
    train = about.experiment.train
    samples = max(1, round(train.clip_seconds * about.sample_rate))
    songs = [
        Song(seed=train.seed, index=i, samples=samples, h0="random" if i % 2 else "model", features=features)
        for i in range(train.clips)
    ]
    folded = fold(model)
    backend, _ = choose_backend(folded, folded.table.device)
    engine = Engine(folded, backend, about.sample_rate)
    files = {}
    measures = []
    for index, made in enumerate(generate_whole(engine, songs)):
        tags = {"title": f"clip {index} of step {about.step}"}
        files[f"clip-{index}.flac"] = encode_flac(made.pcm, about.sample_rate, tags)
        audio = made.pcm.astype(np.float32) / np.float32(32768)
        repeats, _ = repetition(decimate(audio, about.sample_rate))
        measures.append({**measure(audio), "repetition": repeats, "trapped": float(bool(made.traps))})
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
