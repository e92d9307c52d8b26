"""A whole song on its way to storage: its parts pass by, into the audio file, the measures and song.json."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from orchestrator.node_check import versions
from orchestrator.songs import AUDIO, SIDECAR, PlannedSong
from orchestrator.sources import Pcm
from samplernn import commit
from samplernn.copying import Passage, TrainingMusic, likeness
from samplernn.dc import without_dc
from samplernn.generate.song import Caught
from samplernn.song_file import SongFile
from samplernn.song_measures import SongMeasures
from samplernn.storage import Storage

_COPIED_AT_ONCE = 2**20


def commit_song(
    folder: Storage,
    song: PlannedSong,
    read: Callable[[], Iterable[Pcm]],
    *,
    sample_rate: int,
    engine: str,
    take: int,
    traps: Iterable[Caught],
    measured: bool,
    music: TrainingMusic | None,
    made_on: dict[str, Any],
) -> None:
    """Commit a song made of pieces [samples], one after the other, less their DC; memory does not grow with length.

    `read` gives them from the first, and is called twice. `take` is how often it was begun anew; `traps` are those of
    all takes. Raises Damaged where a piece is.
    """
    recipe = {**song.recipe, "engine": engine, "restarts": take}
    tags = {"title": f"Song {song.id}", "software": "samplernn-orchestrator", "comment": json.dumps(recipe)}
    names = {"flac": AUDIO, song.file.format: Path(AUDIO).with_suffix(f".{song.file.format}").name}
    measures, passages, samples, caught = SongMeasures(sample_rate), list[Passage](), 0, list(traps)
    with tempfile.TemporaryDirectory() as scratch, commit.writing(folder) as committing:
        with ExitStack() as stack:
            files = [
                stack.enter_context(SongFile(Path(scratch) / name, form, song.file.bits, sample_rate, tags))
                for form, name in names.items()
            ]
            for pcm in without_dc(read, sample_rate, recipe["high_pass_hz"]):
                for file in files:
                    file.write(pcm)
                if measured:
                    measures.hear(pcm)
                if music is not None:
                    passages += _moved(
                        music.nearest(pcm.astype(np.float32) / np.float32(32768)), samples / sample_rate
                    )
                samples += len(pcm)
        for name in names.values():
            with (Path(scratch) / name).open("rb") as made, committing.file(name) as sink:
                while block := made.read(_COPIED_AT_ONCE):
                    sink.write(block)
        body = {
            "id": song.id,
            "recipe": recipe,
            "sample_rate": sample_rate,
            "samples": samples,
            "measures": {**measures.finish(), **likeness(passages)} if measured else {},
            "traps": _told((one for one in caught if one.take == take), sample_rate),
            "restarted_for": _told((one for one in caught if one.take < take), sample_rate),
            "trained": {"seconds": song.checkpoint.seconds, "bits": song.checkpoint.bits},
            "made_on": made_on,
            "versions": {
                "code": versions()["code"],
                "torch": torch.__version__,
                "python": platform.python_version(),
                "soundfile": soundfile.__version__,
            },
        }
        committing.put(SIDECAR, commit.to_json(body))


def _moved(passages: list[Passage], seconds: float) -> Iterator[Passage]:
    for one in passages:
        yield Passage(one.at + seconds, one.likeness, one.track, one.track_at)


def _told(traps: Iterable[Caught], rate: int) -> list[dict[str, Any]]:
    return [{"kind": caught.trap.kind, "seconds": caught.trap.start / rate} for caught in traps]
