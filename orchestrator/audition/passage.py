"""The passage of the training music that a song resembles most, to be heard beside it."""

from __future__ import annotations

import os
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.workspace import Workspace
from samplernn.audio import encode_flac
from samplernn.chunks import Dataset
from samplernn.copying import PATCH_SECONDS

_opening = threading.Lock()


def passage_flac(workspace: Workspace, dataset: str, nearest: dict[str, Any]) -> bytes:
    """FLAC of the passage that a song's measure `nearest` names (samplernn.copying.Passage).

    Raises BadInput when the dataset is not in the workspace any more, Damaged when it does not verify.
    """
    with _opening:
        music = _open(workspace, dataset)
    start = round(nearest["track_at"] * music.sample_rate)
    pcm = np.zeros(round(PATCH_SECONDS * music.sample_rate), dtype=np.int16)
    music.tracks[nearest["track"]].read(start, start + len(pcm), pcm)
    return encode_flac(pcm, music.sample_rate, {})


@cache
def _open(workspace: Workspace, dataset: str) -> Dataset:
    """Verified once while the room is open."""
    copies = Path(tempfile.gettempdir()) / f"samplernn-datasets-{os.getuid()}"
    return Dataset.open(workspace.dataset(dataset), copies)
