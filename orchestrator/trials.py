"""A sweep as it stands on storage: planned trials, their metrics, checkpoints' clips and how they ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from orchestrator.config import SweepConfig
from orchestrator.journal import RUNNING, Entry, read_journal
from orchestrator.lease import is_held
from orchestrator.plan import PlannedTrial, trials_of
from orchestrator.problems import explain
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import attempts, list_commits, read_metrics, step_name
from samplernn.config import Experiment
from samplernn.errors import BadInput, Damaged
from samplernn.storage import Storage

ENDED = ("done", "stopped", "failed")
"""States of a trial that nothing is added to, unless the sweep is run again."""


@dataclass(frozen=True)
class ClipSet:
    """The clips of one checkpoint: files clip-0.flac ... of a commit."""

    step: int
    seconds: float
    """Training seconds when they were made."""
    folder: Storage
    measures: list[dict[str, Any]]
    """samplernn.clips' measures of each clip."""


@dataclass(frozen=True)
class TrialView:
    """One trial."""

    name: str
    experiment: Experiment
    state: str
    """waiting, running, interrupted (it was running when its driver ended), done, stopped or failed."""
    reason: str
    rows: list[dict[str, Any]]
    """Metric rows by step; `kind` is train or eval."""
    clips: list[ClipSet]
    attempt: dict[str, Any] = field(default_factory=dict)
    """The record of its last attempt: where it ran, on what."""

    @property
    def place(self) -> tuple[str, str]:
        """(GPUs, node) of its last attempt; empty where it has none, and cpu where it took no GPU."""
        if "host" not in self.attempt:
            return "", ""
        return "+".join(self.attempt["gpus"]) or "cpu", str(self.attempt["host"])

    @property
    def seconds_left(self) -> float | None:
        """Seconds of training to its last step at its last speed, without checkpoints; None where it isn't at work."""
        speeds = [row["samples_per_s"] for row in self.rows if row.get("samples_per_s")]
        if self.state != "running" or not speeds:
            return None
        train = self.experiment.train
        samples = train.batch_size * self.experiment.seq_len
        return float((train.max_steps - self.rows[-1]["step"]) * samples / speeds[-1])

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, bits) of the evaluation with the fewest validation bits."""
        rows = [row for row in self.rows if row["kind"] == "eval"]
        return min(((row["step"], row["valid_bits"]) for row in rows), key=lambda at: at[1], default=None)


def recorded_config(workspace: Workspace, name: str) -> SweepConfig:
    """The config that a sweep was begun with. Raises BadInput when there is no such sweep, or another version's."""
    try:
        return SweepConfig.model_validate(commit.read_record(workspace.sweep(name), CONFIG))
    except FileNotFoundError as error:
        known = ", ".join(workspace.names("sweeps")) or "none yet"
        raise BadInput(f"there is no sweep {name!r} in {workspace.storage}; there are: {known}") from error
    except ValidationError as error:
        raise BadInput(
            f"the sweep {name} was begun with another version of this project ({explain(SweepConfig, error)[0]}); use "
            "that version, or another name"
        ) from error


@dataclass(frozen=True)
class SweepView:
    """A sweep read from storage alone, from any machine."""

    config: SweepConfig
    trials: list[TrialView]

    @classmethod
    def open(cls, workspace: Workspace, name: str, before: SweepView | None = None) -> SweepView:
        """Read a sweep. Raises BadInput when there is none of that name.

        What ended before is not read again: `before` is the same sweep as it was.
        """
        folder = workspace.sweep(name)
        config, journal = recorded_config(workspace, name), read_journal(folder)
        states = states_of(journal, is_held(folder))
        trials = trials_of(config, journal)
        ended = {trial.name: trial for trial in before.trials if trial.state in ENDED} if before else {}
        return cls(
            config,
            [
                ended[trial.name]
                if trial.name in ended and ended[trial.name].state == states[trial.name][0]
                else _read_trial(workspace, name, trial, states)
                for trial in trials
            ],
        )

    def best(self) -> TrialView | None:
        """The trial with the fewest validation bits."""
        rated = [trial for trial in self.trials if trial.best is not None]
        return min(rated, key=lambda trial: trial.best[1] if trial.best else 0.0, default=None)


def states_of(journal: Iterable[Entry], held: bool) -> dict[str, tuple[str, str]]:
    """(state, reason) of every trial that was begun; `held` is whether a driver is at work."""
    states: dict[str, tuple[str, str]] = {}
    for entry in journal:
        if entry["kind"] == "end":
            states[entry["trial"]] = (entry["state"], entry["reason"])
        elif entry["kind"] in RUNNING:
            states[entry["trial"]] = ("running" if held else "interrupted", "")
        elif entry["kind"] == "rollback":
            states[entry["trial"]] = ("waiting", "")
    return states


def _read_trial(
    workspace: Workspace, sweep: str, trial: PlannedTrial, states: dict[str, tuple[str, str]]
) -> TrialView:
    folder = workspace.trial(sweep, trial.name)
    state, reason = states.get(trial.name, ("waiting", ""))
    clips = []
    for step, attempt in list_commits(folder, "clips"):
        clip_folder = folder.at("clips", step_name(step, attempt))
        try:
            about = commit.read_manifest(clip_folder)["about"]
            measures = commit.read_json(clip_folder, "measures.json")
        except (FileNotFoundError, Damaged):
            continue  # an uncommitted or damaged commit does not exist
        clips.append(ClipSet(step, about["seconds"], clip_folder, measures))
    last = max(attempts(folder).items(), default=(0, {}))[1]
    return TrialView(trial.name, trial.experiment, state, reason, read_metrics(folder), clips, last)


def trial_named(names: list[str], asked: str, sweep: str) -> str:
    """The trial of that name or number. Raises BadInput when there is none."""
    found = [name for name in names if name == asked or name.partition("-")[0] == asked]
    if len(found) != 1:
        raise BadInput(f"sweep {sweep} has no trial {asked!r}; it has: {', '.join(names[:20])}")
    return found[0]
