"""A sweep and a batch of songs on disk, as the real parts write them, from made-up curves and known sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.config import SweepConfig
from orchestrator.journal import Journal
from orchestrator.plan import plan
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import begin_attempt, step_name, write_metrics
from samplernn.audio import encode_flac
from samplernn.clips import measure_clips
from samplernn.config import Experiment, ModelConfig, TrainConfig
from samplernn.copying import TrainingMusic
from samplernn.measures import measure
from samplernn.preview import PREVIEWS, make_preview, pack
from tests.made import tone

RATE = 16_000
Clip = Callable[[int, int, int], np.ndarray]
"""From (trial, step, index) to int16 PCM."""


def short_clip(trial: int, step: int, index: int) -> np.ndarray:
    """0.1 s of a noisy chord."""
    return tone(RATE // 10, seed=trial * 1000 + step + index)


def write_sweep(
    workspace: Workspace,
    name: str = "toy-sweep",
    *,
    space: dict[str, list[Any]] | None = None,
    steps: Sequence[int] = (100, 200, 300),
    clip: Clip = short_clip,
    clips: int = 2,
    dataset: str = "toy",
) -> SweepConfig:
    """A sweep whose last trial is the best, whose second was stopped early and whose last but one failed."""
    train = TrainConfig(max_steps=steps[-1], checkpoint_every=steps[0], clips=clips, clip_seconds=0.1)
    base = Experiment(model=ModelConfig(dim=64, n_rnn=2), train=train)
    space = {"model.dim": [64, 128], "model.n_rnn": [2, 3]} if space is None else space
    config = SweepConfig(name=name, dataset=dataset, base=base, space=space, schedule={"type": "none"})
    folder = workspace.sweep(name)
    commit.write_record(folder, CONFIG, config.model_dump(mode="json"))
    journal = Journal(folder)
    trials = plan(SweepView.open(workspace, name).config)
    for number, planned in enumerate(trials):
        reach = len(steps) - (number in (1, len(trials) - 2) and len(trials) > 2)
        _write_trial(workspace, config, number, planned.name, steps[:reach], clip)
        journal.add("start", planned.name, attempt=1, step=0)
        ends = {1: ("stopped", "asha at step 200"), len(trials) - 2: ("failed", "the loss is NaN")}
        state, reason = ends.get(number, ("done", "")) if len(trials) > 2 else ("done", "")
        journal.add("end", planned.name, state=state, reason=reason)
    return config


def _write_trial(
    workspace: Workspace, config: SweepConfig, number: int, name: str, steps: Sequence[int], clip: Clip
) -> None:
    folder = workspace.trial(config.name, name)
    attempt = begin_attempt(folder, 0)
    rows = []
    for step in steps:
        seconds = step * (1 + 0.4 * number)
        bits = 3.0 + 3.5 / (1 + step / steps[0]) - 0.15 * number
        rows += [
            {
                "kind": "train",
                "step": step,
                "seconds": seconds,
                "train_bits": bits - 0.1,
                "samples_per_s": 1e5,
            },
            {"kind": "eval", "step": step, "seconds": seconds, "valid_bits": bits},
        ]
        sounds = [clip(number, step, index) for index in range(config.base.train.clips)]
        write_clips(workspace, config.name, name, step, sounds, seconds=seconds)
    write_metrics(folder, attempt, 1, rows)


def write_clips(
    workspace: Workspace,
    sweep: str,
    trial: str,
    step: int,
    sounds: Sequence[np.ndarray],
    *,
    seconds: float,
    music: TrainingMusic | None = None,
) -> None:
    """The clips of one checkpoint, committed with their measures and previews."""
    files = {f"clip-{index}.flac": encode_flac(pcm, RATE, {}) for index, pcm in enumerate(sounds)}
    files["measures.json"] = commit.to_json(measure_clips(sounds, RATE, music))
    files[PREVIEWS] = pack([make_preview(pcm, RATE) for pcm in sounds])
    folder = workspace.trial(sweep, trial).at("clips", step_name(step, 1))
    commit.write_commit(folder, files, step=step, attempt=1, seconds=seconds)


def write_batch(
    workspace: Workspace,
    name: str = "toy-songs",
    *,
    sweep: str = "toy-sweep",
    trial: str = "0003-dim128-rnn3-f16",
    sounds: Sequence[np.ndarray] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Committed songs 0000, 0001, ... made of the given sounds; `extra` goes into every song.json."""
    for index, pcm in enumerate(sounds):
        recipe = {
            "sweep": sweep, "trial": trial, "step": 300, "seed": 7, "index": index, "temperature": 1.0,
            "seconds": len(pcm) / RATE, "engine": "torch-cpu-1",
        }  # fmt: skip
        about = {
            "id": f"{index:04d}",
            "recipe": recipe,
            "sample_rate": RATE,
            "samples": len(pcm),
            "measures": measure(pcm.astype(np.float32) / 32768),
            "trained": {"seconds": 660.0, "bits": 3.425},
            **(extra or {}),
        }
        files = {
            "song.flac": encode_flac(pcm, RATE, {"title": f"{index:04d}"}),
            "song.json": commit.to_json(about),
        }
        commit.write_commit(workspace.song(name, f"{index:04d}"), files, attempt=1)
