"""A sweep on a virtual clock: the sweep's own scheduler decides, only the training is imagined.

Each trial has a course: how long its steps and checkpoints take and what bits it reports, recorded from a sweep that
was run or drawn from a power law. Whatever is random comes from a seed. Workers, nodes and drivers die at seeded times;
a trial that was struck goes on from its last checkpoint, as on a cluster, and the driver that comes back rebuilds its
scheduler from the journal.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.budget import BudgetMeter
from orchestrator.config import Budget, Schedule
from orchestrator.journal import Entry, Journal
from orchestrator.occupancy import Span
from orchestrator.on_ray.scheduler import Decisions

NO_LIMITS = Budget()


@dataclass(frozen=True)
class Course:
    """How one trial goes if nothing disturbs it."""

    name: str
    max_steps: int
    checkpoint_every: int
    step_s: float
    """Seconds a step."""
    checkpoint_s: float
    """Seconds a checkpoint: evaluation, commits and clips."""
    bits: Callable[[int], float]
    """Validation bits at a checkpoint's step."""
    done: int = 0
    """The step that is committed already."""

    def next_checkpoint(self, step: int) -> int:
        """The step of the checkpoint after `step`."""
        return min(self.max_steps, step - step % self.checkpoint_every + self.checkpoint_every)


@dataclass(frozen=True)
class Cluster:
    """Where the trials run."""

    nodes: int
    slots: int
    """Trials at a time on a node."""
    start_s: float = 0.0
    """Seconds from a free slot to a trial's first step: a process, its imports, the dataset, the model."""
    begin_s: float = 0.0
    """Seconds from the command to the first placement."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong, at times drawn from the seed; rates are for the whole sweep."""

    workers_per_hour: float = 0.0
    nodes_per_hour: float = 0.0
    node_back_s: float = 300.0
    """Seconds until a lost node is there again."""
    drivers_per_hour: float = 0.0
    driver_back_s: float = 60.0
    """Seconds until the same command is given again."""
    retries: int = 3
    """Times that a trial may lose its worker; a lost node or driver does not count."""
    clock_waits: bool = False
    """The clock stands still while a driver is away, and nothing is redone: the end must be an undisturbed run's."""
    seed: int = 0


@dataclass
class Outcome:
    """What came of it."""

    makespan_s: float
    """Seconds from the command to the last trial's end."""
    spans: list[Span]
    """Every attempt of every trial."""
    entries: list[Entry]
    """The journal."""
    states: dict[str, str]
    """done, stopped or failed, by trial."""
    steps: dict[str, int]
    """The last committed step, by trial."""
    redone_s: float
    """Seconds of work lost to faults."""
    used_up: str | None = None
    """Which limit of the budget ended it, in words."""

    @property
    def slot_s(self) -> float:
        """Seconds of slots at work, all together."""
        return sum(span.end - span.start for span in self.spans)


@dataclass
class _Trial:
    course: Course
    step: int = 0
    attempt: int = 0
    deaths: int = 0
    slot: tuple[int, int] | None = None
    began: float = 0.0
    """When its worker was ready."""
    since: float = 0.0
    """When it last committed, or began."""
    state: str = "waiting"


