"""Copies are found where they are, whatever their level and noise; the music's own other parts are no copies of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samplernn.audio import decode
from samplernn.chunks import Dataset
from samplernn.copying import COPIED, TrainingMusic, closest
from samplernn.storage import Storage
from tests.made import write_dataset

RATE = 16_000
MUSIC = Path(__file__).parent.parent.parent / "demo" / "music"


@pytest.fixture(scope="module")
def music():
    """Two of the demo's excerpts, and the rest, float32 at 16 kHz."""
    found = []
    for path in sorted(MUSIC.glob("*.ogg")):
        blocks: list[np.ndarray] = []
        decode(path, RATE, blocks.append)
        found.append(np.concatenate(blocks))
    return found


@pytest.fixture(scope="module")
def training(music, tmp_path_factory):
    folder = Storage.open(tmp_path_factory.mktemp("copying"))
    write_dataset(folder.at("band"), sounds=music[:2], rate=RATE)
    dataset = Dataset.open(folder.at("band"), Path(folder.root) / "cache")
    return dataset, TrainingMusic(dataset)


@pytest.mark.parametrize(("gain", "noise"), [(1.0, 0.0), (0.25, 0.0), (-0.5, 0.3)])
def test_a_copied_passage_is_found_where_it_was_taken_from(training, music, gain, noise):
    dataset, looked_up = training
    track, start, stop = max(dataset.regions["train"], key=lambda region: region[2] - region[1])
    taken = start + (stop - start) // 2 + 777
    passage = music[track][taken : taken + 3 * RATE].astype(np.float32) / 32768
    rng = np.random.default_rng(1)
    hiss = noise * np.std(passage) * rng.standard_normal(len(passage))
    song = np.concatenate(
        [music[2][: 4 * RATE] / 32768, gain * (passage + hiss), music[3][: 4 * RATE] / 32768]
    )
    found = closest(looked_up.nearest(song.astype(np.float32)))
    assert found.likeness > 0.9
    assert found.track == track
    assert 3.9 <= found.at <= 5.5
    assert found.track_at - found.at == pytest.approx(taken / RATE - 4, abs=0.002)


def test_other_music_of_the_same_band_is_no_copy(training, music):
    _, looked_up = training
    for other in music[2:]:
        passages = looked_up.nearest(other.astype(np.float32) / 32768)
        assert len(passages) > 30
        assert closest(passages).likeness < COPIED


def test_noise_silence_and_a_short_song_are_no_copies(training):
    _, looked_up = training
    noise = np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32) * 0.1
    assert closest(looked_up.nearest(noise)).likeness < 0.3
    assert closest(looked_up.nearest(np.zeros(5 * RATE, dtype=np.float32))).likeness == 0
    assert looked_up.nearest(noise[:RATE]) == []
