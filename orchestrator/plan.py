"""From a sweep's YAML to its numbered trials, each validated before a cluster is touched."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.merge import build
from orchestrator.problems import names, nearest
from samplernn.config import Experiment
from samplernn.errors import BadInput

MAX_TRIALS = 100_000
_SHORT = {"model.dim": "dim", "model.n_rnn": "rnn", "model.frame_sizes": "f"}


@dataclass(frozen=True)
class PlannedTrial:
    """One point of the space. `name` is its number in a deterministic order and its main settings."""

    name: str
    experiment: Experiment
    overrides: dict[str, Any]
    """The dotted names of the space and their values here."""


def plan(config: SweepConfig) -> list[PlannedTrial]:
    """Every trial of a sweep, in order. Raises BadInput that lists every impossible combination at once."""
    check_space(config)
    size = math.prod(len(dimension.values or ()) for dimension in config.space.values())
    count = min(config.num_samples or size, size)
    if count > MAX_TRIALS:
        raise BadInput(
            f"the space has {size:,} combinations and a sweep at most {MAX_TRIALS:,} trials; "
            "use search: random with num_samples, or fewer values"
        )
    base = config.base.model_dump(mode="json", exclude_unset=True)
    trials, problems = [], []
    for number, overrides in enumerate(_points(config, size, count)):
        try:
            experiment = build(Experiment, base, overrides)
        except BadInput as error:
            values = ", ".join(f"{key}={value}" for key, value in overrides.items())
            problems.append(f"with {values}: {error}")
            continue
        trials.append(PlannedTrial(_name(number, experiment, overrides), experiment, overrides))
    if problems:
        shown = "\n".join(problems[:20]) + (
            f"\n(and {len(problems) - 20} more)" if len(problems) > 20 else ""
        )
        raise BadInput(f"{len(problems)} of {count} trials can't be trained:\n{shown}")
    return trials


def check_space(config: SweepConfig) -> None:
    """Raises BadInput that names every key of the space that is no setting."""
    problems = [
        f"unknown key space.{key}; {nearest(Experiment, key)}"
        for key in config.space
        if key not in set(names(Experiment))
    ]
    if problems:
        raise BadInput("\n".join(problems))


def _points(config: SweepConfig, size: int, count: int) -> Iterator[dict[str, Any]]:
    keys = sorted(config.space)  # the order of the numbers must not depend on how a file was written
    if config.search == "grid":
        for values in itertools.product(*(config.space[key].values or () for key in keys)):
            yield dict(zip(keys, values, strict=True))
        return
    for index in random.Random(config.base.train.seed).sample(range(size), count):
        point = {}
        for key in reversed(keys):
            choices = list(config.space[key].values or ())
            index, at = divmod(index, len(choices))
            point[key] = choices[at]
        yield {key: point[key] for key in keys}


def _name(number: int, experiment: Experiment, overrides: dict[str, Any]) -> str:
    model = experiment.model
    parts = [
        f"{number:04d}",
        f"dim{model.dim}",
        f"rnn{model.n_rnn}",
        "f" + "x".join(map(str, model.frame_sizes)),
    ]
    parts += [f"{key.rsplit('.', 1)[-1]}{value}" for key, value in overrides.items() if key not in _SHORT]
    name = "-".join(parts)
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:64]
