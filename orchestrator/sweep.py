"""`sweep` and `train`: plan, run on Ray Tune, track, and leave everything on storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from cluster.connect import connect
from orchestrator.board import Board
from orchestrator.budget import BudgetMeter, Meter
from orchestrator.config import SweepFile
from orchestrator.datasets import require_dataset
from orchestrator.doctor_cluster import check_before
from orchestrator.drift import check_same_config, refuse_other_config
from orchestrator.journal import Journal
from orchestrator.lease import hold
from orchestrator.live import View
from orchestrator.next_trials import count_left
from orchestrator.on_ray.fitting import per_trial
from orchestrator.on_ray.tuner import run_trials
from orchestrator.plan import plan
from orchestrator.points import at_most
from orchestrator.room import require_room
from orchestrator.tracking.group import Group
from orchestrator.tracking.start import require_trackable, start_shipper
from orchestrator.trials import ENDED, SweepView
from orchestrator.workspace import CONFIG, Workspace

DRAIN_S = 30.0
HURRIED_DRAIN_S = 5.0
"""Seconds for W&B at the end, and after Ctrl-C: the next run ships the rest."""


def run_sweep(workspace: Workspace, asked: SweepFile, console: Console) -> SweepView:
    """Run a sweep, or go on with it; returns how it stands afterwards.

    Raises BadInput before anything is written when the dataset is missing or damaged, a trial is impossible, the name
    is taken by another config, another driver is at work, W&B can't do what was asked or a trial fits no node;
    StorageError when the disk is nearly full.
    """
    config, run = asked.sweep, asked.run
    plan(config)
    folder = workspace.sweep(config.name)
    require_trackable(run.tracking)
    require_dataset(workspace, config.dataset)
    with hold(folder):
        refuse_other_config(folder, CONFIG, config)
        require_room(folder, run.free_disk_gb)
        journal = Journal(folder)
        left, over = count_left(config, journal), Meter(journal.entries).spent().used_up(asked.budget)
        if left and over is None:
            _train(workspace, asked, journal, console)
            left, over = count_left(config, journal), BudgetMeter(asked.budget, journal).used_up()
        else:
            why = "is finished" if not left else "has no budget left"
            console.print(f"sweep {config.name} {why}: nothing to train", highlight=False)
            shipping = start_shipper(workspace, Group("sweep", config.name), run.tracking, console.print)
            if shipping is not None:
                console.print(shipping.finish(DRAIN_S), markup=False, soft_wrap=True)
    if left and over is not None:
        rest = f"{left} trials are not at their end and go on with a larger budget and the same command"
        console.print(f"the budget is used up: {over}; {rest}", markup=False, soft_wrap=True)
    view = SweepView.open(workspace, config.name)
    if over is None and any(trial.state not in ENDED for trial in view.trials):
        raise KeyboardInterrupt
    return view


def _train(workspace: Workspace, asked: SweepFile, journal: Journal, console: Console) -> None:
    config = asked.sweep
    known = workspace.sweep(config.name).exists(CONFIG)
    board = Board.of(SweepView.open(workspace, config.name)) if known else Board(config.name, plan(config))
    board.expected = at_most(config)
    board.begin()
    view = View(console, lambda: board.render(console.size.height), board.line)
    told, drain = None, HURRIED_DRAIN_S
    with view.showing(), connect():
        share = per_trial(asked.resources)
        check_before(workspace, console.print)
        check_same_config(workspace.sweep(config.name), CONFIG, config)
        shipping = start_shipper(workspace, Group("sweep", config.name), asked.run.tracking, view.say)
        try:
            run_trials(workspace, asked, share, journal, Teller(board, view.say).seen, view.tick, view.say)
            drain = DRAIN_S
        finally:
            if shipping is not None:
                told = shipping.finish(drain)
    if told is not None:
        view.say(told)


class Teller:
    """What a run of a sweep says at once: that a trial failed, that trials pause, and that they go on."""

    def __init__(self, board: Board, say: Callable[[str], None]) -> None:
        self._board, self._say = board, say
        self._paused: set[str] = set()

    def seen(self, trial: str, report: dict[str, Any]) -> None:
        """Take in one report of the scheduler."""
        self._board.seen(trial, report)
        if report["kind"] == "failure" or (report["kind"] == "end" and report["state"] == "failed"):
            self._say(f"{trial} {report['reason']}")
        if report["kind"] == "paused":
            if not self._paused:
                self._say(f"paused, nothing is lost: {report['reason']}")
            self._paused.add(trial)
        elif trial in self._paused:
            self._paused.remove(trial)
            if not self._paused:
                self._say("going on: there is room again")
