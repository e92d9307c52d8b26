"""How fast a size of model trains here, and how large what it leaves behind is: measured once, kept in the workspace.

A size is what the time of a step depends on: the network, the batch, the window and the arithmetic. What is known of
it comes from the rows of an earlier sweep on such a device, else from a calibration that was kept, else it is measured.
Sizes beyond the first few are put between measured ones by their number of multiplications.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import attempts, read_metrics
from samplernn.config import Experiment
from samplernn.errors import BadInput, Damaged
from samplernn.memory import parameters

MOST_MEASURED = 8
"""Sizes that are measured for one plan."""
_TRAIN = ("batch_size", "accumulate", "precision", "compile", "optimiser")
_PLACE = ("device", "threads", "cpu_capability", "torch")
Place = dict[str, Any]
"""What is alike about machines of one speed, of on_ray.placement.whereabouts."""


@dataclass(frozen=True)
class Speed:
    """What one size takes."""

    step_s: float
    """Seconds a step."""
    start_s: float
    """Seconds from a new worker to its first step."""
    evaluate_s: float
    """Seconds a sample of held-out audio."""
    commit_s: float
    """Seconds to commit a model and its state."""
    clips_s: float
    """Seconds of a checkpoint's clips, whatever their length."""
    clip_s: float
    """Further seconds a sample of one clip."""
    model_bytes: float
    """Of a committed model."""
    state_bytes: float
    """Of a committed training state."""
    clip_bytes: float
    """A sample of a clip."""

    def checkpoint_s(self, evaluated: float, clips: int, clip_samples: float) -> float:
        """Seconds of a checkpoint that evaluates so many samples and makes so many clips."""
        made = self.clips_s + self.clip_s * clips * clip_samples if clips else 0.0
        return self.evaluate_s * evaluated + self.commit_s + made


def size_of(experiment: Experiment) -> str:
    """The size of an experiment, as text: equal for experiments whose steps take equally long."""
    train = {name: getattr(experiment.train, name) for name in _TRAIN}
    body = {"model": experiment.model.model_dump(mode="json"), "train": train, "seq_len": experiment.seq_len}
    return json.dumps(body, sort_keys=True)


def evaluated(experiment: Experiment, held_out: Mapping[str, float], sample_rate: int) -> float:
    """Samples that a checkpoint evaluates, of splits of so many seconds: valid, and test where it is the best yet."""
    most = experiment.train.eval_seconds or math.inf
    return sum(min(seconds, most) for seconds in held_out.values()) * sample_rate


def work(experiment: Experiment) -> float:
    """Multiplications of a step, but for a constant."""
    return float(parameters(experiment.model)) * experiment.train.batch_size * experiment.seq_len


def place_of(about: Mapping[str, Any]) -> Place:
    """What counts of a worker's whereabouts."""
    return {name: about.get(name) for name in _PLACE}


@dataclass(frozen=True)
class Calibration:
    """The speed of every size of a sweep, and where each is from."""

    speeds: dict[str, Speed]
    sources: dict[str, str]
    """measured, kept (measured for an earlier plan), recorded (an earlier sweep's rows) or between (measured ones)."""
    place: Place


def calibrate(
    workspace: Workspace,
    experiments: Sequence[Experiment],
    place: Place,
    measure: Callable[[list[Experiment]], Iterable[tuple[Experiment, Speed]]],
) -> Calibration:
    """The speed of every experiment's size on `place`; `measure` is asked for those that nothing is known of.

    Each measured size is kept as soon as it is there, so that a plan that was cut short goes on.
    """
    sizes = {size_of(experiment): experiment for experiment in experiments}
    speeds, sources = dict[str, Speed](), dict[str, str]()
    for size in sizes:
        if (speed := _kept(workspace, size, place)) is not None:
            speeds[size], sources[size] = speed, "kept"
    missing = spread([sizes[size] for size in sizes if size not in speeds], MOST_MEASURED - len(speeds))
    for experiment, speed in measure(missing):
        size = size_of(experiment)
        speeds[size], sources[size] = speed, "measured"
        _keep(workspace, size, place, speed)
    known = {size: (work(sizes[size]), speed) for size, speed in speeds.items()}
    for size in sizes:
        if size not in speeds:
            speeds[size], sources[size] = between(work(sizes[size]), list(known.values())), "between"
    recorded = recorded_steps(workspace, set(sizes), place)
    for size, step_s in recorded.items():
        speeds[size] = Speed(**{**asdict(speeds[size]), "step_s": step_s})
        sources[size] = "recorded"
    return Calibration(speeds, sources, place)


def spread(experiments: list[Experiment], most: int) -> list[Experiment]:
    """At most so many, spread evenly over their work, the least and the most among them."""
    ordered = sorted(experiments, key=work)
    if len(ordered) <= most:
        return ordered
    at = np.linspace(0, len(ordered) - 1, max(1, most)).round().astype(int)
    return [ordered[index] for index in dict.fromkeys(at.tolist())]


def between(amount: float, known: list[tuple[float, Speed]]) -> Speed:
    """The speed of a size from those whose work surrounds it; in proportion to its work beyond them."""
    known = sorted(known, key=lambda at: at[0])
    works = [at for at, _ in known]
    edge = known[0] if amount < works[0] else known[-1]
    scale = amount / edge[0] if amount < works[0] or amount > works[-1] else 1.0
    found = {}
    for field in fields(Speed):
        value = float(np.interp(amount, works, [getattr(speed, field.name) for _, speed in known]))
        found[field.name] = value if field.name in ("start_s", "clips_s", "clip_bytes") else value * scale
    return Speed(**found)


def recorded_steps(workspace: Workspace, sizes: set[str], place: Place) -> dict[str, float]:
    """Seconds a step of sizes that earlier trials were trained with, from their rows on such a device."""
    found: dict[str, list[float]] = {}
    for sweep in workspace.names("sweeps"):
        for trial in workspace.sweep(sweep).at("trials").names():
            folder = workspace.trial(sweep, trial)
            try:
                experiment = Experiment.model_validate(commit.read_record(folder, CONFIG)["experiment"])
            except (FileNotFoundError, Damaged, BadInput, ValueError):
                continue
            if (size := size_of(experiment)) not in sizes:
                continue
            about = attempts(folder)
            if not about or any(place_of(each) != place for each in about.values()):
                continue
            batch = experiment.train.batch_size * experiment.seq_len
            rows = [batch / row["samples_per_s"] for row in read_metrics(folder) if row.get("samples_per_s")]
            found.setdefault(size, []).extend(rows[1:])  # the first holds what torch does once
    return {size: statistics.median(rows) for size, rows in found.items() if rows}


def _kept(workspace: Workspace, size: str, place: Place) -> Speed | None:
    try:
        body = commit.read_record(workspace.cache("calibration"), _name(size, place))
        return Speed(**body["speed"])
    except (FileNotFoundError, Damaged, KeyError, TypeError):
        return None


def _keep(workspace: Workspace, size: str, place: Place, speed: Speed) -> None:
    body = {"size": json.loads(size), "place": place, "speed": asdict(speed)}
    workspace.cache("calibration").write(_name(size, place), commit.record_bytes(body))


def _name(size: str, place: Place) -> str:
    return f"{commit.sha256((size + json.dumps(place, sort_keys=True)).encode())[:16]}.json"
