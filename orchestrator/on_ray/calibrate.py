"""A few seconds of real training for each size of model, on the workers that its trials would get."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray
import torch

from cluster.connect import alive_nodes
from orchestrator.calibration import Place, Speed, evaluated, place_of
from orchestrator.on_ray.fitting import Share, slots
from orchestrator.on_ray.placement import assigned_cores, assigned_device, whereabouts
from orchestrator.workspace import Workspace
from samplernn.attempts import list_commits, step_name
from samplernn.checkpoint import load_model
from samplernn.chunks import Dataset, cache_folder
from samplernn.clips import make_clips
from samplernn.config import Experiment
from samplernn.storage import Storage
from samplernn.train import Logged, Saved, Started, train
from samplernn.windows import held_out_features

SECONDS = 3.0
"""Of training for each size; at least two steps."""
STEPS_A_ROW = 5
MOST_COPIES = 8
"""Workers that measure one size side by side."""
EVALUATED_WINDOWS = 8
"""Length of a held-out row in TBPTT windows."""
CLIP_S = (0.1, 0.5)
"""Two lengths of clips in seconds: what they have in common, and what each sample adds."""


def place(share: Share) -> Place:
    """What a trial's worker would be."""
    return place_of(ray.get(_remote(_whereabouts, share).remote()))


def measure(
    workspace: Workspace, dataset: str, experiments: list[Experiment], share: Share
) -> Iterator[tuple[Experiment, Speed]]:
    """The speed of each, as they come in; several at a time on a node, as its trials will be.

    Sizes are repeated until a node is full, and the slowest counts: trials share caches and memory.
    """
    fullest = max(slots(share, alive_nodes()), default=1)
    copies = math.ceil(min(fullest, MOST_COPIES) / max(1, len(experiments)))
    where, run = workspace.storage.address, _remote(_measured, share)
    asked = [
        (e, [run.remote(where, dataset, e.model_dump(mode="json")) for _ in range(copies)])
        for e in experiments
    ]
    for experiment, answers in asked:
        found = [Speed(**body) for body in ray.get(answers)]
        yield experiment, max(found, key=lambda speed: speed.step_s)


def _remote(function: Any, share: Share) -> Any:
    options = {"num_cpus": share["CPU"], "num_gpus": share["GPU"], "max_calls": 1, "max_retries": 1}
    return ray.remote(**options)(function)


def _whereabouts() -> dict[str, Any]:
    torch.set_num_threads(assigned_cores())
    return whereabouts(assigned_device())


def _measured(where: str, dataset_name: str, body: dict[str, Any]) -> dict[str, float]:
    torch.set_num_threads(assigned_cores())
    device = assigned_device()
    dataset = Dataset.open(Workspace.open(where).dataset(dataset_name), cache_folder())
    full = Experiment.model_validate(body)
    short = _shortened(full, dataset)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Storage.open(scratch)
        timed = _trained(short, dataset, folder, device)
        at = step_name(*list_commits(folder, "model")[-1])
        sizes = {kind: sum(size for _, size in folder.at(kind, at).walk()) for kind in ("model", "state")}
        clips = _clips(full, folder, at, device, dataset)
    samples = evaluated(
        short, {split: dataset.seconds(split) for split in ("valid", "test")}, dataset.sample_rate
    )
    return {
        **timed, **clips, "evaluate_s": timed["evaluate_s"] / max(1.0, samples),
        "model_bytes": sizes["model"], "state_bytes": sizes["state"],
    }  # fmt: skip


def _shortened(full: Experiment, dataset: Dataset) -> Experiment:
    """The same for a few steps, and an evaluation of as many rows side by side, but only EVALUATED_WINDOWS long."""
    train = full.train
    seconds = min(dataset.seconds("valid"), train.eval_seconds or math.inf)
    rows = min(train.batch_size // train.accumulate, max(1, round(seconds / train.chunk_seconds)))
    chunk = min(train.chunk_seconds, EVALUATED_WINDOWS * full.seq_len / dataset.sample_rate)
    settings = {
        "max_steps": 10**6, "checkpoint_every": 10**6, "log_every": STEPS_A_ROW, "clips": 0, "diverge_after": None,
        "chunk_seconds": chunk, "eval_seconds": rows * chunk,
    }  # fmt: skip
    return full.model_copy(update={"train": train.model_copy(update=settings)})


def _trained(short: Experiment, dataset: Dataset, folder: Storage, device: torch.device) -> dict[str, float]:
    """Seconds of a start, a step, an evaluation and the commits."""
    began: list[float] = []
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps >= 2 and time.perf_counter() - began[0] > SECONDS

    rows, marks, start_s = list[float](), list[float](), 0.0
    for event in train(short, dataset, folder, device=device, stop=stop):
        match event:
            case Started():
                start_s = (
                    time.process_time()
                )  # of this process since it began: its imports, the dataset, the model
                began.append(time.perf_counter())
            case Logged(row):
                marks.append(time.perf_counter())
                if row["kind"] == "train":
                    rows.append(short.train.batch_size * short.seq_len / row["samples_per_s"])
            case Saved():
                marks.append(time.perf_counter())
    # The first row holds what torch does once; the last three marks are the last row, the evaluation, the commits.
    step_s = sum(rows[1:]) / len(rows[1:]) if len(rows) > 1 else rows[0]
    last, judged, saved = marks[-3:]
    return {"start_s": start_s, "step_s": step_s, "evaluate_s": judged - last, "commit_s": saved - judged}


def _clips(
    full: Experiment, folder: Storage, at: str, device: torch.device, dataset: Dataset
) -> dict[str, float]:
    """Seconds and bytes of clips."""
    model, about = load_model(folder.at("model", at))
    model.to(device)
    features = held_out_features(dataset, full.model)
    count, took, sizes = max(1, full.train.clips), list[float](), list[int]()
    for number, seconds in enumerate(CLIP_S, start=1):
        config = full.train.model_copy(update={"clip_seconds": seconds, "clips": count})
        made = replace(about, experiment=full.model_copy(update={"train": config}))
        began = time.perf_counter()
        make_clips(folder, number + 1, model, made, features)
        took.append(time.perf_counter() - began)
        clips = folder.at("clips", step_name(about.step, number + 1))
        sizes.append(sum(size for name, size in clips.walk() if name.endswith(".flac")))
    samples = [seconds * dataset.sample_rate * count for seconds in CLIP_S]
    slope = max(0.0, (took[1] - took[0]) / (samples[1] - samples[0]))
    return {
        "clips_s": max(0.0, took[1] - slope * samples[1]),
        "clip_s": slope,
        "clip_bytes": sizes[1] / samples[1],
    }
