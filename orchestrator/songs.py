"""A batch of songs as it is planned and as it stands on storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.config import GenerateJob, SongSection
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.audio import decode_flac, encode_flac
from samplernn.errors import BadInput, Damaged
from samplernn.generate.prompt import read_prompt
from samplernn.storage import Storage

AUDIO, SIDECAR = "song.flac", "song.json"
SOURCES = "sources.json"
PROMPTS, PROMPT_AUDIO = "prompts", "prompt.flac"
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

    @property
    def key(self) -> str:
        """What tells it from others: where it is."""
        return self.folder.root


@dataclass(frozen=True)
class Source:
    """A section of a batch and what its songs are made from."""

    number: int
    """From 1."""
    section: SongSection
    checkpoint: Checkpoint
    prompt: Pcm | None
    """At the checkpoint's sample rate."""

    @property
    def prompt_sha256(self) -> str | None:
        """Under which the batch keeps the prompt."""
        return None if self.prompt is None else commit.sha256(self.prompt.tobytes())


@dataclass(frozen=True)
class PlannedSong:
    """One song to make. `recipe` is everything its samples depend on but the engine, which the maker adds."""

    id: str
    checkpoint: Checkpoint
    recipe: dict[str, Any]


def choose_sources(workspace: Workspace, job: GenerateJob) -> list[Source]:
    """What the songs of each section are made from: as it was when the batch was begun, else as the section says.

    Raises BadInput when a checkpoint does not exist or a prompt can't be used.
    """
    folder = workspace.batch(job.name)
    try:
        begun = commit.read_record(folder, SOURCES)["sources"]
    except FileNotFoundError:
        begun = []
    sources = []
    for at, section in enumerate(job.parts):
        before = begun[at] if at < len(begun) and begun[at]["sweep"] == section.sweep else {}
        pinned = section.model_copy(
            update={"trial": section.trial or before.get("trial"), "step": section.step or before.get("step")}
        )
        checkpoint = choose_checkpoint(workspace, pinned)
        sources.append(Source(at + 1, section, checkpoint, _prompt(folder, section, checkpoint, before)))
    return sources


def pin_sources(folder: Storage, sources: list[Source]) -> None:
    """Keep with a batch what its songs are made from.

    A sweep that goes on may have a better checkpoint tomorrow, and a prompt's file may be gone.
    """
    for source in sources:
        if source.prompt is not None and source.prompt_sha256 is not None:
            _keep_prompt(folder, source.prompt_sha256, source.prompt, sample_rate(source.checkpoint))
    chosen = [
        {"sweep": one.checkpoint.sweep, "trial": one.checkpoint.trial, "step": one.checkpoint.step,
         "prompt_sha256": one.prompt_sha256}
        for one in sources
    ]  # fmt: skip
    folder.create(SOURCES, commit.record_bytes({"sources": chosen}))


def choose_checkpoint(workspace: Workspace, job: SongSection) -> Checkpoint:
    """The checkpoint that a section names, or the sweep's best. Raises BadInput when there is none."""
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


def plan_songs(sources: list[Source]) -> list[PlannedSong]:
    """The songs of a batch, with deterministic ids and seeds, section by section.

    An id is the song's number, after those of its section and of its temperature where there are several.
    """
    songs = []
    for source in sources:
        section, checkpoint = source.section, source.checkpoint
        wanted = section.generate.model_dump(mode="json", exclude={"songs", "first", "temperature"})
        if source.prompt is not None:
            wanted["prompt"]["sha256"] = source.prompt_sha256
        common = {
            "sweep": checkpoint.sweep,
            "trial": checkpoint.trial,
            "step": checkpoint.step,
            "model_sha256": commit.read_manifest(checkpoint.folder)["files"]["model.safetensors"]["sha256"],
            **wanted,
        }
        temperatures = section.temperatures or [section.generate.temperature]
        for at, temperature in enumerate(temperatures, start=1):
            prefix = f"s{source.number:02d}-" if len(sources) > 1 else ""
            prefix += f"t{at:02d}-" if len(temperatures) > 1 else ""
            songs += [
                PlannedSong(
                    f"{prefix}{index:04d}", checkpoint, {**common, "temperature": temperature, "index": index}
                )
                for index in range(section.generate.first, section.generate.first + section.generate.songs)
            ]
    return songs


def sample_rate(checkpoint: Checkpoint) -> int:
    """Hz."""
    return int(commit.read_json(checkpoint.folder, "config.json")["sample_rate"])


def kept_prompt(folder: Storage, sha256: str) -> Pcm:
    """The PCM of a prompt that a batch keeps. Raises FileNotFoundError when it keeps none of that hash."""
    return decode_flac(commit.read_file(folder.at(PROMPTS, sha256[:16]), PROMPT_AUDIO))[0]


def is_made(workspace: Workspace, batch: str, song: str) -> bool:
    """Whether a song is committed."""
    return commit.is_committed(workspace.song(batch, song))


def _prompt(
    folder: Storage, section: SongSection, checkpoint: Checkpoint, before: dict[str, Any]
) -> Pcm | None:
    """The PCM of a section's prompt: as the batch keeps it, or read from its file."""
    wanted = section.generate.prompt
    if wanted is None:
        return None
    if before.get("prompt_sha256"):
        return kept_prompt(folder, before["prompt_sha256"])
    about = commit.read_json(checkpoint.folder, "config.json")
    pcm = read_prompt(wanted.path, about["sample_rate"], wanted.offset, wanted.length)
    frame = about["experiment"]["model"]["frame_sizes"][-1]
    if len(pcm) < frame:
        raise BadInput(
            f"prompt.length {wanted.length:g} s is {len(pcm)} samples, less than the model's frame of {frame}; "
            "take more of it"
        )
    return pcm


def _keep_prompt(folder: Storage, sha256: str, pcm: Pcm, rate: int) -> None:
    kept = folder.at(PROMPTS, sha256[:16])
    if not commit.is_committed(kept):
        commit.write_commit(kept, {PROMPT_AUDIO: encode_flac(pcm, rate, {"title": "prompt"})})
