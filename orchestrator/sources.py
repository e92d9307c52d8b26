"""What a batch of songs is made from: chosen checkpoints and recordings, kept with the batch when it begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.config import GenerateJob, SongSection
from orchestrator.picks import Marks
from orchestrator.trials import SweepView, trial_named
from orchestrator.workspace import RECORDING, RECORDINGS, SOURCES, Workspace
from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.audio import decode_flac, encode_flac
from samplernn.checkpoint import WEIGHTS, read_about
from samplernn.errors import BadInput, Damaged
from samplernn.generate.piece import read_piece
from samplernn.storage import Storage

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
    left_out: tuple[str, ...] = ()
    """What was found damaged while it was chosen."""

    @property
    def key(self) -> str:
        """What tells it from others: where it is."""
        return self.folder.root


@dataclass(frozen=True)
class Source:
    """One checkpoint of a section of a batch, and what its songs are made from."""

    number: int
    """From 1, over all sections."""
    section: SongSection
    checkpoint: Checkpoint
    pieces: dict[str, Pcm]
    """At the checkpoint's sample rate: of `prompt` and `follow`, those that the section has."""
    place: int = 0
    """The section's place in its batch."""

    @property
    def kept(self) -> dict[str, str]:
        """SHA-256 of each piece, under which the batch keeps it."""
        return {what: commit.sha256(pcm.tobytes()) for what, pcm in self.pieces.items()}


def choose_sources(workspace: Workspace, job: GenerateJob) -> list[Source]:
    """What the songs of each section are made from: as it was when the batch was begun, else as the section says.

    Raises BadInput when a checkpoint does not exist or a recording can't be used.
    """
    folder = workspace.batch(job.name)
    try:
        begun = commit.read_record(folder, SOURCES)["sources"]
    except FileNotFoundError:
        begun = []
    sources: list[Source] = []
    for place, section in enumerate(job.parts):
        before = [one for one in begun if one["section"] == place and one["sweep"] == section.sweep]
        names = [trial.name for trial in SweepView.open(workspace, section.sweep).trials]
        for one in before or _wanted(workspace, section):
            checkpoint = _choose(workspace, section.sweep, names, one["trial"], one["step"])
            pieces = _pieces(folder, section, checkpoint, one.get("recordings", {}))
            sources.append(Source(len(sources) + 1, section, checkpoint, pieces, place))
    return sources


def _wanted(workspace: Workspace, section: SongSection) -> list[dict[str, Any]]:
    """{trial, step} of every checkpoint that a section asks for; None leaves it to the validation bits."""
    if section.picks is None:
        return [{"trial": section.trial, "step": section.step}]
    marks = Marks(workspace, "sweeps", section.sweep)
    marks.refresh()
    listener = None if section.picks is True else section.picks
    picks = marks.picked(listener)
    if not picks:
        raise BadInput(
            f"nothing is picked in {section.sweep} yet; listen and pick: orchestrator audition {section.sweep}"
            if listener is None
            else f"{listener} picked nothing in {section.sweep}; picks=true takes what anybody picked"
        )
    return [{"trial": trial, "step": step} for trial, step in sorted(picks)]


def pin_sources(folder: Storage, sources: list[Source]) -> None:
    """Keep with a batch what its songs are made from.

    A sweep that goes on may have a better checkpoint tomorrow, and a recording's file may be gone.
    """
    for source in sources:
        for what, sha256 in source.kept.items():
            _keep(folder, sha256, source.pieces[what], sample_rate(source.checkpoint))
    chosen = [
        {
            "section": one.place,
            "sweep": one.checkpoint.sweep,
            "trial": one.checkpoint.trial,
            "step": one.checkpoint.step,
            "recordings": one.kept,
        }
        for one in sources
    ]
    folder.create(SOURCES, commit.record_bytes({"sources": chosen}))


def _choose(
    workspace: Workspace, sweep: str, names: list[str], trial: str | None, step: int | None
) -> Checkpoint:
    """The checkpoint with the fewest validation bits among those that are asked for and verify. Raises BadInput."""
    if trial is not None:
        trial = trial_named(names, trial, sweep)
    found, left_out = list[Checkpoint](), list[str]()
    for name in [name for name in names if trial in (None, name)]:
        _look(workspace, sweep, name, step, found, left_out)
    for one in sorted(found, key=lambda one: one.bits):
        try:
            commit.verify_file(one.folder, WEIGHTS)
        except Damaged as error:
            left_out.append(str(error))
            continue
        return replace(one, left_out=tuple(left_out))
    wanted = f"sweep {sweep}" if trial is None else f"trial {trial}"
    at = "" if step is None else f" at step {step}"
    if left_out:
        raise BadInput(
            f"no checkpoint of {wanted}{at} can be used; restore one from a copy or take another:\n"
            + "\n".join(left_out)
        )
    if step is not None:
        steps = sorted(
            {at for name in names for at, _ in list_commits(workspace.trial(sweep, name), "model")}
        )
        raise BadInput(f"there is no checkpoint at step {step} of {wanted}; there are: {steps[:20]}")
    raise BadInput(f"{wanted} has no checkpoint yet; run it first: orchestrator sweep ...")


def _look(
    workspace: Workspace,
    sweep: str,
    trial: str,
    step: int | None,
    found: list[Checkpoint],
    left_out: list[str],
) -> None:
    """Add a trial's committed checkpoints to `found`; why one is none is added to `left_out`."""
    folder = workspace.trial(sweep, trial)
    for at, attempt in list_commits(folder, "model"):
        model = folder.at("model", step_name(at, attempt))
        if step not in (None, at):
            continue
        try:
            about = read_about(model)
        except FileNotFoundError:
            continue  # half-written: it does not exist
        except Damaged as error:
            left_out.append(str(error))
            continue
        found.append(Checkpoint(sweep, trial, at, model, about.valid_bits, about.seconds))


def sample_rate(checkpoint: Checkpoint) -> int:
    """Hz."""
    return int(commit.read_json(checkpoint.folder, "config.json")["sample_rate"])


def kept_piece(folder: Storage, sha256: str) -> Pcm:
    """The PCM of a recording that a batch keeps. Raises FileNotFoundError when it keeps none of that hash."""
    return decode_flac(commit.read_file(folder.at(RECORDINGS, sha256[:16]), RECORDING))[0]


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
    kept = folder.at(RECORDINGS, sha256[:16])
    if not commit.is_committed(kept):
        commit.write_commit(kept, {RECORDING: encode_flac(pcm, rate, {"title": "recording"})})
