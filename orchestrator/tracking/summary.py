"""What stands beside a sweep's trials in its group of W&B runs, each written in one go from what is on storage.

    sweep     its table, parallel coordinates, importance, and the picked checkpoints by reference
    ingest    its dataset's card, and the dataset by reference
    generate  a run a batch of songs that were made from it: a table, the best to hear
    album     a run an album of such songs: a table, every track to hear

A cell of a table can't hold sound in W&B; its column `audio` names the key under which the sound is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from orchestrator.album.tracklist import SONG
from orchestrator.importance import importances
from orchestrator.picks import picked
from orchestrator.ranked_songs import SongRow, ranked_songs
from orchestrator.tracking.history import dotted
from orchestrator.trials import ENDED, SweepView, TrialView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.chunks import CARD, PCM
from samplernn.errors import Damaged
from samplernn.storage import Storage

SOUNDS_MAX = 20
"""So many songs of a batch can be heard in W&B, the best; the table has all."""
TRACKS_MAX = 100
"""W&B takes no more sounds at one step."""
CREDITS = "credits.json"
MODEL = "model.safetensors"


@dataclass(frozen=True)
class Sheet:
    """A table."""

    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Sound:
    """A FLAC file to hear."""

    read: Callable[[], bytes]
    caption: str


@dataclass(frozen=True)
class Reference:
    """An artifact that stays where it is: only the addresses of its files are sent."""

    name: str
    kind: Literal["dataset", "model"]
    files: dict[str, str]
    """Names in the artifact, and their URIs."""
    metadata: dict[str, Any]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """One run."""

    job_type: Literal["sweep", "ingest", "generate", "album"]
    name: str
    figures: dict[str, float]
    tables: dict[str, Sheet] = field(default_factory=dict)
    sounds: dict[str, Sound] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Its name in the ledger; a trial's begins with a digit."""
        return f"{self.job_type}-{self.name}"

    @property
    def digest(self) -> str:
        """Another one when anything in it is another."""
        sounds = {key: sound.caption for key, sound in self.sounds.items()}
        tables = {key: [sheet.columns, sheet.rows] for key, sheet in self.tables.items()}
        references = [[one.name, one.files, one.metadata, one.aliases] for one in self.references]
        return commit.sha256(json.dumps([self.figures, tables, sounds, references]).encode())


def summaries(workspace: Workspace, view: SweepView) -> Iterator[Summary]:
    """All that there are of a sweep by now; what is damaged or not finished is left out."""
    yield sweep_summary(workspace, view)
    sweep = view.config.name
    beside: list[Callable[[], Summary | None]] = [
        partial(dataset_summary, workspace, view.config.dataset),
        *(partial(songs_summary, workspace, batch, sweep) for batch in workspace.names("songs")),
        *(partial(album_summary, workspace, album, sweep) for album in workspace.names("albums")),
    ]
    for make in beside:
        try:
            told = make()
        except (FileNotFoundError, Damaged):
            continue
        if told is not None:
            yield told


def sweep_summary(workspace: Workspace, view: SweepView) -> Summary:
    """The table of a sweep's trials, the axes of parallel coordinates, what matters, and what was picked."""
    varied = list(view.config.space)
    rated = [trial for trial in view.trials if trial.best is not None]
    best = view.best()
    figures = {
        "count/trials": float(len(view.trials)),
        "count/ended": float(sum(t.state in ENDED for t in view.trials)),
    }
    if best is not None and best.best is not None:
        figures |= {"best_valid_bits": best.best[1]}
    tables = {
        "trials": Sheet(
            ["trial", "state", "reason", *varied, "step", "seconds", "best_step", "valid_bits"],
            [_trial_row(trial, varied) for trial in view.trials],
        ),
        "parallel_coordinates": Sheet(
            [*varied, "valid_bits"],
            [[*_settings(trial, varied), trial.best[1]] for trial in rated if trial.best],
        ),
    }
    if (found := importances(view)) is not None:
        tables["importance"] = Sheet(["setting", "share"], [[one.name, one.share] for one in found.found])
    references = [
        checkpoint
        for trial, step in sorted(picked(workspace, view.config.name))
        for checkpoint in _checkpoint(workspace, view.config.name, trial, step)
    ]
    return Summary("sweep", view.config.name, figures, tables, references=references)


def dataset_summary(workspace: Workspace, name: str) -> Summary:
    """The figures of a dataset's card. Raises FileNotFoundError or Damaged when there is none."""
    folder = workspace.dataset(name)
    card = commit.read_record(folder, CARD)
    rate, tracks = card["sample_rate"], card["tracks"]
    splits = ("train", "valid", "test")
    seconds = [{s: sum(b - a for a, b in track["splits"][s]) / rate for s in splits} for track in tracks]
    figures = {
        "count/tracks": float(len(tracks)),
        "sample_rate": float(rate),
        "count/left_out": float(len(card.get("skipped", []))),
    }
    figures |= {f"seconds/{split}": sum(one[split] for one in seconds) for split in splits}
    files = {CARD: uri(folder, CARD)}
    files |= {f"tracks/{track['id']}/{PCM}": uri(folder.at("tracks", track["id"]), PCM) for track in tracks}
    rows = [
        [track.get("source", track["id"]), track["samples"] / rate, *(one[split] for split in splits)]
        for track, one in zip(tracks, seconds, strict=True)
    ]
    about = {
        "sample_rate": rate,
        "license": card.get("license"),
        "sha256": commit.sha256(commit.to_json(card)),
    }
    return Summary(
        "ingest",
        name,
        figures,
        {"tracks": Sheet(["source", "seconds", *splits], rows)},
        references=[Reference(name, "dataset", files, about)],
    )


