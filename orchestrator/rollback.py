"""`rollback`: a trial goes on from an earlier checkpoint, the papers' 'delete the newer ones' without deleting.

The journal says so first; then an attempt is begun at that step, which makes everything after it void.
"""

from __future__ import annotations

import torch

from orchestrator.config import RollbackConfig
from orchestrator.journal import Entry, Journal
from orchestrator.lease import hold
from orchestrator.trials import SweepView, trial_named
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.attempts import attempts, begin_attempt, list_commits, read_metrics, step_name
from samplernn.checkpoint import load_model, write_state
from samplernn.errors import BadInput
from samplernn.storage import Storage
from samplernn.train import fresh


def rollback(workspace: Workspace, sweep: str, config: RollbackConfig) -> str:
    """Roll a trial back to a checkpoint; returns what to tell.

    Raises BadInput when there is no such trial or checkpoint, or a driver is at work; Damaged when the checkpoint does
    not verify.
    """
    names = [trial.name for trial in SweepView.open(workspace, sweep).trials]
    trial = trial_named(names, config.trial, sweep)
    folder = workspace.trial(sweep, trial)
    with hold(workspace.sweep(sweep)):
        journal = Journal(workspace.sweep(sweep))
        carry_out(workspace, sweep, journal)
        models = list_commits(folder, "model")
        found = [attempt for step, attempt in models if step == config.step]
        if not found:
            steps = [step for step, _ in models]
            raise BadInput(f"{trial} has no checkpoint at step {config.step}; there are: {steps[-20:]}")
        load_model(folder.at("model", step_name(config.step, found[-1])))
        journal.add("rollback", trial, step=config.step, attempt=found[-1])
        carry_out(workspace, sweep, journal)
    later = sum(step > config.step for step, _ in models)
    return (
        f"{trial} goes on from step {config.step:,}; the {later} checkpoints after it no longer count (orchestrator "
        f"prune {sweep} removes them). The sweep's own command trains it from there"
    )


def carry_out(workspace: Workspace, sweep: str, journal: Journal) -> None:
    """Do what the journal says was rolled back, where that was cut short."""
    last = {entry["trial"]: entry for entry in journal.entries if entry["kind"] == "rollback"}
    for trial, entry in last.items():
        folder = workspace.trial(sweep, trial)
        if all(body.get("rollback") != entry["seq"] for body in attempts(folder).values()):
            _carry_out(folder, entry)


def _carry_out(folder: Storage, entry: Entry) -> None:
    step, attempt = entry["step"], entry["attempt"]
    if not commit.is_committed(folder.at("state", step_name(step, attempt))):
        _renew_state(folder, step, attempt)
    begin_attempt(folder, step, rollback=entry["seq"])


def _renew_state(folder: Storage, step: int, attempt: int) -> None:
    """The optimiser's state is kept of the newest checkpoints only: an older one goes on with a fresh optimiser."""
    model, about = load_model(folder.at("model", step_name(step, attempt)))
    training = fresh(about.experiment, torch.device("cpu"))
    training.model.load_state_dict(model.state_dict())
    training.step, training.seconds = step, about.seconds
    rated = [
        row["valid_bits"] for row in read_metrics(folder) if row["kind"] == "eval" and row["step"] <= step
    ]
    training.best_bits = min(rated, default=about.valid_bits)
    write_state(folder, attempt, training)
