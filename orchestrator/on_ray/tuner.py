"""A sweep on Ray Tune: every trial that the journal does not call ended, one placement each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.experiment import Trial

from cluster.connect import largest_node
from orchestrator.config import Resources, SweepConfig, SweepRun
from orchestrator.interrupt import stopping_tune
from orchestrator.journal import Journal
from orchestrator.on_ray.scheduler import Decisions, JournalScheduler, Report
from orchestrator.on_ray.trainable import assignment, run_trial
from orchestrator.plan import PlannedTrial
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput


class _Hooks(Callback):  # type: ignore[misc]
    """Tune's calls that are no results: a trial that failed for good, and the turn of the loop."""

    def __init__(self, scheduler: JournalScheduler, tick: Callable[[], None]) -> None:
        self._scheduler, self._tick = scheduler, tick

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._tick()

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._scheduler.gave_up(trial, _reason(trial))

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
    config: SweepConfig,
    run: SweepRun,
    resources: dict[str, float],
    planned: list[PlannedTrial],
    seen: Callable[[str, Report], None],
    tick: Callable[[], None],
) -> None:
    """Run every planned trial that has not ended, each with the `resources` of per_trial. Ray must be connected.

    `seen(trial, report)` hears every report and end; `tick()` is called at each turn of Tune's loop. Raises
    KeyboardInterrupt on Ctrl-C, once Tune has ended in order.
    """
    journal = Journal(workspace.sweep(config.name))
    ended = journal.ended()
    waiting = [trial for trial in planned if not ended.get(trial.name, {}).get("final", False)]
    if not waiting:
        return
    steps = {trial.name: trial.experiment.train.max_steps for trial in planned}
    scheduler = JournalScheduler(Decisions(config.schedule, steps, journal), journal, seen)
    where = str(workspace.storage)
    jobs = [assignment(where, config.name, config.dataset, t.name, t.experiment) for t in waiting]
    with tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True) as scratch, stopping_tune():
        Tuner(
            tune.with_resources(run_trial, resources),
            param_space={"job": tune.grid_search(jobs)},
            tune_config=TuneConfig(
                scheduler=scheduler,
                max_concurrent_trials=run.max_concurrent,
                reuse_actors=False,
                trial_dirname_creator=_folder,
            ),
            run_config=RunConfig(
                name="tune",
                storage_path=str(Path(scratch)),
                verbose=0,
                callbacks=[_Hooks(scheduler, tick)],
                failure_config=FailureConfig(max_failures=run.retries),
            ),
        ).fit()


def _folder(trial: Trial) -> str:
    return str(trial.config["job"]["trial"])


def _reason(trial: Trial) -> str:
    """The last line of what a worker said when it failed."""
    text = ""
    if trial.error_file and Path(trial.error_file).exists():
        text = Path(trial.error_file).read_text(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"failed after all retries: {lines[-1] if lines else 'the worker died'}"[:300]
