"""The page of a dataset: what came in, what it sounds like, how it is split, and what was left out and why."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from markupsafe import Markup

from orchestrator.ingest_report import Report
from orchestrator.pages.folder import MadeFolder
from orchestrator.pages.render import INDEX, write_page
from orchestrator.pages.spectrogram import spectrogram_png
from orchestrator.pages.timeline import timeline_svg
from samplernn.chunks import Track, cache_folder, local_pcm
from samplernn.flac import encode_flac
from samplernn.spectrogram import VERSION
from samplernn.storage import Storage

MOST = 60
"""Tracks with pictures; the others are in report.txt."""
EXCERPT_SECONDS = 8
_THREADS = 4
_WIDEST, _HEIGHT, _EXCERPT_HEIGHT = 480, 72, 96


def write_dataset_page(folder: Storage, report: Report) -> str:
    """Write the page of the dataset in `folder` and say where its index.html is; what has not changed is kept."""
    made = MadeFolder(folder.at("page"))
    rate = report.card["sample_rate"]
    with ThreadPoolExecutor(_THREADS) as pool:
        shown = report.card["tracks"][:MOST]
        tracks = list(pool.map(lambda row: _track(made, folder, row, rate), shown))
    write_page(made, "dataset.html", card=report.card, report=report, tracks=tracks)
    made.finish()
    return str(Path(str(made.folder)) / INDEX) if made.folder.local else f"{made.folder}/{INDEX}"


def _track(made: MadeFolder, folder: Storage, row: dict[str, Any], rate: int) -> dict[str, Any]:
    """What the page shows of one track; its pictures and an excerpt are put into the page's folder."""
    pcm = Track(local_pcm(folder.at("tracks", row["id"]), cache_folder()))
    first, last = _excerpt(row, rate)
    heard = pcm[first:last]
    at, key = f"tracks/{row['id']}", f"{row['pcm_sha256']} {VERSION}"
    rms = 10 ** (row["measures"]["rms_dbfs"] / 20)
    made.put(f"{at}.png", key, lambda: spectrogram_png(pcm, rate, _HEIGHT, _WIDEST, rms))
    made.put(
        f"{at}-excerpt.flac", f"{key} {first}", lambda: encode_flac(heard, rate, {"title": row["source"]})
    )
    made.put(f"{at}-excerpt.png", f"{key} {first}", lambda: spectrogram_png(heard, rate, _EXCERPT_HEIGHT))
    return {
        **row,
        "spectrogram": f"{at}.png",
        "audio": f"{at}-excerpt.flac",
        "picture": f"{at}-excerpt.png",
        "excerpt_at": first / rate,
        "excerpt_seconds": len(heard) / rate,
        "timeline": Markup(timeline_svg(pcm, rate, row["splits"], f"Waveform and splits of {row['source']}")),
    }


def _excerpt(row: dict[str, Any], rate: int) -> tuple[int, int]:
    """Some seconds from the middle of the track's longest region."""
    regions = [region for regions in row["splits"].values() for region in regions]
    start, stop = max(regions, key=lambda region: region[1] - region[0])
    length = min(EXCERPT_SECONDS * rate, stop - start)
    first = (start + stop - length) // 2
    return first, first + length
