"""A sweep on Ray Tune: every trial that the journal does not call ended, one placement each."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import (
    CheckpointConfig,
    FailureConfig,
    PlacementGroupFactory,
    RunConfig,
    TuneConfig,
    Tuner,
)
from ray.tune.error import TuneError
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search import Searcher

from cluster.connect import alive_nodes
from orchestrator.budget import BudgetMeter
from orchestrator.config import SweepFile
from orchestrator.interrupt import stopping_tune
from orchestrator.journal import Journal
from orchestrator.next_trials import count_left, next_trials
from orchestrator.on_ray.fitting import Share, Unplaced, placement, report_every_s, slots
from orchestrator.on_ray.scheduler import Decisions, JournalScheduler, Report, end_stopped, trial_name
from orchestrator.on_ray.trainable import TrialWorker, assignment
from orchestrator.plan import trials_of
from orchestrator.rollback import carry_out
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput, SampleRNNError

LOOK_EVERY_S = 1.0
"""Seconds between two looks at whether anything is at work."""
PENDING = 16
"""Trials that ask for a place at once, on a large cluster a quarter of all: the next ones are there when others end,
and the cluster isn't flooded with placements that can't be."""


# Tune copies the driver's AWS keys into each trial's runtime_env, which the dashboard shows and `ps` too: a node has
# its own, by role, file or environment.
ENV_VARS_TO_PROPAGATE.difference_update({name for name in ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")})


class _Hooks(TrialProgressCallback):  # type: ignore[misc]
    """Tune's calls that are no results: the turn of the loop, and a watchdog on every worker's reports.

    It stands where Tune would put a callback of its own, which prints whatever RunConfig's verbosity says.
    """

    def __init__(
        self,
        scheduler: JournalScheduler,
        patience: float,
        unplaced: Unplaced,
        tick: Callable[[], None],
        say: Callable[[str], None],
        interrupted: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._scheduler, self._patience, self._unplaced = scheduler, patience, unplaced
        self._tick, self._say, self._interrupted = tick, say, interrupted
        self._told = False
        self._look_at = 0.0
        self._heard: dict[Trial, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._heard[trial] = time.monotonic()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._heard[trial] = time.monotonic()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._heard.pop(trial, None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._heard.pop(trial, None)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._heard.pop(trial, None)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._tick()
        now = time.monotonic()
        if self._interrupted() and not self._told:
            self._told = True
            self._say("every running trial commits a checkpoint first")
        for trial in [trial for trial, heard in self._heard.items() if now - heard > self._patience]:
            del self._heard[trial]
            if trial.temporary_state.ray_actor is not None:
                self._scheduler.hung(trial, self._patience)
                ray.kill(trial.temporary_state.ray_actor)
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        waiting = [trial_name(trial) for trial in trials if trial.status == Trial.PENDING]
        if told := self._unplaced.look(waiting, any(trial.status == Trial.RUNNING for trial in trials)):
            self._say(told)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Silent(TrialProgressCallback):  # type: ignore[misc]
    """In the place of Tune's own, which prints a line for a trial that is taken back before it began."""

    def on_trial_result(self, *what: Any, **info: Any) -> None:
        """The board shows it."""

    def on_trial_error(self, *what: Any, **info: Any) -> None:
        """The board shows it."""

    def on_trial_complete(self, *what: Any, **info: Any) -> None:
        """The board shows it."""