def songs_summary(workspace: Workspace, batch: str, sweep: str) -> Summary | None:
    """The songs of a batch that were made from a sweep, the best first; None where there are none."""
    rows = [row for row in ranked_songs(workspace, batch) if row.about["recipe"]["sweep"] == sweep]
    if not rows:
        return None
    measures = sorted({key for row in rows for key, value in row.measures.items() if _is_number(value)})
    heard = {row.id: f"song/{row.id}" for row in rows[:SOUNDS_MAX]}
    columns = ["song", "audio", "trial", "step", "temperature", "seconds", "fault", "score", *measures]
    table = [
        [
            row.id,
            heard.get(row.id, ""),
            *(row.about["recipe"][key] for key in ("trial", "step")),
            json.dumps(row.about["recipe"].get("temperature")),
            row.seconds,
            row.fault,
            row.score,
            *(row.measures.get(key) for key in measures),
        ]
        for row in rows
    ]
    sounds = {heard[row.id]: _song(row) for row in rows[:SOUNDS_MAX]}
    figures = {"count/songs": float(len(rows)), "seconds": sum(row.seconds for row in rows)}
    return Summary("generate", batch, figures, {"songs": Sheet(columns, table)}, sounds)


def album_summary(workspace: Workspace, name: str, sweep: str) -> Summary | None:
    """The tracks of an album that has songs of a sweep; None where it has none. Raises FileNotFoundError when the album
    was never finished."""
    folder = workspace.album(name)
    tracks = json.loads(folder.read(CREDITS))["tracks"]
    if not any(track["recipe"]["sweep"] == sweep for track in tracks):
        return None
    measures = sorted({key for t in tracks for key, value in t["measures"].items() if _is_number(value)})
    keys = {track["number"]: f"track/{track['number']:02d}" for track in tracks[:TRACKS_MAX]}
    columns = ["number", "title", "audio", "batch", "song", "trial", "step", *measures]
    table = [
        [
            track["number"],
            track["title"],
            keys.get(track["number"], ""),
            track["batch"],
            track["song"],
            *(track["recipe"][key] for key in ("trial", "step")),
            *(track["measures"].get(key) for key in measures),
        ]
        for track in tracks
    ]
    sounds = {
        keys[track["number"]]: Sound(
            partial(folder.read, track["file"]), f"{track['number']}. {track['title']}"
        )
        for track in tracks[:TRACKS_MAX]
    }
    return Summary(
        "album", name, {"count/tracks": float(len(tracks))}, {"tracks": Sheet(columns, table)}, sounds
    )


def uri(folder: Storage, name: str) -> str:
    """Address of a file: file:///... on this machine's disk, else that of its store."""
    local = folder.local
    return f"{folder}/{name}" if local is None else (local.absolute() / name).as_uri()


def _settings(trial: TrialView, varied: list[str]) -> list[Any]:
    config = dotted(trial.experiment.model_dump(mode="json"))
    found = [config.get(name) for name in varied]
    return [json.dumps(value) if isinstance(value, list | dict) else value for value in found]


def _trial_row(trial: TrialView, varied: list[str]) -> list[Any]:
    last = trial.rows[-1] if trial.rows else {"step": 0, "seconds": 0.0}
    best = trial.best or (None, None)
    return [
        trial.name,
        trial.state,
        trial.reason,
        *_settings(trial, varied),
        last["step"],
        last["seconds"],
        *best,
    ]


def _checkpoint(workspace: Workspace, sweep: str, trial: str, step: int) -> Iterator[Reference]:
    """The model of a picked checkpoint, if it is there."""
    folder = workspace.trial(sweep, trial)
    for at, attempt in list_commits(folder, "model"):
        if at != step:
            continue
        model = folder.at("model", step_name(at, attempt))
        try:
            files = commit.read_manifest(model)["files"]
        except (FileNotFoundError, Damaged):
            continue
        about = {"sweep": sweep, "trial": trial, "step": step, "sha256": files[MODEL]["sha256"]}
        addresses = {name: uri(model, name) for name in files}
        yield Reference(f"{sweep}-{trial}", "model", addresses, about, (f"step-{step}", "picked"))


def _song(row: SongRow) -> Sound:
    recipe = row.about["recipe"]
    return Sound(
        partial(commit.read_file, row.folder, SONG), f"song {row.id}, {recipe['trial']} step {recipe['step']}"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
