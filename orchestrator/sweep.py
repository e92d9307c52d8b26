"""`sweep` and `train`: plan, run on Ray Tune, track, and leave everything on storage."""

from __future__ import annotations

from rich.console import Console

from cluster.connect import connect
from orchestrator.board import Board
from orchestrator.config import SweepConfig, SweepRun
from orchestrator.drift import check_same_config
from orchestrator.journal import Journal
from orchestrator.lease import hold
from orchestrator.live import View
from orchestrator.on_ray.tuner import run_trials
from orchestrator.plan import plan
from orchestrator.tracking.start import start_shipper
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.chunks import CARD
from samplernn.errors import BadInput

DRAIN_S = 30.0


def run_sweep(workspace: Workspace, config: SweepConfig, run: SweepRun, console: Console) -> SweepView:
    """Run a sweep, or go on with it; returns how it stands afterwards.

    Raises BadInput before anything is written when the dataset is missing, a trial is impossible, the name is taken
    by another config or another driver is at work.
    """
    planned = plan(config)
    if not workspace.dataset(config.dataset).exists(CARD):
        whole = [name for name in workspace.names("datasets") if workspace.dataset(name).exists(CARD)]
        known = ", ".join(whole) or "none yet"
        raise BadInput(
            f"there is no dataset {config.dataset!r} (there are: {known}); orchestrator ingest FOLDER makes one"
        )
    folder = workspace.sweep(config.name)
    with hold(folder):
        check_same_config(folder, CONFIG, config)
        for trial in planned:
            body = {
                "name": trial.name,
                "experiment": trial.experiment.model_dump(mode="json"),
                "overrides": trial.overrides,
            }
            workspace.trial(config.name, trial.name).create(CONFIG, commit.record_bytes(body))
        ended = Journal(folder).ended()
        if all(trial.name in ended and ended[trial.name]["final"] for trial in planned):
            planned = []
            console.print(f"sweep {config.name} is finished: nothing to train", highlight=False)
        board = Board.of(SweepView.open(workspace, config.name))
        view = View(console, board.render, board.line)
        shipping = start_shipper(workspace, config.name, run.tracking, view.say)
        try:
            if planned:
                with connect(), view.showing():
                    run_trials(workspace, config, run, planned, board.seen, view.tick)
        finally:
            if shipping is not None:
                view.say(shipping.finish(DRAIN_S))
    return SweepView.open(workspace, config.name)


def unfinished(view: SweepView) -> int:
    """Trials that a sweep still has to train."""
    return sum(trial.state in ("waiting", "running") for trial in view.trials)
