"""A batch of songs as it is planned and as it stands on storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.config import GenerateJob
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.audio import decode_flac, encode_flac
from samplernn.config import Prompt
from samplernn.errors import BadInput, Damaged
from samplernn.generate.prompt import read_prompt
from samplernn.storage import Storage

AUDIO, SIDECAR = "song.flac", "song.json"
PROMPT, PROMPT_AUDIO = "prompt", "prompt.flac"
Pcm = npt.NDArray[np.int16]


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


def plan_songs(job: GenerateJob, checkpoint: Checkpoint, prompt: Pcm | None = None) -> list[PlannedSong]:
    """The songs of a batch, with deterministic ids and seeds."""
    wanted = job.generate.model_dump(mode="json", exclude={"songs"})
    model = commit.read_manifest(checkpoint.folder)["files"]["model.safetensors"]["sha256"]
    if prompt is not None:
        wanted["prompt"]["sha256"] = commit.sha256(prompt.tobytes())
    common = {
        "sweep": checkpoint.sweep,
        "trial": checkpoint.trial,
        "step": checkpoint.step,
        "model_sha256": model,
        **wanted,
    }
    return [PlannedSong(f"{index:04d}", {**common, "index": index}) for index in range(job.generate.songs)]


def take_prompt(folder: Storage, wanted: Prompt, checkpoint: Checkpoint) -> Pcm:
    """The PCM of a batch's prompt: as it is kept there, or read from its file.

    Raises BadInput when the file can't be used or is shorter than a frame of the model.
    """
    try:
        return kept_prompt(folder)
    except FileNotFoundError:
        about = commit.read_json(checkpoint.folder, "config.json")
    pcm = read_prompt(wanted.path, about["sample_rate"], wanted.offset, wanted.length)
    frame = about["experiment"]["model"]["frame_sizes"][-1]
    if len(pcm) < frame:
        raise BadInput(
            f"prompt.length {wanted.length:g} s is {len(pcm)} samples, less than the model's frame of {frame}; "
            "take more of it"
        )
    return pcm


def keep_prompt(folder: Storage, pcm: Pcm, sample_rate: int) -> None:
    """Keep a prompt with its batch, so that its songs don't need the file that it is from."""
    if not commit.is_committed(folder.at(PROMPT)):
        commit.write_commit(
            folder.at(PROMPT), {PROMPT_AUDIO: encode_flac(pcm, sample_rate, {"title": "prompt"})}
        )


def kept_prompt(folder: Storage) -> Pcm:
    """The PCM of a batch's prompt. Raises FileNotFoundError when it keeps none."""
    return decode_flac(commit.read_file(folder.at(PROMPT), PROMPT_AUDIO))[0]


def is_made(workspace: Workspace, batch: str, song: str) -> bool:
    """Whether a song is committed."""
    return commit.is_committed(workspace.song(batch, song))
