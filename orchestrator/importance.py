"""How much each hyperparameter matters: the share of the trials' ranking that its values alone explain.

The Kruskal-Wallis statistic H over the groups of trials with one value, as the effect size
eta^2 = (H - k + 1) / (n - k) for k groups of n trials (Tomczak and Tomczak 2014): a one-way analysis of variance on
ranks. Ranks, because one trial that learned nothing must not drown the rest; a trial that diverged is the last. Trials
are compared at the last step that all of them reached, so that one that was stopped early isn't worse for that alone.
On a full grid these are the main effects of a functional ANOVA of the ranks; what only two settings together explain
is in none of them.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.trials import SweepView, TrialView

FEWEST = 6
"""Trials below which nothing is said."""
MOST_VALUES = 6
"""Different numbers beyond which they are put into BINS groups of equal size."""
BINS = 4
_LAST = 1e9


@dataclass(frozen=True)
class Importance:
    """One hyperparameter."""

    name: str
    """Dotted."""
    share: float
    """From 0 to 1: of the ranking's variance that its values alone explain; chance is taken off."""


@dataclass(frozen=True)
class Importances:
    """All hyperparameters of a sweep, the most important first."""

    step: int
    """Where the trials are compared."""
    trials: int
    """How many are."""
    found: list[Importance]


def importances(sweep: SweepView) -> Importances | None:
    """Of everything that the sweep varies; None where too few trials were evaluated."""
    rated = [trial for trial in sweep.trials if trial.best is not None or _diverged(trial)]
    reached = [_evaluated(trial)[-1][0] for trial in rated if trial.best is not None]
    if len(rated) < FEWEST or not reached:
        return None
    step = min(reached)
    bits = [_bits(trial, step) for trial in rated]
    found = [
        Importance(name, _share([value_of(trial, name) for trial in rated], bits))
        for name in sweep.config.space
    ]
    return Importances(step, len(rated), sorted(found, key=lambda each: -each.share))


def value_of(trial: TrialView, name: str) -> Any:
    """The value of a dotted name in a trial."""
    value: Any = trial.experiment.model_dump(mode="json")
    for part in name.split("."):
        value = value[part]
    return value


def _share(values: list[Any], bits: list[float]) -> float:
    groups: dict[str, list[float]] = defaultdict(list)
    for value, each in zip(_grouped(values), bits, strict=True):
        groups[value].append(each)
    n, k = len(bits), len(groups)
    if k < 2 or n <= k or len(set(bits)) < 2:
        return 0.0
    from scipy.stats import kruskal  # nearly a second and 60 MB that the room does without

    h = float(kruskal(*groups.values()).statistic)
    return min(1.0, max(0.0, (h - k + 1) / (n - k)))


def _grouped(values: list[Any]) -> list[str]:
    """A group's name for each value: the value itself, or its quarter where there are many different numbers."""
    different = {json.dumps(value) for value in values}
    if len(different) <= MOST_VALUES or not all(isinstance(value, int | float) for value in values):
        return [json.dumps(value) for value in values]
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    return [str(int(at)) for at in np.searchsorted(edges, values, side="left")]


def _evaluated(trial: TrialView) -> list[tuple[int, float]]:
    return [(row["step"], row["valid_bits"]) for row in trial.rows if row["kind"] == "eval"]


def _bits(trial: TrialView, step: int) -> float:
    """The bits at the last evaluation up to a step."""
    found = [bits for at, bits in _evaluated(trial) if at <= step and math.isfinite(bits)]
    return found[-1] if found and not _diverged(trial) else _LAST


def _diverged(trial: TrialView) -> bool:
    return trial.state == "failed" and trial.reason.startswith("diverged")
