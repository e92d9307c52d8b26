"""A folder of audio into a dataset, in parallel over a cluster through Ray Data.

Each file is a row; a task hashes, decodes (in a process of its own), measures and commits it, so that a run that is
killed goes on where it was. Before that, the pieces of long files are decoded, each a row. The driver then places the
splits and writes the card last: without a card there is no dataset.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import ray
import ray.data
import ray.exceptions

from orchestrator.audio_folder import AudioFile, scan
from orchestrator.config import IngestConfig
from orchestrator.drift import check_same_config, refuse_other_config
from orchestrator.ingest_card import make_card
from orchestrator.ingest_long import Long, ingest_piece, look_long
from orchestrator.ingest_pieces import PIECES
from orchestrator.ingest_report import Report
from orchestrator.ingest_track import Outcome, TrackJob, ingest_file, track_id
from orchestrator.lease import hold
from orchestrator.workspace import CONFIG
from samplernn import commit
from samplernn.chunks import CARD
from samplernn.errors import StorageError
from samplernn.pieces import cuts_of
from samplernn.storage import Storage

REPORT = "report.txt"
_HEAD_BYTES = 2**16
_MOST_BLOCKS = 1000

Progress = Callable[[int, int, str], None]
Task = Callable[..., list[dict[str, Any]]]


def ingest(config: IngestConfig, folder: Storage, on_progress: Progress) -> Report:
    """Make the dataset that `config` describes in `folder`; Ray is initialised already.

    `on_progress(done, total, name)` is called as each file ends. Finished tracks of an earlier run are kept. Raises
    BadInput when nothing usable is there or when the dataset exists with another config, StorageError when storage
    can't be written; where that is in mid-run no card is written, and the same command goes on.
    """
    found = scan(config.source)
    with hold(folder):
        refuse_other_config(folder, CONFIG, config)
        job = TrackJob(
            folder, config.sample_rate, config.mono, config.clean, found.ranges, config.features, found.origin
        )
        outcomes: dict[str, Outcome] = {}
        nodes = _decode_pieces(found.audio, job, on_progress)
        for outcome in _outcomes(found.audio, job):
            if outcome.storage:
                raise StorageError(
                    f"{outcome.storage}; then run the same command again: finished tracks are kept"
                )
            outcomes[outcome.name] = outcome
            on_progress(len(outcomes), len(found.audio), outcome.name)
        ordered = [outcomes[file.name] for file in found.audio]
        if not any(outcome.track for outcome in ordered):
            folder.delete("tracks")
        card = make_card(config, ordered, found.skipped)
        nodes.update(outcome.where for outcome in ordered)
        report = Report(card, str(folder), sum(outcome.kept for outcome in ordered), nodes)
        check_same_config(folder, CONFIG, config)
        folder.write(REPORT, report.to_text(most=None).encode())
        commit.write_record(folder, CARD, card)
        folder.delete(PIECES)
        _sweep_out(folder, ordered)
    return report


def _sweep_out(folder: Storage, outcomes: list[Outcome]) -> None:
    """Delete tracks whose source is gone or was changed; one left out as another's twin stays, not to be made again."""
    made = {track_id(one.name, one.track["source_sha256"]) for one in outcomes if one.track}
    tracks = folder.at("tracks")
    for name in tracks.names():
        if name not in made:
            commit.delete_commit(tracks.at(name), tracks, name)


def _decode_pieces(files: list[AudioFile], job: TrackJob, on_progress: Progress) -> Counter[str]:
    """Have the pieces of long files decoded all over the cluster; how many each node did.

    Only files that every node can read: each piece of one on an object store would fetch it whole.
    """
    nodes: Counter[str] = Counter()
    if job.origin is not None:
        return nodes
    long = [{"files": _pack([file])} for file in files if _is_long(file)]
    looked = [row["long"] for row in _rows(long, _look, job) if row["long"]]
    found = {one.sha256: one for one in map(_unpack_long, looked)}
    rows = [{"long": _pack_long(one), "cut": at} for one in found.values() for at in range(len(one.cuts))]
    for done, row in enumerate(_rows(rows, _ingest_piece, job), start=1):
        if row["storage"]:
            raise StorageError(f"{row['storage']}; then run the same command again")
        nodes[row["where"]] += 1
        on_progress(done, len(rows), row["name"])
    return nodes


