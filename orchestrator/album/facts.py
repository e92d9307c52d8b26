"""What an album's page states: how long the model was trained, how well it predicts, how near to noise it sounds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from statistics import fmean

import numpy as np
from markupsafe import Markup

from orchestrator.album.tracklist import Track
from orchestrator.pages.bars import Bar, bars_svg
from orchestrator.pages.render import duration
from orchestrator.workspace import Workspace
from samplernn.chunks import Dataset
from samplernn.errors import SampleRNNError
from samplernn.measures import spectral_flatness

WHITE_NOISE = exp(-0.5772156649015329)
"""Spectral flatness of Gaussian white noise as measures.spectral_flatness measures it."""
MUSIC_CHUNKS, MUSIC_SECONDS = 48, 4
RIFFS_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Facts:
    """Figures of an album."""

    seconds: float
    """Wall seconds of training of the longest trained checkpoint."""
    bits: float | None
    """Its validation bits."""
    checkpoints: list[str]
    """Trial and step of every checkpoint the songs came from."""
    datasets: list[str]
    sample_rate: int
    songs_flatness: float
    """Mean spectral flatness of the songs."""
    music_flatness: float | None
    """That of the training music; None when the dataset is not in the workspace any more."""

    @property
    def bars(self) -> Markup:
        """The flatness figures as a picture."""
        bars = [Bar("these songs", self.songs_flatness, "ours")]
        if self.music_flatness is not None:
            bars.append(Bar("the training music", self.music_flatness, "theirs"))
        bars.append(Bar("white noise", WHITE_NOISE, "limit"))
        return Markup(bars_svg(bars, "Spectral flatness of the songs beside music and noise"))

    @property
    def expect(self) -> str:
        """What can honestly be expected of so much training."""
        if self.seconds < RIFFS_SECONDS:
            return (
                f"This model was trained for {duration(self.seconds)}: expect texture, not riffs. The models that "
                "made the albums of Dadabots were trained for days on a GPU."
            )
        return f"This model was trained for {duration(self.seconds)}."


def album_facts(songs: Sequence[Track], datasets: Sequence[str], music_flatness: float | None) -> Facts:
    """The figures of an album from its songs."""
    trained = max((song.about["trained"] for song in songs), key=lambda about: about["seconds"])
    recipes = [song.recipe for song in songs]
    return Facts(
        seconds=trained["seconds"],
        bits=trained.get("bits"),
        checkpoints=sorted({f"{recipe['trial']} step {recipe['step']:,}" for recipe in recipes}),
        datasets=list(datasets),
        sample_rate=songs[0].about["sample_rate"],
        songs_flatness=fmean(song.about["measures"]["flatness"] for song in songs),
        music_flatness=music_flatness,
    )


def music_flatness(workspace: Workspace, dataset: str) -> float | None:
    """Mean spectral flatness of a dataset's training music; None when it is not in the workspace or damaged."""
    with tempfile.TemporaryDirectory() as cache:
        try:
            music = Dataset.open(workspace.dataset(dataset), Path(cache))
            rows = music.chunks("train", MUSIC_SECONDS * music.sample_rate, MUSIC_CHUNKS)
        except SampleRNNError:
            return None
        values = []
        for track, start, stop in rows.tolist():
            pcm = np.empty(stop - start, dtype=np.int16)
            music.tracks[track].read(start, stop, pcm)
            values.append(spectral_flatness((pcm / np.float32(32768)).astype(np.float32)))
    return fmean(values)
