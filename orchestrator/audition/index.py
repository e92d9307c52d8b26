"""What there is to listen to in a sweep, kept up to date from storage: the only way from an opaque id to a file.

The browser knows ids, never paths. Reading is incremental: a commit, a metric segment and a journal entry are written
once, so only new names are opened, and a poll of a sweep at rest lists folders and reads nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from orchestrator.audition.badges import BROKEN, SORTS, flags
from orchestrator.journal import RUNNING
from orchestrator.pages.sweep_section import setting
from orchestrator.plan import PlannedTrial, plan, trials_of
from orchestrator.trials import ENDED, recorded_config
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import list_commits, read_metrics, step_name
from samplernn.errors import Damaged, StorageError
from samplernn.storage import Storage

REST = 15
"""A trial that ended, and whose folders look untouched, is read all the same in one refresh of so many."""
_FOLDERS = ("attempts", "clips", "metrics")
_CLIP = re.compile(r"clip-(\d+)\.flac\Z")


@dataclass(frozen=True, slots=True)
class Sound:
    """One audio file of a commit."""

    folder: Storage
    file: str
    sha256: str
    size: int
    """Bytes."""
    packed: bytes
    """Its measures as JSON: less than half of what they take unpacked, and tens of thousands are kept."""
    item: tuple[str | int, ...]
    """What marks call it: (trial, step, clip) or (song,)."""

    @property
    def measures(self) -> dict[str, Any]:
        """What was measured of it when it was made."""
        unpacked: dict[str, Any] = json.loads(self.packed)
        return unpacked


@dataclass(frozen=True, slots=True)
class Cell:
    """The clips of one checkpoint."""

    id: str
    step: int
    seconds: float
    """Training seconds."""
    sounds: tuple[Sound, ...]


@dataclass
class Trial:
    """One row of the wall."""

    planned: PlannedTrial
    id: str
    state: tuple[str, str] = ("waiting", "")
    cells: dict[tuple[int, int], Cell] = field(default_factory=dict)
    """By (step, attempt)."""
    evaluations: list[tuple[int, float, float]] = field(default_factory=list)
    """(step, training seconds, validation bits)."""
    seen: Any = None
    """The names that were there when it was last read; None reads it again."""
    touched: tuple[int, ...] = ()
    """When its folders had last changed by then."""
    version: int = 0
    shown: dict[str, Any] = field(default_factory=dict)
    """What the page gets."""


def opaque(*names: str | int) -> str:
    """An id that says nothing and stays the same when the server is started again."""
    return hashlib.sha256("/".join(map(str, names)).encode()).hexdigest()[:12]


class SweepIndex:
    """The sweep as the page shows it. One thread refreshes at a time; readers get what was read last."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        """Raises BadInput when there is no such sweep."""
        self.workspace, self.name = workspace, name
        self.folder = workspace.sweep(name)
        self.config = recorded_config(workspace, name)
        self.version, self.trouble, self.ready = 0, "", False
        self.trials: dict[str, Trial] = {}
        self._add(plan(self.config))
        self.cells: dict[str, Cell] = {}
        self._broken: set[str] = set()
        self._entries, self._count = 0, 0
        self._lock, self._showing = threading.Lock(), threading.Lock()

    def refresh(self) -> None:
        """Look for what is new. A sweep that vanished or can't be read keeps what is known, and `trouble` says why."""
        if not self._lock.acquire(blocking=False):
            return  # another thread is at it
        try:
            if not self.folder.exists(CONFIG):
                self._say(f"the sweep {self.name} is not in the workspace any more")
                return
            states = self._read_journal()
            for trial in self.trials.values():
                state = states.get(trial.planned.name, trial.state)
                touched = _touched(self.workspace.trial(self.name, trial.planned.name))
                as_it_was = trial.seen is not None and (state, touched) == (trial.state, trial.touched)
                if not as_it_was or state[0] not in ENDED or self._count % REST == 0:
                    trial.touched = touched
                    self._read_trial(trial, state)
            self._count += 1
            self._say("")
        except StorageError as error:
            self._say(str(error))
        finally:
            self.ready = True
            self._lock.release()

    def sound(self, clip: str) -> Sound | None:
        """The clip of an id `<cell>.<number>`."""
        cell, _, number = clip.partition(".")
        found = self.cells.get(cell)
        sounds = found.sounds if found else ()
        return next((sound for sound in sounds if str(sound.item[-1]) == number), None)

    def clip_id(self, item: tuple[str | int, ...]) -> str | None:
        """The id of a clip (trial, step, clip), or of a whole checkpoint (trial, step)."""
        cell = opaque("cell", self.name, *item[:2])
        if cell not in self.cells:
            return None
        return f"{cell}.{item[2]}" if len(item) > 2 else cell

    def break_clip(self, clip: str) -> None:
        """Remember that a clip can't be decoded, so that the page shows it as such."""
        if clip not in self._broken and (cell := self.cells.get(clip.partition(".")[0])):
            self._broken.add(clip)
            self._show(self.trials[str(cell.sounds[0].item[0])])

    def changes(self, since: int) -> Iterator[dict[str, Any]]:
        """What the page gets of every trial that changed after a version."""
        return (trial.shown for trial in list(self.trials.values()) if trial.version > since)

    def _add(self, planned: list[PlannedTrial]) -> None:
        """A new mapping, because others walk through the one that is there."""
        self.trials = self.trials | {t.name: Trial(t, opaque("trial", self.name, t.name)) for t in planned}

    def _say(self, trouble: str) -> None:
        self.trouble = trouble

    def _read_journal(self) -> dict[str, tuple[str, str]]:
        folder, states = self.folder.at("journal"), {}
        names = [name for name in folder.names() if name.endswith(".json")]
        for name in names[self._entries :]:
            try:
                entry = commit.read_record(folder, name)
            except (FileNotFoundError, Damaged):
                break  # it is being written; a gap in the middle is for the sweep itself to refuse
            self._entries += 1
            if entry["kind"] == "end":
                states[entry["trial"]] = (entry["state"], entry["reason"])
            elif entry["kind"] in RUNNING:
                states[entry["trial"]] = ("running", "")
            elif entry["kind"] == "rollback":
                states[entry["trial"]] = ("waiting", "")
            elif entry["kind"] == "suggest":
                self._add(trials_of(self.config, [entry]))
        return states

    def _read_trial(self, trial: Trial, state: tuple[str, str]) -> None:
        folder = self.workspace.trial(self.name, trial.planned.name)
        seen = tuple(folder.at(kind).names() for kind in _FOLDERS)
        if seen == trial.seen and state == trial.state:
            return
        if trial.seen is None or seen[::2] != trial.seen[::2]:
            rows = [row for row in read_metrics(folder) if row["kind"] == "eval"]
            trial.evaluations = [(row["step"], row["seconds"], row["valid_bits"]) for row in rows]
        whole, cells = True, {}
        for at in list_commits(folder, "clips"):
            cell = trial.cells.get(at) or self._read_cell(folder, trial.planned.name, *at)
            if cell is None:
                whole = False  # its manifest may come yet
            else:
                cells[at] = cell
        for at in trial.cells.keys() - cells.keys():
            self.cells.pop(trial.cells[at].id, None)
        self.cells |= {cell.id: cell for cell in cells.values()}
        trial.cells, trial.state, trial.seen = cells, state, seen if whole else None
        self._show(trial)

    def _read_cell(self, trial: Storage, name: str, step: int, attempt: int) -> Cell | None:
        folder = trial.at("clips", step_name(step, attempt))
        try:
            manifest = commit.read_manifest(folder)
            data = folder.read("measures.json")
        except (FileNotFoundError, Damaged):
            return None
        files = manifest["files"]
        if commit.sha256(data) != files["measures.json"]["sha256"]:
            return None
        measures = json.loads(data)
        numbered = sorted((int(match[1]), file) for file in files if (match := _CLIP.match(file)))
        sounds = tuple(
            Sound(
                folder,
                file,
                files[file]["sha256"],
                files[file]["bytes"],
                commit.to_json(measures[number] if number < len(measures) else {}),
                (name, step, number),
            )
            for number, file in numbered
        )
        return Cell(opaque("cell", self.name, name, step), step, manifest["about"]["seconds"], sounds)

    def _show(self, trial: Trial) -> None:
        """Prepare what the page gets, and raise the version if that is something new."""
        bits = {step: value for step, _, value in trial.evaluations}
        cells = [
            [
                cell.id,
                cell.step,
                round(cell.seconds, 1),
                bits.get(cell.step),
                [
                    [sound.item[-1], flags(sound.measures) | self._flag_broken(cell.id, sound)]
                    for sound in cell.sounds
                ],
            ]
            for cell in {cell.step: cell for cell in trial.cells.values() if cell.sounds}.values()
        ]
        shown = {
            "id": trial.id,
            "name": trial.planned.name,
            "values": [setting(trial.planned.experiment, key) for key in self.config.space],
            "state": trial.state[0],
            "reason": trial.state[1],
            "evaluations": [[step, round(value, 4)] for step, _, value in trial.evaluations],
            "sorts": _means(trial),
            "cells": cells,
        }
        if shown == trial.shown:
            return
        trial.shown = shown
        with self._showing:  # a reader that sees the new version must find the trial with it
            trial.version = self.version + 1
            self.version += 1

    def _flag_broken(self, cell: str, sound: Sound) -> int:
        return BROKEN if f"{cell}.{sound.item[-1]}" in self._broken else 0


def _touched(trial: Storage) -> tuple[int, ...]:
    """When something was last put into or taken out of the trial's folders; always the same on an object store."""
    root = trial.local
    if root is None:
        return ()
    times = []
    for kind in _FOLDERS:
        try:
            times.append((root / kind).stat().st_mtime_ns)
        except FileNotFoundError:
            times.append(0)
    return tuple(times)


def _means(trial: Trial) -> dict[str, float]:
    """The measures to sort by, of the trial's clips on average."""
    measures = [sound.measures for cell in trial.cells.values() for sound in cell.sounds]
    means = {}
    for name in SORTS:
        values = [one[name] for one in measures if name in one]
        if values:
            means[name] = fmean(values)
    return means
