"""Clips are committed with what is known of them before anyone listens: measures, and how they look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samplernn import commit
from samplernn.attempts import step_name
from samplernn.audio import decode_flac
from samplernn.checkpoint import About
from samplernn.chunks import Dataset
from samplernn.clips import ClipMaker, measure_clips
from samplernn.copying import COPIED, TrainingMusic
from samplernn.errors import Damaged
from samplernn.loudness import LoudnessMeter
from samplernn.model import SampleRNN
from samplernn.preview import PEAKS, PREVIEWS, STRIP_HEIGHT, STRIP_WIDTH, make_preview, pack, unpack
from samplernn.storage import Storage
from tests.made import tiny_experiment, tone, write_dataset

RATE = 16_000


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = Storage.open(tmp_path / "toy")
    write_dataset(folder, sounds=[tone(6 * RATE, 1), tone(6 * RATE, 2)])
    return Dataset.open(folder, tmp_path / "cache")


@pytest.mark.parametrize("clips", [2, 0])
def test_clips_are_committed_with_measures_and_previews(dataset: Dataset, tmp_path: Path, clips: int) -> None:
    experiment = tiny_experiment(clips=clips, clip_seconds=2.5)
    about = About(experiment, "toy", dataset.digest, RATE, 7, 1.0, 5.0)
    trial = Storage.open(tmp_path / "trial")
    ClipMaker(dataset).make(trial, 1, SampleRNN.seeded(experiment.model, 0), about)
    folder = trial.at("clips", step_name(7, 1))
    sounds = [decode_flac(commit.read_file(folder, f"clip-{number}.flac"))[0] for number in range(clips)]
    measures = commit.read_json(folder, "measures.json")
    previews = unpack(commit.read_file(folder, PREVIEWS))
    assert len(measures) == len(previews) == clips
    for pcm, measured, preview in zip(sounds, measures, previews, strict=True):
        assert len(pcm) == 2.5 * RATE
        assert measured["lufs"] == LoudnessMeter(RATE).hear(pcm.astype(np.float32) / 32768).integrated
        assert 0 < measured["novelty"] <= 1
        assert measured["novelty"] == 1 - measured["nearest"]["likeness"]
        assert measured["variety_db"] > 0
        assert preview.seconds == 2.5
        assert (preview.peaks == make_preview(pcm, RATE).peaks).all()
        assert preview.strip.shape == (STRIP_HEIGHT, STRIP_WIDTH)


def test_clip_that_is_training_music_is_measured_as_a_copy_and_another_is_not(dataset: Dataset) -> None:
    taken = dataset.tracks[1][RATE : 4 * RATE]
    copied, other = measure_clips([taken, tone(3 * RATE, 9)], RATE, TrainingMusic(dataset))
    assert copied["novelty"] < 0.05
    assert copied["nearest"]["track"] == 1
    assert copied["nearest"]["track_at"] == pytest.approx(1 + copied["nearest"]["at"], abs=0.001)
    assert other["novelty"] > 1 - COPIED


def test_clips_of_any_length_are_measured() -> None:
    for samples in (1, 800, RATE):
        (measured,) = measure_clips([tone(samples)], RATE)
        assert "novelty" not in measured
        assert (measured["lufs"] is None) == (samples < 0.4 * RATE)
        assert commit.to_json(measured)


def test_previews_of_another_version_are_none_and_torn_ones_are_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = pack([make_preview(tone(800), RATE)])
    assert unpack(whole)[0].peaks.shape == (PEAKS,)
    assert unpack(pack([])) == []
    for data in (b"", whole[:-1], whole[: len(whole) // 2], b"\xff" * 64):
        with pytest.raises(Damaged, match="are no previews"):
            unpack(data)
    monkeypatch.setattr("samplernn.preview.VERSION", 0)
    assert unpack(whole) == []
