"""What a sweep has used, from its journal: over all runs of its driver, and up to this moment of the one that runs.

Of a driver that was killed, the time after its last entry is not counted: less than one checkpoint of the trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.config import Budget
from orchestrator.journal import Journal
from orchestrator.live import span

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Spent:
    """What was used."""

    steps: int
    """The furthest step of every trial, together; what was redone after a kill is not counted twice."""
    seconds: float
    """Time that drivers were at work."""
    gpu_hours: float
    """Hours of GPUs that trials held."""

    def used_up(self, budget: Budget) -> str | None:
        """Which limit is reached, in words with its setting; None while there is something left of each."""
        if budget.steps is not None and self.steps >= budget.steps:
            return f"{self.steps:,} of budget.steps {budget.steps:,} are trained"
        if budget.seconds is not None and self.seconds >= budget.seconds:
            return f"{span(self.seconds)} of budget.seconds {budget.seconds:g} have gone by"
        if budget.gpu_hours is not None and self.gpu_hours >= budget.gpu_hours:
            return f"{self.gpu_hours:.2f} of budget.gpu_hours {budget.gpu_hours:g} are used"
        money = self.money(budget)
        if budget.money is not None and money is not None and money >= budget.money:
            return f"{money:.2f} of budget.money {budget.money:g} is spent"
        return None

    def left_of(self, budget: Budget) -> Budget:
        """What is left of each limit; of one that is reached, next to nothing."""

        def rest(limit: float | None, used: float) -> float | None:
            return None if limit is None else max(1e-9, limit - used)

        return Budget(
            steps=None if budget.steps is None else max(1, budget.steps - self.steps),
            seconds=rest(budget.seconds, self.seconds),
            gpu_hours=rest(budget.gpu_hours, self.gpu_hours),
            money=rest(budget.money, self.money(budget) or 0.0),
            gpu_hour_price=budget.gpu_hour_price,
        )

    def money(self, budget: Budget) -> float | None:
        """The GPU-hours at their price; None where it isn't given."""
        return None if budget.gpu_hour_price is None else self.gpu_hours * budget.gpu_hour_price


class Meter:
    """Counts as the journal's entries come."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._steps: dict[str, int] = {}
        self._all_steps = 0
        self._run, self._at, self._gpus = 0, 0.0, 0.0
        self._since: float | None = None
        """When the run under way began to train; Ray's own start is not counted."""
        self._seconds, self._gpu_seconds = 0.0, 0.0
        """Of the runs before this one, and of the trials that have ended."""
        self._began: dict[str, float] = {}
        self.hear(entries)

    def hear(self, entries: Iterable[Entry]) -> None:
        """Take in what the journal says next."""
        for entry in entries:
            if entry["run"] != self._run:
                self._new_run(entry["run"])
            self._at = entry["at"]
            if entry["kind"] == "begin":
                self._gpus, self._since = entry["gpus"], entry["at"]
            elif entry["kind"] == "start":
                self._leave(entry["trial"])
                self._began[entry["trial"]] = entry["at"]
            elif entry["kind"] in ("end", "failure"):
                self._leave(entry["trial"])
            elif entry["kind"] == "report":
                self.reached(entry["trial"], entry["step"])

    def reached(self, trial: str, step: int) -> None:
        """A trial that is under way has come so far."""
        further = step - self._steps.get(trial, 0)
        if further > 0:
            self._steps[trial] = step
            self._all_steps += further

    def spent(self, at: float = 0.0) -> Spent:
        """Everything so far; `at` is the time of the run under way, in seconds since its journal was opened."""
        at = max(at, self._at)
        held = self._gpu_seconds + self._gpus * sum(at - began for began in self._began.values())
        return Spent(self._all_steps, self._seconds + self._worked(at), held / 3600)

    def _new_run(self, run: int) -> None:
        """The driver before has ended, in order or not: its last entry is its end."""
        for trial in list(self._began):
            self._leave(trial)
        self._seconds += self._worked(self._at)
        self._run, self._at, self._since = run, 0.0, None

    def _worked(self, at: float) -> float:
        return 0.0 if self._since is None else at - self._since

    def _leave(self, trial: str) -> None:
        if trial in self._began:
            self._gpu_seconds += self._gpus * (self._at - self._began.pop(trial))


class BudgetMeter:
    """Whether the sweep under way has used up its budget."""

    def __init__(self, budget: Budget, journal: Journal) -> None:
        self._budget, self._journal, self._heard, self._meter = budget, journal, 0, Meter()

    def reached(self, trial: str, report: Mapping[str, Any]) -> None:
        """Take in a report of a trial."""
        if report["kind"] in ("start", "log", "saved"):
            self._meter.reached(trial, report["step"])

    def used_up(self) -> str | None:
        """Which limit is reached, in words; None while there is something left of each."""
        self._meter.hear(self._journal.entries[self._heard :])
        self._heard = len(self._journal.entries)
        return self._meter.spent(self._journal.now).used_up(self._budget)
