"""A batch of songs as it is planned and as it stands on storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.config import GenerateJob, SongSection
from orchestrator.trials import SweepView
from orchestrator.workspace import SOURCES, Workspace
from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.audio import decode_flac, encode_flac
from samplernn.errors import BadInput, Damaged
from samplernn.generate.piece import read_piece
from samplernn.storage import Storage

AUDIO, SIDECAR = "song.flac", "song.json"
PIECES, PIECE_AUDIO = "recordings", "piece.flac"
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
    pieces: dict[str, Pcm]
    """At the checkpoint's sample rate: of `prompt` and `follow`, those that the section has."""

    @property
    def kept(self) -> dict[str, str]:
        """SHA-256 of each piece, under which the batch keeps it."""
        return {what: commit.sha256(pcm.tobytes()) for what, pcm in self.pieces.items()}


@dataclass(frozen=True)
class PlannedSong:
    """One song to make. `recipe` is everything its samples depend on but the engine, which the maker adds."""

    id: str
    checkpoint: Checkpoint
    recipe: dict[str, Any]


def choose_sources(workspace: Workspace, job: GenerateJob) -> list[Source]:
    """What the songs of each section are made from: as it was when the batch was begun, else as the section says.

    Raises BadInput when a checkpoint does not exist or a recording can't be used.
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
        kept = before.get("recordings", {})
        sources.append(Source(at + 1, section, checkpoint, _pieces(folder, section, checkpoint, kept)))
    return sources


def pin_sources(folder: Storage, sources: list[Source]) -> None:
    """Keep with a batch what its songs are made from.

    A sweep that goes on may have a better checkpoint tomorrow, and a recording's file may be gone.
    """
    for source in sources:
        for what, sha256 in source.kept.items():
            _keep(folder, sha256, source.pieces[what], sample_rate(source.checkpoint))
    chosen = [
        {"sweep": one.checkpoint.sweep, "trial": one.checkpoint.trial, "step": one.checkpoint.step,
         "recordings": one.kept}
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
        for what, sha256 in source.kept.items():
            wanted[what]["sha256"] = sha256
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


def kept_piece(folder: Storage, sha256: str) -> Pcm:
    """The PCM of a recording that a batch keeps. Raises FileNotFoundError when it keeps none of that hash."""
    return decode_flac(commit.read_file(folder.at(PIECES, sha256[:16]), PIECE_AUDIO))[0]


def is_made(workspace: Workspace, batch: str, song: str) -> bool:
    """Whether a song is committed."""
    return commit.is_committed(workspace.song(batch, song))


def _pieces(
    folder: Storage, section: SongSection, checkpoint: Checkpoint, kept: dict[str, str]
) -> dict[str, Pcm]:
    """The recordings of a section: as the batch keeps them, or read from their files."""
    about, wanted = commit.read_json(checkpoint.folder, "config.json"), section.generate
    rate, model = about["sample_rate"], about["experiment"]["model"]
    if bool(model["features"]) != (wanted.follow is not None):
        remedy = "name a recording with follow.path=FILE" if wanted.follow is None else "leave follow out"
        features = ", ".join(model["features"]) or "nothing"
        raise BadInput(f"{checkpoint.trial} is conditioned on {features}; {remedy}")
    pieces = {what: kept_piece(folder, sha256) for what, sha256 in kept.items()}
    if wanted.prompt is not None and "prompt" not in pieces:
        one = wanted.prompt
        pieces["prompt"] = read_piece("prompt", one.path, rate, one.offset, one.length)
        frame = model["frame_sizes"][-1]
        if len(pieces["prompt"]) < frame:
            raise BadInput(
                f"prompt.length {one.length:g} s is {len(pieces['prompt'])} samples, less than the model's frame of "
                f"{frame}; take more of it"
            )
    if wanted.follow is not None and "follow" not in pieces:
        unheard = 0.0 if wanted.prompt is None or wanted.prompt.heard else wanted.prompt.length
        pieces["follow"] = read_piece(
            "recording", wanted.follow.path, rate, wanted.follow.offset, wanted.seconds + unheard
        )
    return pieces


def _keep(folder: Storage, sha256: str, pcm: Pcm, rate: int) -> None:
    kept = folder.at(PIECES, sha256[:16])
    if not commit.is_committed(kept):
        commit.write_commit(kept, {PIECE_AUDIO: encode_flac(pcm, rate, {"title": "recording"})})
