"""A sweep on Ray Tune: every trial that the journal does not call ended, one placement each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.error import TuneError
from ray.tune.experiment import Trial

from cluster.connect import largest_node
from orchestrator.config import Resources, SweepFile
from orchestrator.interrupt import stopping_tune
from orchestrator.journal import Journal
from orchestrator.on_ray.scheduler import Decisions, JournalScheduler, Report
from orchestrator.on_ray.trainable import TrialWorker, assignment
from orchestrator.plan import PlannedTrial
from orchestrator.rollback import carry_out
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput


class _Hooks(Callback):  # type: ignore[misc]
    """Tune's calls that are no results: the turn of the loop, and a watchdog on every worker's reports."""

    def __init__(self, scheduler: JournalScheduler, patience: float, tick: Callable[[], None]) -> None:
        self._scheduler, self._patience, self._tick = scheduler, patience, tick
        self._heard: dict[Trial, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._heard[trial] = time.monotonic()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._heard[trial] = time.monotonic()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._heard.pop(trial, None)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._heard.pop(trial, None)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._tick()
        now = time.monotonic()
        for trial in [trial for trial, heard in self._heard.items() if now - heard > self._patience]:
            del self._heard[trial]
            if trial.temporary_state.ray_actor is not None:
                self._scheduler.hung(trial, self._patience)
                ray.kill(trial.temporary_state.ray_actor)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def per_trial(resources: Resources) -> dict[str, float]:
    """What one trial takes on this cluster. Raises BadInput when no node could ever place it."""
    most = largest_node()
    gpus = resources.gpus if resources.gpus is not None else float(most.get("GPU", 0) >= 1)
    want = {"cpu": resources.cpus or 1.0, "gpu": gpus}
    for name, amount in want.items():
        has = most.get(name.upper(), 0.0)
        if amount > has:
            raise BadInput(
                f"a trial asks for {amount:g} {name.upper()} and the largest node has {has:g}; "
                f"lower resources.{name}s or add a larger node"
            )
    return want


def run_trials(
    workspace: Workspace,
    asked: SweepFile,
    resources: dict[str, float],
    planned: list[PlannedTrial],
    seen: Callable[[str, Report], None],
    tick: Callable[[], None],
) -> None:
    """Run every planned trial that has not ended, each with the `resources` of per_trial. Ray must be connected.

    `seen(trial, report)` hears every report and end; `tick()` is called at each turn of Tune's loop. Raises
    KeyboardInterrupt on Ctrl-C, once Tune has ended in order; StorageError when the journal can't be written, BadInput
    when the first trials all fail with the same error.
    """
    journal = Journal(workspace.sweep(asked.name))
    carry_out(workspace, asked.name, journal)
    ended = journal.ended()
    waiting = [trial for trial in planned if not ended.get(trial.name, {}).get("final", False)]
    if not waiting:
        return
    steps = {trial.name: trial.experiment.train.max_steps for trial in planned}
    scheduler = JournalScheduler(Decisions(asked.schedule, steps, journal), journal, asked.run.retries, seen)
    jobs = [assignment(workspace, asked, trial.name, trial.experiment) for trial in waiting]
    with tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True) as scratch, stopping_tune():
        tuner = Tuner(
            tune.with_resources(TrialWorker, resources),
            param_space={"job": tune.grid_search(jobs)},
            tune_config=TuneConfig(
                scheduler=scheduler,
                max_concurrent_trials=asked.run.max_concurrent,
                reuse_actors=False,
                trial_dirname_creator=_folder,
            ),
            run_config=RunConfig(
                name="tune",
                storage_path=str(Path(scratch)),
                verbose=0,
                callbacks=[_Hooks(scheduler, asked.run.patience, tick)],
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                failure_config=FailureConfig(max_failures=-1),
            ),
        )
        try:
            tuner.fit()
        except TuneError as error:
            raise scheduler.broke or error from error
    if scheduler.hopeless:
        raise BadInput(
            f"the first trials all failed the same way, so the sweep is stopped: {scheduler.hopeless}; mend it and run "
            "the same command again"
        )


def _folder(trial: Trial) -> str:
    return str(trial.config["job"]["trial"])
