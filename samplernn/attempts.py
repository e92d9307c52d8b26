"""Which attempt's work counts: the lineage of a trial, readable from storage alone.

Every start of a trial is an attempt with a number of its own, and notes the step that it goes on from. What an
earlier attempt wrote beyond that step is void, so a worker that was thought dead and writes late can't win.
A trial's folder holds attempts/<n>.json, metrics/<attempt>.<seq>.json and the commits model/, state/ and
clips/step-<n>.<attempt>/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from samplernn import commit
from samplernn.errors import Damaged
from samplernn.storage import Storage

_STEP = re.compile(r"step-(\d+)\.(\d+)\Z")
_SEGMENT = re.compile(r"(\d+)\.(\d+)\.json\Z")
_ATTEMPT = re.compile(r"(\d+)\.json\Z")


@dataclass(frozen=True)
class Lineage:
    """The step at which each attempt of a trial started."""

    starts: dict[int, int]

    def keeps(self, step: int, attempt: int) -> bool:
        """Whether work of `attempt` at `step` counts: no later attempt started below it."""
        return attempt in self.starts and all(
            step <= start for later, start in self.starts.items() if later > attempt
        )


def read_lineage(trial: Storage) -> Lineage:
    """All attempts of a trial so far."""
    return Lineage({attempt: int(body["start_step"]) for attempt, body in attempts(trial).items()})


def attempts(trial: Storage) -> dict[int, dict[str, Any]]:
    """The record of every attempt of a trial so far."""
    folder = trial.at("attempts")
    found = {}
    for name in folder.names():
        if match := _ATTEMPT.match(name):
            try:
                found[int(match[1])] = commit.read_record(folder, name)
            except Damaged:
                continue  # killed while it was written: nothing of that attempt exists yet
    return found


def begin_attempt(trial: Storage, start_step: int, **about: Any) -> int:
    """Record a new attempt that goes on from start_step; returns its number, which nobody else has."""
    folder = trial.at("attempts")
    attempt = max((int(m[1]) for name in folder.names() if (m := _ATTEMPT.match(name))), default=0) + 1
    while True:
        body = commit.record_bytes({"attempt": attempt, "start_step": start_step, **about})
        if folder.create(f"{attempt:04d}.json", body):
            return attempt
        attempt += 1


def step_name(step: int, attempt: int) -> str:
    """Folder name of a checkpoint's commits."""
    return f"step-{step:08d}.{attempt:04d}"


def list_commits(trial: Storage, kind: str) -> list[tuple[int, int]]:
    """(step, attempt) of every commit folder of a kind ('model', 'state', 'clips') that counts, oldest first.

    Manifests are not read here; whoever loads one verifies it.
    """
    lineage = read_lineage(trial)
    return [at for at in list_folders(trial, kind) if lineage.keeps(*at)]


def list_folders(trial: Storage, kind: str) -> list[tuple[int, int]]:
    """(step, attempt) of every commit folder of a kind, also of those that don't count, oldest first."""
    names = trial.at(kind).names()
    return sorted((int(match[1]), int(match[2])) for name in names if (match := _STEP.match(name)))


def write_metrics(trial: Storage, attempt: int, seq: int, rows: list[dict[str, Any]]) -> None:
    """Write one segment of metric rows; each row has `kind` and `step`."""
    commit.write_record(trial.at("metrics"), f"{attempt:04d}.{seq:08d}.json", {"rows": rows})


def read_metrics(trial: Storage) -> list[dict[str, Any]]:
    """All metric rows that count, ordered by step, each step and kind once. Torn segments are left out."""
    lineage = read_lineage(trial)
    folder = trial.at("metrics")
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for name in folder.names():
        if not (match := _SEGMENT.match(name)):
            continue
        try:
            segment = commit.read_record(folder, name)["rows"]
        except Damaged:
            continue
        rows |= {
            (row["step"], row["kind"]): row for row in segment if lineage.keeps(row["step"], int(match[1]))
        }
    return [rows[key] for key in sorted(rows)]
