"""A workspace with something of everything that goes to W&B, and what stands in the offline runs made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.album.build import build_album
from orchestrator.config import AlbumConfig
from orchestrator.tracking.group import Group
from orchestrator.workspace import Workspace
from tests.made import tone, write_dataset
from tests.orchestrator.made_sweep import RATE, write_batch, write_sweep
from tests.orchestrator.wandb_ends import records

SWEEP = "toy-sweep"
GROUP = Group("sweep", SWEEP)
SONGS = [tone(RATE * 2, seed=seed) for seed in range(3)]


def made_workspace(folder: Path) -> Workspace:
    """A dataset, a sweep of two trials, songs and an album; W&B takes a second or two for each run."""
    workspace = Workspace.open(str(folder))
    write_dataset(workspace.dataset("toy"))
    write_sweep(workspace, space={"model.dim": [64, 128]})
    write_batch(workspace, sounds=SONGS)
    build_album(workspace, AlbumConfig(name="first", songs="toy-songs"), lambda at, of: None)
    return workspace


def offline_runs(workspace: Workspace, group: Group = GROUP) -> dict[tuple[str, str], list[Path]]:
    """The files of each run of a group, by job type and name."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(
        group.folder(workspace).glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime
    ):
        run = next(record.run for record in records(path) if record.HasField("run"))
        assert run.run_group == group.name
        found.setdefault((run.job_type, run.display_name), []).append(path)
    return found


def table(path: Path, row: dict[str, Any], key: str) -> list[dict[str, Any]]:
    body = json.loads((path.parent / "files" / row[key]["path"]).read_text())
    return [dict(zip(body["columns"], cells, strict=True)) for cells in body["data"]]


def media(path: Path, row: dict[str, Any], key: str) -> bytes:
    above, _, below = key.partition("/")
    return (path.parent / "files" / (row.get(key) or row[above][below])["path"]).read_bytes()


def references(path: Path) -> dict[str, list[str]]:
    """What the artifacts of a run refer to, by kind."""
    found: dict[str, list[str]] = {}
    for record in records(path):
        if record.HasField("artifact") and record.artifact.type != "run_table":
            refs = [entry.ref for entry in record.artifact.manifest.contents]
            found.setdefault(record.artifact.type, []).extend(refs)
    return found
