"""A sweep as it stands on storage: planned trials, their metrics, checkpoints' clips and how they ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.journal import RUNNING, read_journal
from orchestrator.plan import PlannedTrial, trials_of
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import list_commits, read_metrics, step_name
from samplernn.config import Experiment
from samplernn.errors import BadInput, Damaged
from samplernn.storage import Storage


@dataclass(frozen=True)
class ClipSet:
    """The clips of one checkpoint: files clip-0.flac ... of a commit."""

    step: int
    seconds: float
    """Training seconds when they were made."""
    folder: Storage
    measures: list[dict[str, float]]
    """samplernn.measures.measure of each clip."""


@dataclass(frozen=True)
class TrialView:
    """One trial."""

    name: str
    experiment: Experiment
    state: str
    """waiting, running, done, stopped or failed."""
    reason: str
    rows: list[dict[str, Any]]
    """Metric rows by step; `kind` is train or eval."""
    clips: list[ClipSet]

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, bits) of the evaluation with the fewest validation bits."""
        rows = [row for row in self.rows if row["kind"] == "eval"]
        return min(((row["step"], row["valid_bits"]) for row in rows), key=lambda at: at[1], default=None)


@dataclass(frozen=True)
class SweepView:
    """A sweep read from storage alone, from any machine."""

    config: SweepConfig
    trials: list[TrialView]

    @classmethod
    def open(cls, workspace: Workspace, name: str) -> SweepView:
        """Read a sweep. Raises BadInput when there is none of that name."""
        folder = workspace.sweep(name)
        try:
            config = SweepConfig.model_validate(commit.read_record(folder, CONFIG))
        except FileNotFoundError as error:
            known = ", ".join(workspace.names("sweeps")) or "none yet"
            raise BadInput(
                f"there is no sweep {name!r} in {workspace.storage}; there are: {known}"
            ) from error
        journal = read_journal(folder)
        states: dict[str, tuple[str, str]] = {}
        for entry in journal:
            if entry["kind"] == "end":
                states[entry["trial"]] = (entry["state"], entry["reason"])
            elif entry["kind"] in RUNNING:
                states[entry["trial"]] = ("running", "")
            elif entry["kind"] == "rollback":
                states[entry["trial"]] = ("waiting", "")
        trials = trials_of(config, journal)
        return cls(config, [_read_trial(workspace, name, trial, states) for trial in trials])

    def best(self) -> TrialView | None:
        """The trial with the fewest validation bits."""
        rated = [trial for trial in self.trials if trial.best is not None]
        return min(rated, key=lambda trial: trial.best[1] if trial.best else 0.0, default=None)


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
    return TrialView(trial.name, trial.experiment, state, reason, read_metrics(folder), clips)


def trial_named(names: list[str], asked: str, sweep: str) -> str:
    """The trial of that name or number. Raises BadInput when there is none."""
    found = [name for name in names if name == asked or name.partition("-")[0] == asked]
    if len(found) != 1:
        raise BadInput(f"sweep {sweep} has no trial {asked!r}; it has: {', '.join(names[:20])}")
    return found[0]
