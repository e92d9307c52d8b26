"""Measures, loudness and sketches gathered block by block: as of the whole; duplicates found at any level."""

from __future__ import annotations

import itertools

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplernn import passages
from samplernn.loudness import LoudnessMeter
from samplernn.measures import measure
from samplernn.sketch import ALIKE, Sketch, most_alike, twins
from samplernn.track_measures import TrackMeasures
from tests.made import tone

RATE = 16_000


def blocks(signal: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(signal) + 1, 9))
    return [signal[a:b] for a, b in itertools.pairwise([0, *cuts.tolist(), len(signal)])]


def gathered(signal: np.ndarray) -> TrackMeasures:
    measures = TrackMeasures()
    for block in blocks(signal):
        measures.add(block)
    return measures


@pytest.mark.parametrize("samples", [0, 1, 500, 1023, 1024, 1025, 8191, 8192, 50_000, 200_003])
@pytest.mark.parametrize("scale", [1.0, 0.0001])
def test_measures_in_blocks_are_those_of_the_whole(samples, scale):
    signal = (tone(samples, 3) / 32768 * scale + 0.001 * scale).astype(np.float32)
    found, expected = gathered(signal).result(), measure(signal)
    for name in ("rms_dbfs", "peak_dbfs", "dc", "silence"):
        assert found[name] == pytest.approx(expected[name], abs=1e-3), name
    assert found["flatness"] == pytest.approx(expected["flatness"], rel=0.35, abs=0.01)


def test_measures_do_not_depend_on_the_cuts():
    signal = (tone(100_000, 1) / 32768).astype(np.float32)
    results = []
    for seed in range(4):
        measures = TrackMeasures()
        for block in blocks(signal, seed):
            measures.add(block)
        results.append({name: round(value, 6) for name, value in measures.result().items()})
    assert all(result == results[0] for result in results)


def test_silent_passages_have_their_place_and_length():
    signal = np.full(RATE * 10, 0.1, np.float32)
    signal[: RATE // 2] = 0
    signal[3 * RATE : 5 * RATE] = 1e-5
    signal[7 * RATE : 7 * RATE + 4000] = 0
    signal[-3000:] = 0
    found = gathered(signal).silent(-60, 1.0, RATE)
    assert len(found) == 1
    assert abs(found[0][0] - 3 * RATE) < 1024
    assert abs(found[0][1] - 5 * RATE) < 1024
    every = gathered(signal).silent(-60, 0, RATE)
    assert every[0][0] == 0
    assert every[-1][1] == len(signal)
    assert len(every) == 4


@pytest.mark.parametrize("seconds", [0.3, 1.0, 7.3])
def test_loudness_in_blocks_is_what_pyloudnorm_says_of_the_whole(seconds):
    signal = (tone(round(seconds * RATE), 5) / 32768).astype(np.float32)
    signal[len(signal) // 3 : len(signal) // 2] *= 0.01
    meter = LoudnessMeter(RATE)
    for block in blocks(signal):
        meter.hear(block)
    if seconds < 0.4:
        assert meter.integrated is None
        return
    expected = pyloudnorm.Meter(RATE).integrated_loudness(signal.astype(np.float64))
    assert meter.integrated == pytest.approx(expected, abs=0.05)


def sketch(pcm: np.ndarray, seed: int = 0) -> str:
    made = Sketch()
    for block in blocks(pcm, seed):
        made.add(block)
    return made.hex()


def test_sketch_finds_the_same_recording_at_any_level_and_nothing_else():
    rng = np.random.default_rng(0)
    songs = [tone(150_000, seed) for seed in range(6)]
    quiet = np.rint(songs[2] * 0.137).astype(np.int16)
    upside_down = (-songs[3].astype(np.int32)).clip(-32768, 32767).astype(np.int16)
    lossy = (songs[4] + rng.normal(0, songs[4].std() * 0.1, 150_000)).clip(-32768, 32767).astype(np.int16)
    offset = [
        np.full(150_000, 3000, np.int16) + rng.integers(-99, 99, 150_000, dtype=np.int16) for _ in range(2)
    ]
    silent = [np.zeros(1000, np.int16)] * 2
    sketches = [
        sketch(pcm, at) for at, pcm in enumerate([*songs, quiet, upside_down, lossy, *offset, *silent])
    ]
    found = twins(sketches)
    assert {at: twin for at, (twin, _) in found.items()} == {6: 2, 7: 3, 8: 4}
    assert found[6][1] > 0.999
    assert most_alike(sketches[:6]) < 0.5 < ALIKE
    assert sketch(songs[0], 1) == sketch(songs[0], 2)
    assert (twins([]), twins(sketches[:1]), most_alike(sketches[:1])) == ({}, {}, 0.0)


PASSAGES = st.lists(st.integers(0, 200), max_size=12).map(
    lambda edges: [list(pair) for pair in zip(*[iter(sorted(set(edges)))] * 2, strict=False)]
)


@given(PASSAGES, PASSAGES, st.integers(0, 220), st.integers(0, 220))
def test_passages_are_sets_of_samples(one, other, start, stop):
    def samples(found: list[list[int]]) -> list[int]:
        return [at for a, b in found for at in range(a, b)]

    a, b = samples(one), samples(other)
    assert samples(passages.joined(one, other)) == sorted({*a, *b})
    assert samples(passages.without(one, other)) == [at for at in a if at not in set(b)]
    assert samples(passages.cut(one, start, stop)) == a[start:stop]
    assert samples(passages.within(other, one)) == [place for place, at in enumerate(a) if at in set(b)]
    assert passages.length(one) == len(a)
