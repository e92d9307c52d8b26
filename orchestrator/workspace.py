"""Where truth lives: the one place that spells paths in the workspace.

datasets/<name>/   config.json, dataset.json (the card), report.txt, page/, npy/ (ingest --export),
                   tracks/<id>/ (a commit: pcm.arrow, track.json, features.arrow where asked for, what the page shows),
                   pieces/ (while long files are ingested), born.json and wandb/ (where it is tracked)
sweeps/<name>/     config.json, born.json, wandb/, journal/<seq>.json, page/, trials/<0042-dim1024-...>/:
                   config.json, attempts/<n>.json, metrics/<attempt>.<seq>.json, and three sibling commits a checkpoint:
                   model/step-<n>.<attempt>/  state/step-<n>.<attempt>/  clips/step-<n>.<attempt>/
songs/<batch>/     config.json, sources.json, engine.json, journal/<seq>.json, recordings/<sha256>/ (a commit each),
                   parts/<id>/<take>-<start>-<stop>/ (a commit each: what is made of a song so far),
                   songs/<id>/ (a commit each: song.flac, song.json, another format of it),
                   logs/<n>.log (a line an event), page/
albums/<name>/     album.yaml, tracks, pictures, page
picks/<listener>/  sweeps/<sweep>/<seq>.json, songs/<batch>/<seq>.json: marks
cache/             peaks and thumbnails of clips, calibration/ (how fast models train): no truth, safe to delete
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from samplernn.errors import BadInput
from samplernn.storage import Storage

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
CONFIG = "config.json"
SOURCES = "sources.json"
"""What a batch of songs is made from."""
RECORDINGS, RECORDING = "recordings", "piece.flac"
"""The recordings that a batch continues or follows, each a commit named by its hash, and the file in it."""
BORN = "born.json"
"""The random token of a sweep or a dataset: two of one name in two workspaces are two groups of W&B runs. Beside it
the W&B project that they were first shipped to."""


def check_name(name: str) -> str:
    """A name that may become a folder; raises BadInput with the rule otherwise."""
    if not NAME.match(name):
        raise BadInput(
            f"the name {name!r} must be 1 to 64 letters, digits, dots, dashes or underscores and start with "
            "a letter or digit"
        )
    return name


@dataclass(frozen=True)
class Workspace:
    """The root folder of everything that is kept."""

    storage: Storage

    @classmethod
    def open(cls, where: str | None = None) -> Workspace:
        """The given root, else $ORCHESTRATOR_WORKSPACE, else ./workspace."""
        storage = Storage.open(where or os.environ.get("ORCHESTRATOR_WORKSPACE") or "workspace")
        if storage.local is not None and storage.local.exists() and not storage.local.is_dir():
            raise BadInput(f"the workspace {storage} is a file; give a folder, or a name that is free")
        return cls(storage)

    def dataset(self, name: str) -> Storage:
        """Folder of a dataset."""
        return self.storage.at("datasets", check_name(name))

    def sweep(self, name: str) -> Storage:
        """Folder of a sweep."""
        return self.storage.at("sweeps", check_name(name))

    def trial(self, sweep: str, trial: str) -> Storage:
        """Folder of one trial of a sweep."""
        return self.sweep(sweep).at("trials", check_name(trial))

    def batch(self, name: str) -> Storage:
        """Folder of a batch of songs."""
        return self.storage.at("songs", check_name(name))

    def song(self, batch: str, song: str) -> Storage:
        """Folder of one song of a batch."""
        return self.batch(batch).at("songs", check_name(song))

    def parts(self, batch: str, song: str) -> Storage:
        """Folder of what is made so far of a song of a batch."""
        return self.batch(batch).at("parts", check_name(song))

    def album(self, name: str) -> Storage:
        """Folder of an album."""
        return self.storage.at("albums", check_name(name))

    def picks(self, listener: str) -> Storage:
        """Folder of one listener's marks."""
        return self.storage.at("picks", check_name(listener))

    def cache(self, what: str) -> Storage:
        """Folder of what can be made again at any time."""
        return self.storage.at("cache", check_name(what))

    def names(self, kind: str) -> list[str]:
        """Names of all 'datasets', 'sweeps', 'songs', 'albums' or 'picks'."""
        return self.storage.at(kind).names()
