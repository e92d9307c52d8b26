"""`sweep --plan`: what a sweep will take, before it starts: steps, GPU-hours, time on so many GPUs, disk, money.

Speeds and sizes are measured (calibration.py), the schedule is the sweep's own (simulate.py); how well its trials will
learn nobody knows, so learning curves are drawn from a power law several times, and the spread is told.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.calibration import Calibration, Speed, evaluated, size_of
from orchestrator.config import Budget, Retention, Schedule, SweepConfig, SweepFile
from orchestrator.plan import PlannedTrial, plan, planned
from orchestrator.points import draws
from orchestrator.retention import kept
from orchestrator.simulate import NO_LIMITS, Cluster, Course, Outcome, power_law, simulate
from samplernn.checkpoint import STATES_KEPT
from samplernn.config import Experiment
from samplernn.errors import BadInput

DRAWS = 5
"""Sets of learning curves."""


@dataclass(frozen=True)
class Amount:
    """What all trials take under a schedule; (least, most) over the drawn curves."""

    steps: tuple[int, int]
    hours: tuple[float, float]
    """Slots held, in hours: GPU-hours where a trial takes a whole GPU."""
    makespan_s: tuple[float, float]
    disk: tuple[float, float]
    """Bytes: models and states as retention keeps them, and every clip."""


@dataclass(frozen=True)
class Forecast:
    """The plan of a sweep."""

    name: str
    search: str
    schedule: Schedule
    trials: int
    finished: int
    """Trials that have ended already; they are not part of the rest."""
    sizes: list[dict[str, Any]]
    """For each size its label, trials, seconds a step and a checkpoint, and where that is from."""
    place: dict[str, Any]
    slots: int
    """Trials at a time."""
    gpus_per_trial: float
    whole: Amount
    """Every trial trained to its end."""
    planned: Amount
    """Under the schedule, and until the budget is used up."""
    used_up: str | None
    """Which limit of the budget, or of what is left of it, ends the sweep before its trials do."""
    price: float | None
    """Of a GPU-hour."""
    free_bytes: int | None

    @property
    def gpu_hours(self) -> tuple[float, float]:
        """Hours of GPUs held."""
        return self.planned.hours[0] * self.gpus_per_trial, self.planned.hours[1] * self.gpus_per_trial

    def to_json(self) -> dict[str, Any]:
        """As JSON: times in seconds, bytes, and pairs of the least and the most."""
        body = asdict(self)
        money = None if self.price is None else [hours * self.price for hours in self.gpu_hours]
        return {**body, "schedule": self.schedule.model_dump(), "gpu_hours": self.gpu_hours, "money": money}


def trials_to_plan(config: SweepConfig) -> list[PlannedTrial]:
    """The trials of a sweep; tpe's, which come to be as it goes, are stood for by draws of its space."""
    if config.search != "tpe":
        return plan(config)
    plan(config)  # refuses what can't be trained
    drawn = itertools.chain.from_iterable(draws(config.space, config.base.train.seed))
    trials: list[PlannedTrial] = []
    for number, point in enumerate(itertools.islice(drawn, 10 * (config.num_samples or 0))):
        if len(trials) == config.num_samples:
            break
        try:
            trials.append(planned(config, number, point))
        except BadInput:
            continue  # a point that tpe would not try either
    return trials