class _Proposals(Searcher):  # type: ignore[misc]
    """Where Tune gets its trials from: one after the other, when there is room for it, until the run is to end."""

    def __init__(self, jobs: Iterator[dict[str, Any]], ending: Callable[[], bool]) -> None:
        super().__init__()
        self._jobs, self._ending = jobs, ending

    def suggest(self, trial_id: str) -> Any:
        job = None if self._ending() else next(self._jobs, None)
        return Searcher.FINISHED if job is None else {"job": job}

    def on_trial_complete(self, trial_id: str, result: Report | None = None, error: bool = False) -> None:
        """The journal has it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


def run_trials(
    workspace: Workspace,
    asked: SweepFile,
    share: Share,
    journal: Journal,
    seen: Callable[[str, Report], None],
    tick: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Run every trial that has not ended, each with the `share` of per_trial. Ray must be connected.

    `seen(trial, report)` hears of every trial, report and end; `tick()` is called at each turn of Tune's loop; `say`
    gets what a person must know at once. Raises KeyboardInterrupt on Ctrl-C, once every trial at work has committed;
    StorageError when the journal can't be written, BadInput when the first trials all fail with the same error.
    """
    config, nodes = asked.sweep, alive_nodes()
    carry_out(workspace, asked.name, journal)
    end_stopped(journal)
    left = count_left(config, journal)
    if not left:
        return
    concurrent = min(left, sum(slots(share, nodes)), asked.run.max_concurrent or left)
    meter = BudgetMeter(asked.budget, journal)
    steps = {trial.name: trial.experiment.train.max_steps for trial in trials_of(config, journal.entries)}
    trials = next_trials(workspace, config, journal)

    def jobs() -> Iterator[dict[str, Any]]:
        for trial in trials:
            steps[trial.name] = trial.experiment.train.max_steps
            seen(trial.name, {"kind": "planned", "max_steps": steps[trial.name]})
            yield assignment(workspace, asked, trial.name, trial.experiment, report_every_s(concurrent))

    def heard(trial: str, report: Report) -> None:
        meter.reached(trial, report)
        seen(trial, report)

    journal.add(
        "begin",
        gpus=share["GPU"],
        budget=asked.budget.model_dump(mode="json"),
        retention=asked.retention.model_dump(mode="json"),
        tracking=asked.run.tracking.model_dump(mode="json"),
    )
    with (
        tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True) as scratch,
        stopping_tune() as interrupted,
    ):
        scheduler = JournalScheduler(
            Decisions(config.schedule, steps, journal, config.longest),
            journal, asked.run.retries, heard, meter.used_up, interrupted,
        )  # fmt: skip
        scheduler.fresh = placement(share, nodes, "SPREAD")  # of one bundle: the same
        tuner = _tuner(
            scheduler,
            _Proposals(jobs(), lambda: interrupted() or bool(meter.used_up())),
            _Hooks(scheduler, asked.run.patience, Unplaced(share), tick, say, interrupted),
            placement(share, nodes),
            left,
            # What is suggested should know what came before: no more at once than can run at once.
            concurrent if config.search == "tpe" else asked.run.max_concurrent,
            max(PENDING, concurrent // 4),
            scratch,
        )
        try:
            tuner.fit()
        except TuneError as error:
            raise scheduler.broke or _ours(error) or error from error
    if scheduler.hopeless:
        raise BadInput(
            f"the first trials all failed the same way, so the sweep is stopped: {scheduler.hopeless}; mend it and run "
            "the same command again"
        )


def _tuner(
    scheduler: JournalScheduler,
    proposals: _Proposals,
    hooks: _Hooks,
    each: PlacementGroupFactory,
    trials: int,
    at_once: int | None,
    pending: int,
    scratch: str,
) -> Tuner:
    """Tune with every limit said: without these it takes the cluster's cores, or one trial at a time for a searcher."""
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(pending)
    return Tuner(
        tune.with_resources(TrialWorker, each),
        tune_config=TuneConfig(
            scheduler=scheduler,
            search_alg=proposals,
            num_samples=trials,
            max_concurrent_trials=at_once,
            reuse_actors=True,
            trial_dirname_creator=_folder,
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=str(Path(scratch)),
            verbose=0,
            callbacks=[hooks, _Silent()],
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=-1),
        ),
    )


def _ours(error: BaseException) -> SampleRNNError | None:
    """The error of this project's that Tune wrapped."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, SampleRNNError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _folder(trial: Trial) -> str:
    return str(trial.config["job"]["trial"])
