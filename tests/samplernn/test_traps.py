"""Traps: each kind is named in time, once; real music is none; a watch's state can be kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samplernn.audio import decode
from samplernn.measures import decimate, repetition
from samplernn.traps import HOLD, Trap, TrapWatch

RATE = 8_000
MUSIC = sorted((Path(__file__).parents[2] / "demo" / "music").glob("*.ogg"))


def to_pcm(signal: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(signal * 32768), -32768, 32767).astype(np.int16)


def music(seconds: float, seed: int = 0) -> np.ndarray:
    """Notes of random pitch and length with partials and some noise, float [samples] in [-1, 1]."""
    rng = np.random.default_rng(seed)
    notes = []
    while sum(map(len, notes)) < seconds * RATE:
        t = np.arange(int(rng.uniform(0.1, 0.4) * RATE)) / RATE
        tone = sum(np.sin(2 * np.pi * rng.uniform(80, 700) * k * t) / k for k in range(1, 4))
        notes.append(0.1 * tone * np.exp(-3 * t) + rng.normal(0, 0.01, len(t)))
    return np.concatenate(notes)[: int(seconds * RATE)]


def heard(pcm: np.ndarray, watch: TrapWatch | None = None, block: int = 1000) -> list[Trap]:
    watch = watch or TrapWatch(RATE)
    return [trap for at in range(0, len(pcm), block) for trap in watch.hear(pcm[at : at + block])]


def loop(seconds: float, period: float, noise: float = 0.0) -> np.ndarray:
    piece = music(period, seed=3)
    whole = np.tile(piece, int(seconds / period) + 1)[: int(seconds * RATE)]
    return whole + np.random.default_rng(1).normal(0, noise, len(whole))


TRAPPED = {
    "loop of 0.31 s": (loop(12, 0.31), "loop"),
    "loop of 1.7 s": (loop(12, 1.7), "loop"),
    "loop that is not exact": (loop(12, 0.5, noise=0.004), "loop"),
    "one steady tone": (0.2 * np.sin(2 * np.pi * 317.3 * np.arange(12 * RATE) / RATE), "loop"),
    "silence": (np.zeros(12 * RATE), "silence"),
    "almost silence": (np.random.default_rng(0).normal(0, 2e-4, 12 * RATE), "silence"),
    "white noise": (np.random.default_rng(0).normal(0, 0.1, 12 * RATE), "noise"),
    "one stuck level": (np.full(12 * RATE, 0.02), "dc"),
    "music on DC": (music(12, seed=5) + 0.2, "dc"),
}


@pytest.mark.parametrize("name", TRAPPED)
def test_trap_after_music_is_named_once_and_dated(name):
    signal, kind = TRAPPED[name]
    (trap,) = heard(to_pcm(np.concatenate([music(8), signal])))
    assert trap.kind == kind
    assert 7 * RATE <= trap.start <= 10 * RATE


def test_what_does_not_last_is_no_trap():
    pieces = [music(5), np.zeros((HOLD - 1) * RATE), music(5, 1), loop(4, 0.3), music(5, 2)]
    assert heard(to_pcm(np.concatenate(pieces))) == []


def test_trap_that_is_left_and_entered_again_is_named_twice():
    silence = np.zeros(9 * RATE)
    traps = heard(to_pcm(np.concatenate([silence, music(5), silence])))
    assert [(trap.kind, trap.start // RATE) for trap in traps] == [("silence", 0), ("silence", 14)]


@pytest.mark.parametrize("path", MUSIC, ids=lambda path: path.stem)
def test_real_music_is_no_trap(path):
    blocks: list[np.ndarray] = []
    decode(path, 16_000, blocks.append)
    assert len(MUSIC) == 4
    assert heard(np.concatenate(blocks), TrapWatch(16_000)) == []


def test_watch_goes_on_from_its_saved_state():
    pcm = to_pcm(np.concatenate([music(8), loop(12, 0.4)]))
    whole = heard(pcm)
    for at in (1, 8 * RATE + 123, 13 * RATE):
        first, second = TrapWatch(RATE), TrapWatch(RATE)
        before = heard(pcm[:at], first)
        second.load(first.save())
        assert before + heard(pcm[at:], second) == whole
    assert sum(array.nbytes for array in first.save().values()) < 4 * 4 * RATE + 2 * RATE + 1000


def test_repetition_equals_its_definition_and_finds_the_period():
    rng = np.random.default_rng(2)
    x = (np.tile(rng.normal(size=20), 3) + 0.3 * rng.normal(size=60)).astype(np.float32)
    strength, period = repetition(x)
    late = x - x.mean()
    by_lag = []
    for lag in range(31):
        a, b = late[30:].astype(float), late[30 - lag : 60 - lag].astype(float)
        by_lag.append(float(a @ b / np.sqrt((a @ a) * (b @ b))))
    assert period == 20
    assert strength == pytest.approx(by_lag[20], abs=1e-5)
    assert strength == pytest.approx(max(by_lag[1:]), abs=1e-5)
    assert repetition(np.zeros(100, dtype=np.float32))[0] == 0


def test_decimate_takes_means():
    assert decimate(np.arange(9, dtype=np.float32), 8_000).tolist() == [0.5, 2.5, 4.5, 6.5]