def _outcomes(files: list[AudioFile], job: TrackJob) -> Iterator[Outcome]:
    """Outcomes of all files as they end; the longest files are begun first."""
    groups = sorted(_groups(files, job.origin is not None), key=lambda group: -group[0].size)
    for row in _rows([{"files": _pack(group)} for group in groups], _ingest_group, job):
        yield Outcome(**json.loads(row["outcome"]))


def _rows(rows: list[dict[str, Any]], task: Task, job: TrackJob) -> Iterator[dict[str, Any]]:
    """What the tasks say of the rows, as each of them ends: Ray Data, a core a task."""
    if not rows:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Rows of text fill no object store, and Ray Data's budgets let one task at a time run in the first second (2.60).
    context.op_resource_reservation_enabled = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).flat_map(
        task, fn_kwargs={"job": job}, num_cpus=1
    )
    try:
        with closing(iter(dataset.iter_rows())) as results:
            yield from results
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise StorageError(
            f"Ray lost a worker and gave up ({type(error).__name__}: {reason}); run the same command again: "
            "finished tracks are kept"
        ) from error


def _is_long(file: AudioFile) -> bool:
    try:
        return len(cuts_of(file.path)) > 1
    except OSError:
        return False


def _look(row: dict[str, Any], job: TrackJob) -> list[dict[str, Any]]:
    (file,) = _unpack(row["files"])
    long = look_long(file, job)
    return [{"long": _pack_long(long) if long else ""}]


def _ingest_piece(row: dict[str, Any], job: TrackJob) -> list[dict[str, Any]]:
    long = _unpack_long(row["long"])
    cut = long.cuts[row["cut"]]
    name = f"{long.file.name}, piece {row['cut'] + 1} of {len(long.cuts)}"
    where = ray.get_runtime_context().get_node_id()
    return [{"name": name, "where": where, "storage": ingest_piece(long, cut, job) or ""}]


def _ingest_group(row: dict[str, Any], job: TrackJob) -> list[dict[str, str]]:
    """The task: files one after the other, the second of two with the same content left out."""
    seen: dict[str, str] = {}
    where = ray.get_runtime_context().get_node_id()
    outcomes = [
        dataclasses.replace(ingest_file(file, job, seen), where=where) for file in _unpack(row["files"])
    ]
    return [{"outcome": json.dumps(dataclasses.asdict(outcome))} for outcome in outcomes]


def _groups(files: list[AudioFile], remote: bool) -> list[list[AudioFile]]:
    """Files that may have the same content go to one task, so that no two tasks write the same track at once."""
    sizes = Counter(file.size for file in files)
    groups: dict[tuple[int, str], list[AudioFile]] = defaultdict(list)
    for file in files:
        alone = file.size == 0 or sizes[file.size] == 1
        head = "" if remote else _head_digest(file)
        groups[file.size, file.name if alone else head].append(file)
    return list(groups.values())


def _head_digest(file: AudioFile) -> str:
    try:
        with open(file.path, "rb") as stream:  # noqa: PTH123
            return hashlib.sha256(stream.read(_HEAD_BYTES)).hexdigest()
    except OSError:
        return file.name


def _pack_long(long: Long) -> str:
    return json.dumps([_pack([long.file]), long.sha256, long.before, long.cuts])


def _unpack_long(text: str) -> Long:
    files, sha256, before, cuts = json.loads(text)
    (file,) = _unpack(files)
    return Long(file, sha256, tuple(before), [(start, stop) for start, stop in cuts])


def _pack(files: Iterable[AudioFile]) -> str:
    return json.dumps([[os.fsdecode(file.path), file.name, file.size] for file in files])


def _unpack(text: str) -> list[AudioFile]:
    return [AudioFile(os.fsencode(path), name, size) for path, name, size in json.loads(text)]
