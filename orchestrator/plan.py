"""From a sweep's YAML to its numbered trials, each validated before a cluster is touched."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.merge import build
from orchestrator.points import Point, at_most, combinations, drawn, points
from orchestrator.problems import names, nearest
from samplernn.config import Experiment
from samplernn.errors import BadInput

MANY = 10_000
"""Trials above which a person is asked whether that is what was meant."""
PROBES = 300
"""Draws of a space that tpe searches, which are looked at beforehand; all points where there are no more than MANY."""
SHOWN = 8
"""Impossible combinations of one kind that are named, and kinds of them."""
_SHORT = {"model.dim": "dim", "model.n_rnn": "rnn", "model.frame_sizes": "f"}


@dataclass(frozen=True)
class PlannedTrial:
    """One point of the space. `name` is its number in a deterministic order and its main settings."""

    name: str
    experiment: Experiment
    overrides: Point
    """The dotted names of the space and their values here."""


def plan(config: SweepConfig) -> list[PlannedTrial]:
    """Every trial of a sweep that is known beforehand, in order: all of a grid or random search, none of tpe's.

    Raises BadInput that lists every impossible combination at once.
    """
    check_space(config)
    if config.search == "tpe":
        _built(config, _probes(config))
        return []
    return _built(config, points(config))


def trials_of(config: SweepConfig, journal: Iterable[Mapping[str, Any]]) -> list[PlannedTrial]:
    """Every trial of a sweep so far, in order: those that are planned, or those that tpe suggested by the journal."""
    if config.search != "tpe":
        return plan(config)
    suggested = [entry for entry in journal if entry["kind"] == "suggest" and "trial" in entry]
    return [planned(config, entry["number"], entry["overrides"]) for entry in suggested]


def planned(config: SweepConfig, number: int, point: Point) -> PlannedTrial:
    """The trial of a point. Raises BadInput where its settings are impossible."""
    experiment = build(Experiment, config.base.model_dump(mode="json", exclude_unset=True), point)
    return PlannedTrial(_name(number, experiment, point), experiment, point)


def check_space(config: SweepConfig) -> None:
    """Raises BadInput that names every key of the space that is no setting."""
    problems = [
        f"unknown key space.{key}; {nearest(Experiment, key)}"
        for key in config.space
        if key not in set(names(Experiment))
    ]
    if problems:
        raise BadInput("\n".join(problems))


def _probes(config: SweepConfig) -> Iterator[Point]:
    """Points of a space that stand for all of it: every one of a small space, else each value and each end of a
    range among draws of the others, and draws."""
    space, seed = config.space, config.base.train.seed
    whole = {name: d.values for name, d in space.items() if d.values is not None}
    if len(whole) == len(space) and at_most(config.model_copy(update={"search": "grid"})) <= MANY:
        yield from combinations(space, whole)
        return
    some = [drawn(space, seed, number) for number in range(PROBES)]
    for name, dimension in space.items():
        for value in dimension.span or dimension.values or ():
            others = (combinations(space, {**values, name: [value]}) for values in some)
            yield from itertools.islice(
                (point for point in itertools.chain.from_iterable(others) if name in point), 1
            )
    yield from (point for values in some for point in combinations(space, values))


def _built(config: SweepConfig, every: Iterable[Point]) -> list[PlannedTrial]:
    trials: list[PlannedTrial] = []
    impossible: dict[str, list[str]] = {}
    for number, point in enumerate(every):
        try:
            trials.append(planned(config, number, point))
        except BadInput as error:
            impossible.setdefault(str(error), []).append(
                ", ".join(f"{key}={value}" for key, value in point.items())
            )
    if impossible:
        raise BadInput(_refusal(config, impossible, len(trials)))
    return trials


def _refusal(config: SweepConfig, impossible: dict[str, list[str]], possible: int) -> str:
    """Every reason with the points that it concerns; of very many the first, and how many more there are."""
    count = sum(map(len, impossible.values()))
    what = "points of the space that were looked at" if config.search == "tpe" else "trials"
    lines = [f"{count:,} of {count + possible:,} {what} can't be trained:"]
    for reason, at in list(impossible.items())[:SHOWN]:
        more = f"; and {len(at) - SHOWN:,} more" if len(at) > SHOWN else ""
        where = f"with {'; '.join(at[:SHOWN])}{more}: " if any(at) else ""
        lines.append(where + reason)
    hidden = sum(map(len, list(impossible.values())[SHOWN:]))
    return "\n".join(lines + ([f"(and {hidden:,} more)"] if hidden else []))


def _name(number: int, experiment: Experiment, point: Point) -> str:
    model = experiment.model
    parts = [
        f"{number:04d}",
        f"dim{model.dim}",
        f"rnn{model.n_rnn}",
        "f" + "x".join(map(str, model.frame_sizes)),
    ]
    parts += [f"{key.rsplit('.', 1)[-1]}{_short(value)}" for key, value in point.items() if key not in _SHORT]
    name = "-".join(parts)
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:64]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
