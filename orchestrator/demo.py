"""`make demo`: the whole line on four excerpts of real music, through the same functions as the verbs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.connect import connect
from orchestrator.album.build import AlbumResult, build_album
from orchestrator.config import AlbumConfig, GenerateJob, GenerateRun, IngestConfig, SweepFile, Tracking
from orchestrator.ending import stopped_cleanly
from orchestrator.generate import generate
from orchestrator.ingest import run_ingest
from orchestrator.live import console, span
from orchestrator.merge import build, load_yaml
from orchestrator.sweep import run_sweep
from orchestrator.tracking.beside import ship_album, ship_dataset, ship_songs
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput

ROOT = Path(__file__).parent.parent
STAGES = 4

OWN_MUSIC = """
Now your own music (orchestrator is in .venv/bin):
  orchestrator ingest ~/Music/band name=band
  orchestrator sweep overnight dataset=band     # a GPU and a night; `sweep laptop` without
  orchestrator audition overnight
  orchestrator generate overnight songs=20 seconds=240
  orchestrator album overnight-songs"""


def main() -> None:
    """Run the demo, or go on with it."""
    out, began = console(), time.monotonic()
    workspace = Workspace.open()
    out.print(f"workspace {workspace.storage}", style="dim", soft_wrap=True)
    with stopped_cleanly("make demo", out), connect():
        _stage(out, began, 1, "ingest: four 40-second excerpts of Sectoid's metal")
        data, _ = _load("ingest")
        music = build(IngestConfig, {**data, "source": str(ROOT / data["source"])})
        run_ingest(workspace, music, out)
        ship_dataset(workspace, music.name, Tracking(), out)

        _stage(out, began, 2, "sweep: six small models, the worst stopped early")
        view = run_sweep(workspace, build(SweepFile, load_yaml(_file("sweep"))), out)

        _stage(out, began, 3, "generate: songs from the best checkpoint, in a pool of two")
        data, how = _load("generate")
        job = build(GenerateJob, data)
        failed = generate(workspace, job, build(GenerateRun, how), out)
        if failed:
            raise BadInput(f"songs that could not be made: {failed}")
        ship_songs(workspace, job.name, Tracking(), out)

        _stage(out, began, 4, "album")
        asked = build(AlbumConfig, _load("album")[0])
        album = build_album(workspace, asked, lambda *_: None)
        ship_album(workspace, asked.name, Tracking(), out)
    _tell(out, album, time.monotonic() - began)
    sys.exit(1 if any(trial.state == "failed" for trial in view.trials) else 0)


def _load(verb: str) -> tuple[dict[str, Any], dict[str, Any]]:
    data = load_yaml(_file(verb))
    return data, data.pop("run", {})


def _file(verb: str) -> Path:
    return ROOT / "configs" / "demo" / f"{verb}.yaml"


def _stage(out: Console, began: float, number: int, what: str) -> None:
    out.print(f"\n[{number}/{STAGES}] {what}  ({span(time.monotonic() - began)})", markup=False, style="bold")


def _tell(out: Console, album: AlbumResult, seconds: float) -> None:
    out.print(album.to_text(), markup=False, soft_wrap=True)
    out.print(f"Made in {span(seconds)}.\n{OWN_MUSIC}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
