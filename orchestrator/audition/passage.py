"""The passage of the training music that a song resembles most, to be heard beside it."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.workspace import Workspace
from samplernn.audio import encode_flac
from samplernn.chunks import Dataset
from samplernn.copying import PATCH_SECONDS


class TrainingPassages:
    """The training music of a sweep: verified when a passage is first asked for, memory-mapped from then on."""

    def __init__(self, workspace: Workspace, dataset: str) -> None:
        self._workspace, self._dataset = workspace, dataset
        self._copies = Path(tempfile.gettempdir()) / f"samplernn-datasets-{os.getuid()}"
        self._opening = threading.Lock()
        self._music: Dataset | None = None

    def flac(self, nearest: dict[str, Any]) -> bytes:
        """FLAC of the passage that a song's measure `nearest` names (samplernn.copying.Passage).

        Raises BadInput when the dataset is not in the workspace any more, Damaged when it does not verify.
        """
        with self._opening:
            folder = self._workspace.dataset(self._dataset)
            music = self._music = self._music or Dataset.open(folder, self._copies)
        start = round(nearest["track_at"] * music.sample_rate)
        pcm = np.zeros(round(PATCH_SECONDS * music.sample_rate), dtype=np.int16)
        music.tracks[nearest["track"]].read(start, start + len(pcm), pcm)
        return encode_flac(pcm, music.sample_rate, {})
