"""The page of a dataset: what came in, what it sounds like, how it is split, and what was left out and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from orchestrator.ingest_report import Report
from orchestrator.ingest_track import EXCERPT, EXCERPT_PICTURE, PICTURE, TRACK
from orchestrator.pages.folder import MadeFolder
from orchestrator.pages.render import INDEX, write_page
from orchestrator.pages.timeline import timeline_svg
from samplernn import commit
from samplernn.storage import Storage

MOST = 60
"""Tracks that are shown; the others are in report.txt."""


def write_dataset_page(folder: Storage, report: Report) -> str:
    """Write the page of the dataset in `folder` and say where its index.html is.

    Pictures and excerpts are the tracks' own, made when they were ingested.
    """
    made = MadeFolder(folder.at("page"))
    tracks = [_track(folder, row, report.card["sample_rate"]) for row in report.card["tracks"][:MOST]]
    write_page(made, "dataset.html", card=report.card, report=report, tracks=tracks)
    made.finish()
    return str(Path(str(made.folder)) / INDEX) if made.folder.local else f"{made.folder}/{INDEX}"


def _track(folder: Storage, row: dict[str, Any], rate: int) -> dict[str, Any]:
    """What the page shows of one track."""
    track = commit.read_record(folder.at("tracks", row["id"]), TRACK)
    first, last = track["excerpt"]
    title = f"Waveform and splits of {row['source']}"
    at = f"../tracks/{row['id']}"
    return {
        **row,
        "spectrogram": f"{at}/{PICTURE}",
        "audio": f"{at}/{EXCERPT}",
        "picture": f"{at}/{EXCERPT_PICTURE}",
        "excerpt_at": first / rate,
        "excerpt_seconds": (last - first) / rate,
        "timeline": Markup(timeline_svg(track["wave"], row["samples"], rate, row["splits"], title)),
    }