def forecast(
    asked: SweepFile,
    trials: Sequence[PlannedTrial],
    ended: set[str],
    calibration: Calibration,
    slots: int,
    gpus_per_trial: float,
    *,
    sample_rate: int,
    held_out: Mapping[str, float],
    free_bytes: int | None,
    budget: Budget | None = None,
) -> Forecast:
    """Put it together. `slots` is the number of trials at a time; `held_out` the seconds of the valid and the test
    split; `budget` what is left of the sweep's own."""
    left = [trial for trial in trials if trial.name not in ended]
    speeds = {trial.name: calibration.speeds[size_of(trial.experiment)] for trial in left}
    checkpoints = {
        trial.name: speeds[trial.name].checkpoint_s(
            evaluated(trial.experiment, held_out, sample_rate), trial.experiment.train.clips,
            trial.experiment.train.clip_seconds * sample_rate,
        )
        for trial in left
    }  # fmt: skip
    most = min(slots, asked.run.max_concurrent or slots)
    start_s = max((speed.start_s for speed in speeds.values()), default=0.0)

    def run(schedule: Schedule, draws: int, budget: Budget = NO_LIMITS) -> list[Outcome]:
        return [
            simulate(
                [_course(trial, speeds[trial.name], checkpoints[trial.name], at * 100_003 + number)
                 for number, trial in enumerate(left)],
                Cluster(1, most, start_s), schedule, budget=budget, gpus=gpus_per_trial,
            )
            for at in range(draws)
        ]  # fmt: skip

    def amount(outcomes: list[Outcome]) -> Amount:
        return _amount(outcomes, left, speeds, asked.retention, sample_rate, start_s)

    draws = DRAWS if asked.schedule.type != "none" else 1
    planned = run(asked.schedule, draws, limits(budget or asked.budget))
    return Forecast(
        asked.name, asked.search, asked.schedule, len(trials), len(trials) - len(left),
        _sizes(left, speeds, checkpoints, calibration), calibration.place, most, gpus_per_trial,
        amount(run(Schedule(type="none"), 1)), amount(planned),
        next((outcome.used_up for outcome in planned if outcome.used_up), None),
        asked.budget.gpu_hour_price, free_bytes,
    )  # fmt: skip


def limits(budget: Budget) -> Budget:
    """The budget where it limits anything; a price alone doesn't."""
    return budget if budget.model_dump(exclude={"gpu_hour_price"}, exclude_none=True) else NO_LIMITS


def _course(trial: PlannedTrial, speed: Speed, checkpoint_s: float, seed: int) -> Course:
    train = trial.experiment.train
    bits = power_law(seed, train.max_steps)
    return Course(trial.name, train.max_steps, train.checkpoint_every, speed.step_s, checkpoint_s, bits)


def _amount(
    outcomes: list[Outcome],
    trials: Sequence[PlannedTrial],
    speeds: dict[str, Speed],
    retention: Retention,
    sample_rate: int,
    start_s: float,
) -> Amount:
    experiments = {trial.name: trial.experiment for trial in trials}
    found = [
        (
            sum(outcome.steps.values()),
            (outcome.slot_s + start_s * len(outcome.spans)) / 3600,
            outcome.makespan_s,
            sum(
                disk(experiments[name], steps, speeds[name], retention, sample_rate)
                for name, steps in outcome.steps.items()
            ),
        )
        for outcome in outcomes
    ]
    steps, hours, makespans, bytes_ = zip(*found, strict=True)
    return Amount(*((min(column), max(column)) for column in (steps, hours, makespans, bytes_)))


def disk(experiment: Experiment, steps: int, speed: Speed, retention: Retention, sample_rate: int) -> float:
    """Bytes that a trial keeps at its end, when each checkpoint is better than the one before."""
    train = experiment.train
    at = {*range(train.checkpoint_every, steps + 1, train.checkpoint_every), steps} - {0}
    models = kept({step: -float(step) for step in at}, retention)
    clips = len(at) * train.clips * train.clip_seconds * sample_rate * speed.clip_bytes
    return len(models) * speed.model_bytes + min(len(at), STATES_KEPT) * speed.state_bytes + clips


def _sizes(
    trials: Sequence[PlannedTrial],
    speeds: dict[str, Speed],
    checkpoints: dict[str, float],
    calibration: Calibration,
) -> list[dict[str, Any]]:
    count = Counter(size_of(trial.experiment) for trial in trials)
    first = {size_of(trial.experiment): trial for trial in reversed(trials)}
    rows = []
    for size, number in count.items():
        trial = first[size]
        speed, name = speeds[trial.name], _label(trial.experiment)
        row = {
            "size": name,
            "trials": number,
            "steps_per_s": 1 / speed.step_s,
            "source": calibration.sources[size],
        }
        rows.append({**row, "checkpoint_s": checkpoints[trial.name], "model_bytes": speed.model_bytes})
    return rows


def _label(experiment: Experiment) -> str:
    model, train = experiment.model, experiment.train
    frames = "x".join(map(str, model.frame_sizes))
    window = f"{train.batch_size} x {experiment.seq_len}"
    return f"dim {model.dim}, {model.n_rnn} {model.rnn_type}, frames {frames}, batch {window}"
