"""Clips: what a checkpoint sounds like, generated as it is made, with their measures beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.audio import encode_flac
from samplernn.checkpoint import About
from samplernn.chunks import Dataset
from samplernn.copying import TrainingMusic, likeness
from samplernn.features import Features
from samplernn.folding import fold
from samplernn.generate.backends import choose_backend
from samplernn.generate.engine import Engine, generate_whole
from samplernn.generate.song import Song
from samplernn.measures import band_levels, decimate, loudness, measure, repetition, variety
from samplernn.model import SampleRNN
from samplernn.preview import PREVIEWS, Pcm, make_preview, pack
from samplernn.storage import Storage
from samplernn.windows import held_out_features


@dataclass
class ClipMaker:
    """Makes the clips of a trial's checkpoints; the training music that they are compared with is read once."""

    dataset: Dataset

    @cached_property
    def _music(self) -> TrainingMusic:
        return TrainingMusic(self.dataset)

    def make(self, trial: Storage, attempt: int, model: SampleRNN, about: About) -> None:
        """Generate, measure and commit the clips of one checkpoint."""
        features = held_out_features(self.dataset, about.experiment.model)
        make_clips(trial, attempt, model, about, features, self._music)


def make_clips(
    trial: Storage,
    attempt: int,
    model: SampleRNN,
    about: About,
    features: Features | None = None,
    music: TrainingMusic | None = None,
) -> None:
    """Generate and commit the clips of one checkpoint; the same checkpoint gives the same clips.

    Every second one starts from a random state of the RNNs, as the reference meant half of its clips to.
    A model with conditioning is given `features` [frames, features], of held-out audio. Measures and previews are
    committed beside the clips; how new they are only where `music` is given.
    """
    train, rate = about.experiment.train, about.sample_rate
    samples = max(1, round(train.clip_seconds * rate))
    songs = [
        Song(seed=train.seed, index=i, samples=samples, h0="random" if i % 2 else "model", features=features)
        for i in range(train.clips)
    ]
    folded = fold(model)
    backend, _ = choose_backend(folded, folded.table.device)
    made = generate_whole(Engine(folded, backend, rate), songs)
    files = {}
    for index, clip in enumerate(made):
        tags = {"title": f"clip {index} of step {about.step}"}
        files[f"clip-{index}.flac"] = encode_flac(clip.pcm, rate, tags)
    sounds = [clip.pcm for clip in made]
    trapped = [{"trapped": float(bool(clip.traps))} for clip in made]
    measures = [a | b for a, b in zip(measure_clips(sounds, rate, music), trapped, strict=True)]
    files["measures.json"] = commit.to_json(measures)
    files[PREVIEWS] = pack([make_preview(pcm, rate) for pcm in sounds])
    commit.write_commit(
        trial.at("clips", step_name(about.step, attempt)),
        files,
        step=about.step,
        attempt=attempt,
        seconds=about.seconds,
    )


def measure_clips(
    sounds: Sequence[Pcm], sample_rate: int, music: TrainingMusic | None = None
) -> list[dict[str, Any]]:
    """The measures of each of some clips, under the names that a song's have; how new they are where there is music."""
    audio = [pcm.astype(np.float32) / np.float32(32768) for pcm in sounds]
    passages = music.nearest_each(audio) if music else [[] for _ in audio]
    return [
        {
            **measure(clip),
            "repetition": repetition(decimate(clip, sample_rate))[0],
            "lufs": loudness(clip, sample_rate),
            "variety_db": variety(band_levels(clip, sample_rate)),
            **likeness(compared),
        }
        for clip, compared in zip(audio, passages, strict=True)
    ]


def has_clips(trial: Storage, step: int) -> bool:
    """Whether the clips of a step are committed."""
    return any(
        commit.is_committed(trial.at("clips", step_name(at, attempt)))
        for at, attempt in list_commits(trial, "clips")
        if at == step
    )
