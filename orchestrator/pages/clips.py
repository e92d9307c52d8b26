"""Clips by training time: a row a trial, a column a checkpoint, every clip with its picture and measures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.pages.folder import MadeFolder
from orchestrator.pages.spectrogram import spectrogram_png
from orchestrator.trials import ClipSet, TrialView
from samplernn import commit
from samplernn.audio import decode_flac
from samplernn.errors import Damaged
from samplernn.spectrogram import VERSION

_CLIP = re.compile(r"clip-(\d+)\.flac\Z")
PICTURE_HEIGHT = 48


@dataclass(frozen=True)
class Clip:
    """One clip on a page; paths are relative to the page."""

    number: int
    audio: str
    picture: str
    seconds: float
    measures: dict[str, float]


@dataclass(frozen=True)
class Cell:
    """The clips of one checkpoint."""

    step: int
    seconds: float
    """Training seconds."""
    bits: float | None
    """Validation bits at this checkpoint."""
    clips: list[Clip]


@dataclass(frozen=True)
class ClipRow:
    """The checkpoints of one trial, one cell a column; None where it has none."""

    trial: str
    label: str
    cells: list[Cell | None]


@dataclass(frozen=True)
class ClipTable:
    """All clips of some trials."""

    steps: list[int]
    rows: list[ClipRow]


def clip_table(made: MadeFolder, trials: list[TrialView], labels: dict[str, str]) -> ClipTable:
    """Put the clips and their pictures into the page's folder; what does not verify is left out."""
    cells = {trial.name: {c.step: c for c in _cells(made, trial)} for trial in trials}
    steps = sorted({step for row in cells.values() for step in row})
    rows = [
        ClipRow(name, labels[name], [row.get(step) for step in steps]) for name, row in cells.items() if row
    ]
    return ClipTable(steps, rows)


def _cells(made: MadeFolder, trial: TrialView) -> list[Cell]:
    bits = {row["step"]: row["valid_bits"] for row in trial.rows if row["kind"] == "eval"}
    cells = []
    for clip_set in trial.clips:
        if clips := _clips(made, trial, clip_set):
            cells.append(Cell(clip_set.step, clip_set.seconds, bits.get(clip_set.step), clips))
    return cells


def _clips(made: MadeFolder, trial: TrialView, clip_set: ClipSet) -> list[Clip]:
    try:
        files = commit.read_manifest(clip_set.folder)["files"]
    except (FileNotFoundError, Damaged):
        return []  # pruned or torn since it was listed
    numbered = sorted((int(match[1]), name) for name in files if (match := _CLIP.match(name)))
    clips = []
    for number, name in numbered:
        path = f"clips/{trial.name}-step{clip_set.step}-{number}"
        try:
            _put(made, path, clip_set, name, files[name]["sha256"])
        except Damaged:
            continue
        measures = clip_set.measures[number] if number < len(clip_set.measures) else {}
        seconds = trial.experiment.train.clip_seconds
        clips.append(Clip(number, f"{path}.flac", f"{path}.png", seconds, measures))
    return clips


def _put(made: MadeFolder, path: str, clip_set: ClipSet, name: str, key: str) -> None:
    made.put(f"{path}.flac", key, lambda: commit.read_file(clip_set.folder, name))

    def picture() -> bytes:
        pcm, rate = decode_flac(commit.read_file(clip_set.folder, name))
        return spectrogram_png(pcm, rate, PICTURE_HEIGHT)

    made.put(f"{path}.png", f"{key} picture {VERSION}", picture)
