"""Splits: nothing held out is ever heard in training, whatever the parameters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplernn.errors import BadInput
from samplernn.splits import require_held_out, split_track

ORDINARY = {"valid": 0.06, "test": 0.06, "guard_seconds": 0.25, "seed": 123}


@given(
    samples=st.integers(0, 400_000),
    rate=st.integers(1_000, 192_000),
    valid=st.floats(0.0001, 0.4999),
    test=st.floats(0.0001, 0.4999),
    guard=st.floats(0, 3),
    seed=st.integers(0, 2**32 - 1),
    track=st.text(max_size=10),
)
def test_split_train_never_within_guard_of_what_is_held_out(samples, rate, valid, test, guard, seed, track):
    splits = split_track(
        [[0, samples]] if samples else [], rate, track, valid=valid, test=test, guard_seconds=guard, seed=seed
    )
    owner = np.zeros(samples, dtype=np.int8)
    for number, split in enumerate(("train", "valid", "test"), start=1):
        for start, stop in splits[split]:
            assert 0 <= start < stop <= samples
            assert not owner[start:stop].any()
            owner[start:stop] = number
    regions = sorted((start, stop, split) for split, rows in splits.items() for start, stop in rows)
    for (_, stop, left), (start, _, right) in itertools.pairwise(regions):
        assert left != right
        assert start - stop >= round(guard * rate)
    assert splits["train"] or not samples
    assert bool(splits["valid"]) == bool(splits["test"])


def test_split_ordinary_track_trains_before_and_after():
    splits = split_track([[0, 16_000 * 60]], 16_000, "a", **ORDINARY)
    assert len(splits["train"]) == 2
    for split in ("valid", "test"):
        ((start, stop),) = splits[split]
        assert stop - start == round(0.06 * 16_000 * 60)
    heard = sum(stop - start for start, stop in splits["train"])
    assert heard == 16_000 * 60 - 2 * 57_600 - 3 * 4_000


def test_split_place_depends_on_seed_and_track_and_nothing_else():
    def place(track: str, seed: int) -> int:
        return split_track([[0, 16_000 * 60]], 16_000, track, **{**ORDINARY, "seed": seed})["valid"][0][0]

    assert place("a", 1) == place("a", 1)
    places = {place(track, seed) for track in "abcdefgh" for seed in range(8)}
    assert len(places) == 64
    assert max(places) - min(places) > 16_000 * 30  # spread over the track


def test_split_short_track_trains_whole():
    for samples in (1, 100, 31_999):
        splits = split_track([[0, samples]], 16_000, "a", **ORDINARY)
        assert splits == {"train": [[0, samples]], "valid": [], "test": []}


def test_require_held_out_only_short_tracks_refused_with_the_remedy():
    short = split_track([[0, 16_000]], 16_000, "a", **ORDINARY)
    long = split_track([[0, 160_000]], 16_000, "b", **ORDINARY)
    require_held_out([short, long], 0.25)
    with pytest.raises(BadInput, match="add longer files, or lower guard_seconds"):
        require_held_out([short, short], 0.25)
