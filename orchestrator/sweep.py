"""`sweep` and `train`: plan, run on Ray Tune, track, and leave everything on storage."""

from __future__ import annotations

from rich.console import Console

from cluster.connect import connect
from orchestrator.board import Board
from orchestrator.config import SweepConfig, SweepFile
from orchestrator.datasets import require_dataset
from orchestrator.doctor_cluster import check_before
from orchestrator.drift import check_same_config, refuse_other_config
from orchestrator.journal import Journal
from orchestrator.lease import hold
from orchestrator.live import View
from orchestrator.on_ray.tuner import per_trial, run_trials
from orchestrator.plan import PlannedTrial, plan
from orchestrator.tracking.start import require_trackable, start_shipper
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit

DRAIN_S = 30.0
HURRIED_DRAIN_S = 5.0
"""Seconds for W&B at the end, and after Ctrl-C: the next run ships the rest."""


def run_sweep(workspace: Workspace, asked: SweepFile, console: Console) -> SweepView:
    """Run a sweep, or go on with it; returns how it stands afterwards.

    Raises BadInput before anything is written when the dataset is missing or damaged, a trial is impossible, the name
    is taken by another config, another driver is at work, W&B can't do what was asked or a trial fits no node.
    """
    config, run = asked.sweep, asked.run
    planned = plan(config)
    folder = workspace.sweep(config.name)
    require_trackable(run.tracking)
    require_dataset(workspace, config.dataset)
    with hold(folder):
        refuse_other_config(folder, CONFIG, config)
        ended = Journal(folder).ended()
        if all(trial.name in ended and ended[trial.name]["final"] for trial in planned):
            console.print(f"sweep {config.name} is finished: nothing to train", highlight=False)
            shipping = start_shipper(workspace, config.name, run.tracking, console.print)
            if shipping is not None:
                console.print(shipping.finish(DRAIN_S), markup=False, soft_wrap=True)
        else:
            _train(workspace, asked, planned, console)
    return SweepView.open(workspace, config.name)


def _train(workspace: Workspace, asked: SweepFile, planned: list[PlannedTrial], console: Console) -> None:
    config = asked.sweep
    known = workspace.sweep(config.name).exists(CONFIG)
    board = Board.of(SweepView.open(workspace, config.name)) if known else Board(config.name, planned)
    board.begin()
    view = View(console, lambda: board.render(console.size.height), board.line)
    told, drain = None, HURRIED_DRAIN_S
    with view.showing(), connect():
        resources = per_trial(asked.resources)
        check_before(workspace, console.print)
        _record(workspace, config, planned)
        shipping = start_shipper(workspace, config.name, asked.run.tracking, view.say)
        try:
            run_trials(workspace, config, asked.run, resources, planned, board.seen, view.tick)
            drain = DRAIN_S
        finally:
            if shipping is not None:
                told = shipping.finish(drain)
    if told is not None:
        view.say(told)


def _record(workspace: Workspace, config: SweepConfig, planned: list[PlannedTrial]) -> None:
    """The configs beside the output: the sweep's, and each trial's."""
    check_same_config(workspace.sweep(config.name), CONFIG, config)
    for trial in planned:
        body = {
            "name": trial.name,
            "experiment": trial.experiment.model_dump(mode="json"),
            "overrides": trial.overrides,
        }
        workspace.trial(config.name, trial.name).create(CONFIG, commit.record_bytes(body))


def unfinished(view: SweepView) -> int:
    """Trials that a sweep still has to train."""
    return sum(trial.state in ("waiting", "running") for trial in view.trials)
