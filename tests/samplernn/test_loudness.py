"""Loudness and song measures in pieces equal those of the whole; the meter agrees with pyloudnorm's own."""

from __future__ import annotations

import numpy as np
import pyloudnorm
import pytest

from samplernn.loudness import LoudnessMeter
from samplernn.measures import loudness, measure
from samplernn.song_measures import SongMeasures

RATE = 16_000


def music(seconds: float, seed: int = 0) -> np.ndarray:
    """Bursts of noisy tones with rests, float32."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    sound = np.sin(2 * np.pi * 220 * time) + rng.standard_normal(len(time))
    return (0.1 * sound * (np.sin(time) > -0.3)).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100])
def test_a_full_scale_sine_of_997_hz_measures_minus_3_lufs(rate):
    time = np.arange(5 * rate) / rate
    assert loudness(np.sin(2 * np.pi * 997 * time).astype(np.float32), rate) == pytest.approx(-3.01, abs=0.1)


def test_meter_agrees_with_pyloudnorm_whatever_the_pieces():
    audio = music(23.7)
    meter, at = LoudnessMeter(RATE), 0
    for size in [1, 159, 1600, 40_000, 7, 200_000, 10**6]:
        meter.hear(audio[at : at + size])
        at += size
    assert meter.integrated == loudness(audio, RATE)
    assert meter.integrated == pytest.approx(pyloudnorm.Meter(RATE).integrated_loudness(audio), abs=0.05)


def test_silence_and_a_click_have_no_loudness():
    assert loudness(np.zeros(RATE, dtype=np.float32), RATE) is None
    assert loudness(music(0.3), RATE) is None


def test_song_measures_in_pieces_equal_those_in_one_and_nearly_the_wholes():
    pcm = (music(34.5) * 32767).astype(np.int16)
    whole, pieces = SongMeasures(RATE), SongMeasures(RATE)
    whole.hear(pcm)
    for at in range(0, len(pcm), 12_345):
        pieces.hear(pcm[at : at + 12_345])
    found = whole.finish()
    assert found == pieces.finish()
    assert len(found["along"]) == 4
    at_once = measure(pcm.astype(np.float32) / 32768)
    for key in ("rms_dbfs", "peak_dbfs", "clipped", "dc"):
        assert found[key] == pytest.approx(at_once[key], abs=1e-6)
    assert found["flatness"] == pytest.approx(at_once["flatness"], rel=0.03)
    assert found["silence"] == pytest.approx(at_once["silence"], abs=0.02)
    assert found["variety_db"] > 1


def test_measures_of_nothing_are_those_of_nothing():
    assert SongMeasures(RATE).finish()["along"] == []
