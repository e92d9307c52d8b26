"""The card of a dataset, dataset.json: its tracks, where they come from, how they are split, and what was left out.

Made by the driver from what became of every file, it is written last: without a card there is no dataset.
"""

from __future__ import annotations

import platform
from typing import Any

from orchestrator.audio_folder import Row, first_reasons
from orchestrator.config import IngestConfig
from orchestrator.ingest_track import Outcome, track_id
from samplernn.audio import versions
from samplernn.errors import BadInput
from samplernn.passages import Passages
from samplernn.sketch import most_alike, twins
from samplernn.splits import Splits, require_held_out, shared, split_by_track, split_track

SCHEMA = 1
Track = dict[str, Any]


def make_card(config: IngestConfig, outcomes: list[Outcome], skipped: list[Row]) -> dict[str, Any]:
    """The body of dataset.json.

    Raises BadInput when no track is usable, too many files are bad, or nothing can be held out.
    """
    left_out = [*skipped]
    for outcome in outcomes:
        if outcome.track is None:
            left_out.append({"path": outcome.name, "reason": outcome.reason or ""})
    _refuse_bad(config, outcomes, left_out)
    tracks = _without_twins([outcome for outcome in outcomes if outcome.track], left_out)
    left_out.sort(key=lambda row: row["path"])
    names = [track_id(outcome.name, track["source_sha256"]) for outcome, track in tracks]
    splits = _splits(config, {name: track["usable"] for name, (_, track) in zip(names, tracks, strict=True)})
    require_held_out(splits.values(), config.guard_seconds)
    twice, gap = shared(splits.values())
    return {
        "schema": SCHEMA,
        "name": config.name,
        "sample_rate": config.sample_rate,
        "license": config.license,
        "config": config.model_dump(mode="json"),
        "tracks": [
            _row(name, outcome, track, splits[name], config.sample_rate)
            for name, (outcome, track) in zip(names, tracks, strict=True)
        ],
        "skipped": left_out,
        "proof": {
            "samples_in_two_splits": twice,
            "samples_between_splits": gap,
            "most_alike_tracks": round(most_alike([track["sketch"] for _, track in tracks]), 3),
        },
        "versions": {"python": platform.python_version(), **versions()},
    }


def _refuse_bad(config: IngestConfig, outcomes: list[Outcome], left_out: list[Row]) -> None:
    bad = [outcome for outcome in outcomes if outcome.track is None and outcome.twin is None]
    if len(bad) == len(outcomes):
        raise BadInput(
            f"{config.source} holds no usable audio{first_reasons(left_out)}; mend or replace these files"
        )
    if len(bad) > config.max_bad * len(outcomes):
        rows = [{"path": outcome.name, "reason": outcome.reason or ""} for outcome in bad]
        raise BadInput(
            f"{len(bad)} of {len(outcomes)} audio files can't be used, more than max_bad={config.max_bad:g} of them"
            f"{first_reasons(rows)}; mend or remove them, or raise max_bad"
        )


def _without_twins(outcomes: list[Outcome], left_out: list[Row]) -> list[tuple[Outcome, Track]]:
    """Each recording once: of tracks with the same PCM, at whatever level, the first in order is kept."""
    tracks = [(outcome, outcome.track) for outcome in outcomes if outcome.track]
    again = twins([track["sketch"] for _, track in tracks])
    first: dict[str, int] = {}
    kept = []
    for at, (outcome, track) in enumerate(tracks):
        same = first.setdefault(track["pcm_sha256"], at)
        if same != at:
            other, twin = tracks[same]
            file = "duplicate of" if twin["source_sha256"] == track["source_sha256"] else "the same audio as"
            left_out.append({"path": outcome.name, "reason": f"{file} {other.name}"})
        elif at in again:
            other, likeness = tracks[again[at][0]][0], again[at][1]
            left_out.append(
                {
                    "path": outcome.name,
                    "reason": f"the same recording as {other.name} (likeness {likeness:.3f})",
                }
            )
        else:
            kept.append((outcome, track))
    return kept


def _splits(config: IngestConfig, usable: dict[str, Passages]) -> dict[str, Splits]:
    if config.split_by == "track":
        return split_by_track(usable, valid=config.valid, test=config.test, seed=config.seed)
    return {
        name: split_track(
            passages, config.sample_rate, name,
            valid=config.valid, test=config.test, guard_seconds=config.guard_seconds, seed=config.seed,
        )
        for name, passages in usable.items()
    }  # fmt: skip


def _row(name: str, outcome: Outcome, track: Track, splits: Splits, sample_rate: int) -> dict[str, Any]:
    source = track["source"]
    return {
        "id": name,
        "source": outcome.name,
        "sha256": track["source_sha256"],
        "pcm_sha256": track["pcm_sha256"],
        "samples": track["samples"],
        "seconds": track["samples"] / sample_rate,
        "source_format": source["format"],
        "source_rate": source["rate"],
        "source_seconds": source["frames"] / source["rate"],
        "channels": source["channels"],
        "ranges": track["ranges"],
        "measures": track["measures"],
        "cleaned": track["cleaned"],
        "features": track["features"],
        "splits": splits,
    }
