"""What tpe tries next: Optuna's tree-structured Parzen estimator, fed from the journal alone.

A suggestion is a function of the sweep's seed, its number and the entries of the journal before it: the sampler is
seeded anew for each, and the study hears a live sweep and a resumed one from the same entries in the same order.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.trial import Trial, TrialState

from orchestrator.config import SweepConfig
from orchestrator.points import FRUITLESS, Point, draws
from orchestrator.space import in_order
from samplernn.errors import Damaged

Entry = Mapping[str, Any]


class Suggestions:
    """The searcher's history, and the suggestion that follows from it."""

    def __init__(self, config: SweepConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._seed = config.space, config.base.train.seed
        self._study = optuna.create_study(direction="minimize")
        self._asked: dict[str, Trial] = {}
        self._reports: dict[str, dict[int, float]] = {}
        self._next: Trial | None = None
        self._tried: set[str] = set()
        self.number = 0
        """Of the next suggestion."""

    def hear(self, entries: Iterable[Entry]) -> None:
        """Take in what the journal says next. Raises Damaged for a suggestion that can't have come from this space."""
        for entry in entries:
            if entry["kind"] == "suggest":
                self._hear_suggestion(entry)
            elif entry["kind"] == "report" and entry["trial"] in self._asked:
                self._reports[entry["trial"]][entry["step"]] = entry["bits"]
            elif entry["kind"] == "end" and entry["final"] and entry["trial"] in self._asked:
                self._tell(entry["trial"], entry["state"])

    def next(self) -> Point | None:
        """The point to try next; it counts once the journal's entry of it is heard. None when all were tried.

        Where Optuna repeats itself, which would train the same model again, it is a drawn point instead.
        """
        seed = f"{self._seed}/{self.number}"
        self._study.sampler = TPESampler(seed=zlib.crc32(seed.encode()))
        self._next = self._study.ask()
        point = self._walk(self._next)
        if json.dumps(point) not in self._tried:
            return point
        self._study.tell(self._next, state=TrialState.FAIL)  # which it leaves out of account
        self._next = None
        drawn = itertools.islice(draws(self._space, seed), FRUITLESS)
        return next((point for (point,) in drawn if json.dumps(point) not in self._tried), None)

    def _hear_suggestion(self, entry: Entry) -> None:
        point = entry["overrides"]
        trial, self._next = self._next, None
        if trial is None:  # an earlier run's, or a drawn one: it is told, not asked
            self._check(entry)
            self._study.enqueue_trial({name: self._coded(name, value) for name, value in point.items()})
            trial = self._study.ask()
            self._walk(trial)
        self.number += 1
        self._tried.add(json.dumps(point))
        if "trial" in entry:
            self._asked[entry["trial"]], self._reports[entry["trial"]] = trial, {}
        else:
            self._study.tell(trial, state=TrialState.PRUNED)  # impossible: as bad as can be

    def _check(self, entry: Entry) -> None:
        point = entry["overrides"]
        expected = {name for name in in_order(self._space) if self._space[name].applies(point)}
        inside = all(self._space[name].holds(value) for name, value in point.items() if name in expected)
        if entry["number"] != self.number or expected != point.keys() or not inside:
            raise Damaged(
                f"journal entry {entry['seq']} suggests {point} as number {entry['number']}, which can't have come "
                "from the sweep's space; the sweep's journal was altered"
            )

    def _tell(self, name: str, state: str) -> None:
        """A stopped trial counts by how far it came, and one that came to nothing as worse than all others."""
        trial, reports = self._asked.pop(name), self._reports.pop(name)
        if state == "done" and reports:
            self._study.tell(trial, min(reports.values()))
            return
        if state == "stopped":
            for step, bits in reports.items():
                trial.report(bits, step)
        self._study.tell(trial, state=TrialState.PRUNED)

    def _walk(self, trial: Trial) -> Point:
        point: Point = {}
        for name in in_order(self._space):
            if self._space[name].applies(point):
                point[name] = self._value(trial, name)
        return point

    def _value(self, trial: Trial, name: str) -> Any:
        dimension = self._space[name]
        if dimension.int is not None:
            low, high = dimension.int
            step = dimension.step or 1
            return trial.suggest_int(name, low, high - (high - low) % step, step=step, log=dimension.log)
        if dimension.span is not None:
            return trial.suggest_float(name, *dimension.span, log=dimension.loguniform is not None)
        return json.loads(trial.suggest_categorical(name, [json.dumps(v) for v in dimension.values or ()]))

    def _coded(self, name: str, value: Any) -> Any:
        """As Optuna is told a value: one of a list is a category, whose name is its text."""
        return value if self._space[name].span is not None else json.dumps(value)
