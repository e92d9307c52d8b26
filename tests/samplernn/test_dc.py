"""DC kept out of songs: nothing of it is left, nothing that is heard changes, and pieces make no difference."""

from __future__ import annotations

import numpy as np
import pytest

from samplernn.dc import DcBlocker

RATE = 16_000


def test_blocker_leaves_less_than_a_ten_thousandth_of_dc_in_a_song_that_wanders():
    t = np.arange(20 * RATE) / RATE
    heard = np.random.default_rng(0).normal(0, 2000, len(t)) + 4000 * np.sin(2 * np.pi * 220 * t)
    wandering = 900 + 600 * np.sin(2 * np.pi * t / 13)
    left = DcBlocker(RATE)((heard + wandering).astype(np.int16)).astype(np.float64) / 32768
    assert abs((heard + wandering).mean()) / 32768 > 0.02
    assert abs(left.mean()) < 1e-4


@pytest.mark.parametrize(("hz", "db"), [(0.5, -20.0), (32, -0.1), (220, 0.0)])
def test_blocker_changes_no_level_that_is_heard(hz: float, db: float):
    t = np.arange(20 * RATE) / RATE
    tone = (16_000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)
    left = DcBlocker(RATE)(tone).astype(np.float64)[2 * RATE :]
    assert 20 * np.log10(left.std() / tone[2 * RATE :].std()) == pytest.approx(db, abs=0.1)


def test_blocker_gives_the_same_samples_in_pieces_and_never_wraps_around():
    pcm = np.random.default_rng(1).choice(np.array([-32768, 32767], dtype=np.int16), 3 * RATE)
    whole, pieces = DcBlocker(RATE), DcBlocker(RATE)
    cut = np.split(pcm, [1, 7, 1000, 20_000])
    made = whole(pcm)
    assert np.array_equal(made, np.concatenate([pieces(piece) for piece in cut]))
    assert (np.sign(made[pcm > 0]) > 0).mean() > 0.99
