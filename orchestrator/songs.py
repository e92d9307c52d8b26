"""A batch of songs as it is planned and as it stands on storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.config import GenerateJob
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.errors import BadInput, Damaged
from samplernn.storage import Storage

AUDIO, SIDECAR = "song.flac", "song.json"


@dataclass(frozen=True)
class Checkpoint:
    """A chosen checkpoint."""

    sweep: str
    trial: str
    step: int
    folder: Storage
    """Its model commit."""
    bits: float
    """Validation bits."""
    seconds: float
    """Training seconds."""


@dataclass(frozen=True)
class PlannedSong:
    """One song to make. `recipe` is everything its samples depend on but the engine, which the maker adds."""

    id: str
    recipe: dict[str, Any]


def choose_checkpoint(workspace: Workspace, job: GenerateJob) -> Checkpoint:
    """The checkpoint that a job names, or the sweep's best. Raises BadInput when there is none."""
    view = SweepView.open(workspace, job.sweep)
    names = [trial.name for trial in view.trials]
    if job.trial is not None and job.trial not in names:
        raise BadInput(f"sweep {job.sweep} has no trial {job.trial!r}; it has: {', '.join(names[:20])}")
    trials = [trial for trial in view.trials if job.trial in (None, trial.name)]
    found = [at for trial in trials for at in _checkpoints(workspace, job.sweep, trial.name)]
    if job.step is not None:
        steps = sorted({at.step for at in found})
        found = [at for at in found if at.step == job.step]
        if not found:
            raise BadInput(f"there is no checkpoint at step {job.step}; there are: {steps[:20]}")
    if not found:
        raise BadInput(f"sweep {job.sweep} has no checkpoint yet; run it first: orchestrator sweep ...")
    return min(found, key=lambda at: at.bits)


def _checkpoints(workspace: Workspace, sweep: str, trial: str) -> list[Checkpoint]:
    """The committed checkpoints of a trial whose config verifies."""
    folder = workspace.trial(sweep, trial)
    found = []
    for step, attempt in list_commits(folder, "model"):
        model = folder.at("model", step_name(step, attempt))
        try:
            about = commit.read_json(model, "config.json")
        except (FileNotFoundError, Damaged):
            continue
        found.append(Checkpoint(sweep, trial, step, model, about["valid_bits"], about["seconds"]))
    return found


def plan_songs(job: GenerateJob, checkpoint: Checkpoint) -> list[PlannedSong]:
    """The songs of a batch, with deterministic ids and seeds."""
    wanted = job.generate
    model = commit.read_manifest(checkpoint.folder)["files"]["model.safetensors"]["sha256"]
    common = {
        "sweep": checkpoint.sweep,
        "trial": checkpoint.trial,
        "step": checkpoint.step,
        "model_sha256": model,
        "seed": wanted.seed,
        "temperature": wanted.temperature,
        "seconds": wanted.seconds,
    }
    return [PlannedSong(f"{index:04d}", {**common, "index": index}) for index in range(wanted.songs)]


def is_made(workspace: Workspace, batch: str, song: str) -> bool:
    """Whether a song is committed."""
    return commit.is_committed(workspace.song(batch, song))
