"""A folder of audio into a dataset, in parallel over a cluster through Ray Data.

Each file is a row; a task hashes, decodes (in a process of its own), measures and commits it, so that a run that is
killed goes on where it was. The driver then places the splits and writes the card last: without a card there is no
dataset.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import ray
import ray.data
import ray.exceptions

from orchestrator.audio_folder import AudioFile, Row, first_reasons, scan
from orchestrator.config import IngestConfig
from orchestrator.drift import check_same_config, refuse_other_config
from orchestrator.ingest_report import Report
from orchestrator.ingest_track import Outcome, ingest_file, track_id
from orchestrator.lease import hold
from orchestrator.workspace import CONFIG
from samplernn import commit
from samplernn.audio import versions
from samplernn.chunks import CARD
from samplernn.errors import BadInput, StorageError
from samplernn.splits import require_held_out, split_track
from samplernn.storage import Storage

REPORT = "report.txt"
SCHEMA = 1
_HEAD_BYTES = 2**16
_MOST_BLOCKS = 1000

Progress = Callable[[int, int, str], None]


def ingest(config: IngestConfig, folder: Storage, on_progress: Progress) -> Report:
    """Make the dataset that `config` describes in `folder`; Ray is initialised already.

    `on_progress(done, total, name)` is called as each file ends. Finished tracks of an earlier run are kept. Raises
    BadInput when nothing usable is there, when the dataset exists with another config or can't be written, StorageError
    when storage fails in mid-run; then no card is written and the same command goes on.
    """
    found = scan(config.source)
    with hold(folder):
        refuse_other_config(folder, CONFIG, config)
        outcomes: dict[str, Outcome] = {}
        for outcome in _outcomes(found.audio, folder, config.sample_rate):
            if outcome.storage:
                raise StorageError(
                    f"{outcome.storage}; then run the same command again: finished tracks are kept"
                )
            outcomes[outcome.name] = outcome
            on_progress(len(outcomes), len(found.audio), outcome.name)
        ordered = [outcomes[file.name] for file in found.audio]
        card = _card(config, ordered, found.skipped)
        report = Report(card, str(folder), kept=sum(outcome.kept for outcome in ordered))
        check_same_config(folder, CONFIG, config)
        folder.write(REPORT, report.to_text(most=None).encode())
        commit.write_record(folder, CARD, card)
    return report


def _outcomes(files: list[AudioFile], folder: Storage, sample_rate: int) -> Iterator[Outcome]:
    """Outcomes of all files as they end, from Ray Data tasks."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [{"files": _pack(group)} for group in _groups(files)]
    dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).flat_map(
        _ingest_group, fn_kwargs={"folder": folder, "sample_rate": sample_rate}, num_cpus=1
    )
    try:
        with closing(iter(dataset.iter_rows())) as results:
            for row in results:
                yield Outcome(**json.loads(row["outcome"]))
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise StorageError(
            f"Ray lost a worker and gave up ({type(error).__name__}: {reason}); run the same command again: "
            "finished tracks are kept"
        ) from error


def _ingest_group(row: dict[str, Any], folder: Storage, sample_rate: int) -> list[dict[str, str]]:
    """The task: files one after the other, the second of two with the same content left out."""
    seen: dict[str, str] = {}
    outcomes = [ingest_file(file, folder, sample_rate, seen) for file in _unpack(row["files"])]
    return [{"outcome": json.dumps(dataclasses.asdict(outcome))} for outcome in outcomes]


def _groups(files: list[AudioFile]) -> list[list[AudioFile]]:
    """Files that may have the same content go to one task, so that no two tasks write the same track at once."""
    sizes = Counter(file.size for file in files)
    groups: dict[tuple[int, str], list[AudioFile]] = defaultdict(list)
    for file in files:
        alone = file.size == 0 or sizes[file.size] == 1
        groups[file.size, file.name if alone else _head_digest(file)].append(file)
    return list(groups.values())


def _head_digest(file: AudioFile) -> str:
    try:
        with open(file.path, "rb") as stream:  # noqa: PTH123
            return hashlib.sha256(stream.read(_HEAD_BYTES)).hexdigest()
    except OSError:
        return file.name


def _pack(files: Iterable[AudioFile]) -> str:
    return json.dumps([[os.fsdecode(file.path), file.name, file.size] for file in files])


def _unpack(text: str) -> list[AudioFile]:
    return [AudioFile(os.fsencode(path), name, size) for path, name, size in json.loads(text)]


def _card(config: IngestConfig, outcomes: list[Outcome], skipped: list[Row]) -> dict[str, Any]:
    """The body of dataset.json. Raises BadInput when no track is usable, or none can be held out."""
    tracks, left_out = [], list(skipped)
    first: dict[str, Outcome] = {}
    for outcome in outcomes:
        twin = first.setdefault(outcome.track["pcm_sha256"], outcome) if outcome.track else outcome
        if outcome.track is None:
            left_out.append({"path": outcome.name, "reason": outcome.reason or ""})
        elif twin is not outcome:
            left_out.append({"path": outcome.name, "reason": _twin_reason(outcome, twin)})
        else:
            tracks.append(_track_row(config, outcome.name, outcome.track))
    left_out.sort(key=lambda row: row["path"])
    if not tracks:
        raise BadInput(
            f"{config.source} holds no usable audio{first_reasons(left_out)}; mend or replace these files"
        )
    require_held_out((track["splits"] for track in tracks), config.guard_seconds)
    return {
        "schema": SCHEMA,
        "name": config.name,
        "sample_rate": config.sample_rate,
        "license": config.license,
        "config": config.model_dump(mode="json"),
        "tracks": tracks,
        "skipped": left_out,
        "versions": {"python": platform.python_version(), **versions()},
    }


def _twin_reason(outcome: Outcome, twin: Outcome) -> str:
    same_file = outcome.track and twin.track and outcome.track["source_sha256"] == twin.track["source_sha256"]
    return f"duplicate of {twin.name}" if same_file else f"the same audio as {twin.name}"


def _track_row(config: IngestConfig, name: str, track: dict[str, Any]) -> dict[str, Any]:
    identifier = track_id(name, track["source_sha256"])
    source = track["source"]
    return {
        "id": identifier,
        "source": name,
        "sha256": track["source_sha256"],
        "samples": track["samples"],
        "seconds": track["samples"] / config.sample_rate,
        "source_format": source["format"],
        "source_rate": source["rate"],
        "source_seconds": source["frames"] / source["rate"],
        "channels": source["channels"],
        "measures": track["measures"],
        "splits": split_track(
            track["samples"], config.sample_rate, identifier,
            valid=config.valid, test=config.test, guard_seconds=config.guard_seconds, seed=config.seed,
        ),
    }  # fmt: skip
