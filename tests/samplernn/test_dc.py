"""DC kept out of songs: none is left at any length, nothing that is heard changes, pieces make no difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from samplernn.dc import CUTOFF_HZ, HighPass, without_dc

RATE = 16_000
WANTED = 1e-4
"""What is promised of every song, as a share of full scale; without_dc's own bound is 1.5e-5."""
STEP = 1 / 32768


def clean(pcm: np.ndarray, cuts: list[int] | None = None) -> np.ndarray:
    return np.concatenate(list(without_dc(lambda: np.split(pcm, cuts or []), RATE)))


def music(samples: int) -> np.ndarray:
    """Real music from its middle."""
    file = Path(__file__).parents[2] / "demo" / "music" / "metal-madness.ogg"
    audio, rate = soundfile.read(file, dtype="float64", always_2d=True)
    return np.resize(audio.mean(axis=1)[10 * rate :: rate // RATE], samples)


def hostile(kind: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    t, hiss = np.arange(samples) / RATE, rng.normal(0, 0.05, samples)
    late = t > t[-1] - 0.01
    wave = {
        "offset": lambda: hiss + rng.uniform(-0.5, 0.5),
        "nothing but an offset": lambda: np.full(samples, 0.7),
        "steps": lambda: hiss + rng.uniform(-0.4, 0.4, 5)[(5 * t / (t[-1] + 1)).astype(int)],
        "step at the end": lambda: hiss + 0.5 * late,
        "drift": lambda: hiss + np.cumsum(rng.normal(0, 0.0005, samples)),
        "waves below hearing": lambda: hiss + 0.3 * np.sin(2 * np.pi * t * rng.uniform(0.05, 4) + 1),
        "bass cut in mid-wave": lambda: 0.8 * np.sin(2 * np.pi * t * rng.uniform(20, 60)),
        "square wave at full scale": lambda: np.sign(np.sin(2 * np.pi * t * rng.uniform(3, 30))),
        "at the rail half of the time": lambda: np.where(rng.random(samples) < 0.5, 1.0, 0.2),
        "silence": lambda: np.zeros(samples),
        "music on an offset": lambda: music(samples) + 0.03,
    }[kind]()
    return np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize(
    "kind",
    [
        "offset", "nothing but an offset", "steps", "step at the end", "drift", "waves below hearing",
        "bass cut in mid-wave", "square wave at full scale", "at the rail half of the time", "silence",
        "music on an offset",
    ],
)  # fmt: skip
def test_song_of_any_length_has_no_dc(kind: str):
    rng = np.random.default_rng(3)
    for seconds in (0.5, *rng.uniform(0.5, 20, 4), 8, 60):
        pcm = hostile(kind, round(seconds * RATE), rng)
        left = clean(pcm)
        assert len(left) == len(pcm)
        assert abs(left.mean(dtype=np.float64)) * STEP < min(WANTED, 0.5001 * STEP), f"{seconds:.2f} s"


def test_song_of_a_few_samples_or_none_is_left_in_peace():
    assert len(clean(np.array([], dtype=np.int16))) == 0
    assert clean(np.array([20_000], dtype=np.int16)).tolist() == [0]
    assert clean(np.zeros(3, dtype=np.int16)).tolist() == [0, 0, 0]


def test_what_is_moved_is_the_whole_song_by_whole_steps_and_a_long_one_hardly():
    """Levels are true: the song is the filtered one, moved; minutes of music by nothing that could be heard."""
    for seconds, most in ((0.5, 300), (8, 10), (60, 1)):
        pcm = hostile("music on an offset", round(seconds * RATE), np.random.default_rng(0))
        passed = HighPass(RATE)(pcm)
        (moved,) = set((passed.astype(int) - clean(pcm)).tolist())
        assert abs(moved) <= most


@pytest.mark.parametrize(
    ("hz", "db"), [(0.5, -48.2), (2, -24.1), (20, -0.11), (30, -0.02), (40, -0.01), (220, 0.0)]
)
def test_high_pass_changes_no_level_that_is_heard(hz: float, db: float):
    t = np.arange(24 * RATE) / RATE
    tone = (16_000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)
    left = HighPass(RATE)(tone).astype(np.float64)[4 * RATE :]
    assert 20 * np.log10(left.std() / tone[4 * RATE :].std()) == pytest.approx(
        db, abs=0.1 if hz < 20 else 0.01
    )


def test_high_pass_is_the_one_that_scipy_designs():
    from scipy.signal import butter, sosfilt

    pcm = hostile("drift", RATE, np.random.default_rng(1))
    expected = sosfilt(butter(2, CUTOFF_HZ, "highpass", fs=RATE, output="sos"), pcm.astype(np.float64))
    assert np.abs(HighPass(RATE)(pcm) - expected).max() <= 0.5001


def test_song_is_the_same_in_pieces_and_never_wraps_around():
    rng = np.random.default_rng(1)
    pcm = rng.choice(np.array([-32768, 32767], dtype=np.int16), 3 * RATE)
    made = clean(pcm)
    for _ in range(5):
        cuts = sorted({1, 7, *rng.integers(0, len(pcm), 6).tolist()})
        assert np.array_equal(made, clean(pcm, cuts))
    assert (np.sign(made[pcm > 0]) > 0).mean() > 0.99