@dataclass
class _Sweep:
    """One simulated sweep under way."""

    courses: Sequence[Course]
    cluster: Cluster
    schedule: Schedule
    faults: Faults
    budget: Budget = NO_LIMITS
    gpus: float = 0.0
    now: float = 0.0
    spans: list[Span] = field(default_factory=list)
    redone_s: float = 0.0

    def __post_init__(self) -> None:
        self.trials = {course.name: _Trial(course, step=course.done) for course in self.courses}
        self.order = {course.name: at for at, course in enumerate(self.courses)}
        self.pending = [(at, name) for name, at in self.order.items()]
        self.free = [(node, slot) for node in range(self.cluster.nodes) for slot in range(self.cluster.slots)]
        heapq.heapify(self.free)
        self.lost: set[int] = set()
        self.away = False
        self.left = len(self.trials)
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.number = 0
        self.random = random.Random(self.faults.seed)
        self.journal = Journal(None, lambda: self.now)
        self.decisions = self._decisions()

    def run(self) -> Outcome:
        self.now = self.cluster.begin_s
        for rate, strike in (
            (self.faults.workers_per_hour, self._strike_worker),
            (self.faults.nodes_per_hour, self._strike_node),
            (self.faults.drivers_per_hour, self._strike_driver),
        ):
            self._later_fault(rate, strike)
        if self.budget != NO_LIMITS:
            self.journal.add("begin", gpus=self.gpus)
        meter, used_up = BudgetMeter(self.budget, self.journal), None
        self._place()
        while self.left and not used_up:
            self.now, _, act, what = heapq.heappop(self.events)
            act(*what)
            used_up = meter.used_up() if self.budget != NO_LIMITS else None
        if self.left:
            self._cut()
        return Outcome(
            self.now, self.spans, self.journal.entries,
            {name: trial.state for name, trial in self.trials.items()},
            {name: trial.step for name, trial in self.trials.items()}, self.redone_s,
            used_up if self.left else None,
        )  # fmt: skip

    def _cut(self) -> None:
        """The budget is used up: what runs commits where it is."""
        for name in self._running():
            trial = self.trials[name]
            if trial.began:
                taken = int((self.now - trial.since) / trial.course.step_s)
                trial.step = min(trial.step + taken, trial.course.next_checkpoint(trial.step))
            self._leave(name, trial)

    def _at(self, seconds: float, act: Callable[..., None], *what: object) -> None:
        self.number += 1
        heapq.heappush(self.events, (self.now + seconds, self.number, act, what))

    def _decisions(self) -> Decisions:
        return Decisions(self.schedule, {c.name: c.max_steps for c in self.courses}, self.journal)

    def _place(self) -> None:
        """Waiting trials onto free slots, in the order of their numbers, as Tune does it."""
        while self.pending and self.free and not self.away:
            _, name = heapq.heappop(self.pending)
            trial = self.trials[name]
            trial.slot, trial.state = heapq.heappop(self.free), "running"
            trial.attempt += 1
            self._at(self.cluster.start_s, self._begin, name, trial.attempt)

    def _begin(self, name: str, attempt: int) -> None:
        trial = self.trials[name]
        if trial.attempt != attempt or trial.state != "running":
            return  # it was struck while it started
        trial.began = trial.since = self.now
        self.journal.add("start", name, attempt=attempt, step=trial.step)
        self._to_checkpoint(name, trial)

    def _to_checkpoint(self, name: str, trial: _Trial) -> None:
        course = trial.course
        at = course.next_checkpoint(trial.step)
        seconds = (at - trial.step) * course.step_s + course.checkpoint_s
        self._at(seconds, self._checkpoint, name, trial.attempt, at)

    def _checkpoint(self, name: str, attempt: int, step: int) -> None:
        trial = self.trials[name]
        if trial.attempt != attempt or trial.state != "running":
            return
        trial.step, trial.since = step, self.now
        decision = self.decisions.report(name, attempt, step, trial.course.bits(step))
        if decision == "STOP":
            self._end(name, trial, "stopped")
        elif step >= trial.course.max_steps:
            self._end(name, trial, "done")
        else:
            self._to_checkpoint(name, trial)

    def _end(self, name: str, trial: _Trial, state: str) -> None:
        self.journal.add("end", name, state=state, reason="", final=True)
        trial.state = state
        self.left -= 1
        self._leave(name, trial)
        self._place()

    def _leave(self, name: str, trial: _Trial) -> None:
        assert trial.slot is not None
        node, slot = trial.slot
        if trial.began:
            self.spans.append(Span(f"{node} gpu {slot}", name, trial.began, self.now))
        if node not in self.lost:
            heapq.heappush(self.free, trial.slot)
        trial.slot, trial.began = None, 0.0

    def _struck(self, name: str, *, counts: bool) -> None:
        """A running trial lost its worker."""
        trial = self.trials[name]
        trial.deaths += counts
        if trial.deaths > self.faults.retries:
            self._end(name, trial, "failed")
            return
        if trial.began:
            self.redone_s += self.now - trial.since
        self._leave(name, trial)
        trial.state = "waiting"
        heapq.heappush(self.pending, (self.order[name], name))

    def _running(self) -> list[str]:
        return [name for name, trial in self.trials.items() if trial.state == "running"]

    def _later_fault(self, per_hour: float, strike: Callable[[], None]) -> None:
        if per_hour:
            self._at(self.random.expovariate(per_hour / 3600), self._fault, per_hour, strike)

    def _fault(self, per_hour: float, strike: Callable[[], None]) -> None:
        if not self.away:
            strike()
        self._later_fault(per_hour, strike)

    def _strike_worker(self) -> None:
        running = self._running()
        if running:
            self._struck(self.random.choice(running), counts=True)
            self._place()

    def _strike_node(self) -> None:
        there = [node for node in range(self.cluster.nodes) if node not in self.lost]
        if not there:
            return
        node = self.random.choice(there)
        self.lost.add(node)
        self.free = [slot for slot in self.free if slot[0] != node]
        heapq.heapify(self.free)
        for name in self._running():
            if (slot := self.trials[name].slot) is not None and slot[0] == node:
                self._struck(name, counts=False)
        self._at(self.faults.node_back_s, self._node_back, node)
        self._place()

    def _node_back(self, node: int) -> None:
        self.lost.remove(node)
        for slot in range(self.cluster.slots):
            heapq.heappush(self.free, (node, slot))
        self._place()

    def _strike_driver(self) -> None:
        if self.faults.clock_waits:
            self.decisions = self._decisions()
            return
        for name in self._running():
            self._struck(name, counts=False)
        self.away = True
        self._at(self.faults.driver_back_s, self._driver_back)

    def _driver_back(self) -> None:
        self.away = False
        self.decisions = self._decisions()
        self._place()


def simulate(
    courses: Sequence[Course],
    cluster: Cluster,
    schedule: Schedule,
    faults: Faults | None = None,
    budget: Budget = NO_LIMITS,
    gpus: float = 0.0,
) -> Outcome:
    """Run trials of these courses, in their order, to the end of the last, or until the budget is used up.

    `gpus` is what a trial holds, for that; it is looked at when a trial starts, reports or ends.
    """
    return _Sweep(courses, cluster, schedule, faults or Faults(), budget, gpus).run()


def power_law(seed: int, steps: int) -> Callable[[int], float]:
    """A learning curve like those of real sweeps: from 8 bits to a floor of 2 to 5 with a power of the step, and noise.

    `steps` is the length of the whole training. The floor, the power (0.2 to 0.9) and where it sets in are drawn from
    the seed; the noise (0.01 bits) from seed and step, so that a step gives the same bits whenever it is asked for.
    """
    draw = random.Random(seed)
    floor, power = draw.uniform(2.0, 5.0), draw.uniform(0.2, 0.9)
    scale = steps * draw.uniform(0.01, 0.1)

    def bits(step: int) -> float:
        noise = random.Random(seed * 1_000_003 + step).gauss(0.0, 0.01)
        return floor + (8.0 - floor) * math.pow(1 + step / scale, -power) + noise

    return bits
