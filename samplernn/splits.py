"""Which samples are for training and which are held out, as a pure function of the tracks and the config.

By time, each track gives one held-out block, somewhere inside it, so that every song is heard in training and none of
its held-out seconds are:

    [ train ][guard][ valid ][guard][ test ][guard][ train ]

The guards belong to no split, so that no resampling filter, reverb tail or receptive field reaches across. By track,
whole tracks are held out.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping

from samplernn.errors import BadInput
from samplernn.passages import Passages, cut, joined, length

Splits = dict[str, Passages]
MIN_SECONDS = 2.0
"""A shorter track goes wholly to train."""
_TRAIN_EDGE_SECONDS = 0.25


def split_track(
    usable: Passages,
    sample_rate: int,
    track: str,
    *,
    valid: float,
    test: float,
    guard_seconds: float,
    seed: int,
) -> Splits:
    """Regions {split: [[start, stop], ...]} in samples of the usable passages of a track at sample_rate Hz.

    `valid` and `test` are shares of what is usable, each rounded to samples. The block's place depends on (seed, track)
    alone. A track that is too short to hold them with their guards, and at least a quarter second of training audio
    on either side, goes wholly to train.
    """
    samples = length(usable)
    guard = round(guard_seconds * sample_rate)
    edge = max(1, round(_TRAIN_EDGE_SECONDS * sample_rate))
    held_valid, held_test = round(samples * valid), round(samples * test)
    room = samples - held_valid - held_test - 3 * guard - 2 * edge
    if samples < MIN_SECONDS * sample_rate or room < 0 or not held_valid or not held_test:
        return {"train": usable, "valid": [], "test": []}
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{track}".encode()).digest()[:8], "big")
    block = edge + draw % (room + 1)
    valid_at = block + guard
    test_at = valid_at + held_valid + guard
    after = test_at + held_test + guard
    return {
        "train": [*cut(usable, 0, block), *cut(usable, after, samples)],
        "valid": cut(usable, valid_at, valid_at + held_valid),
        "test": cut(usable, test_at, test_at + held_test),
    }


def split_by_track(
    usable: Mapping[str, Passages], *, valid: float, test: float, seed: int
) -> dict[str, Splits]:
    """Regions of each track, whole tracks held out: in an order drawn from (seed, track), tracks are given to valid
    until it holds its share of all samples, then to test, and the rest to train. Fewer than three tracks all train.
    """
    order = sorted(usable, key=lambda track: hashlib.sha256(f"{seed}:{track}".encode()).digest())
    total = sum(length(usable[track]) for track in order)
    splits: dict[str, Splits] = {}
    held = {"valid": 0, "test": 0}
    shares = {"valid": valid * total, "test": test * total}
    for track in order:
        need = [
            name for name in held if not held[name] or held[name] + length(usable[track]) / 2 < shares[name]
        ]
        name = need[0] if need and len(order) >= 3 else "train"
        if name != "train":
            held[name] += length(usable[track])
        splits[track] = {"train": [], "valid": [], "test": []} | {name: usable[track]}
    return splits


def require_held_out(tracks: Iterable[Splits], guard_seconds: float) -> None:
    """Raise BadInput when no track was long enough to give valid and test anything, or nothing is left to train on."""
    held = dict.fromkeys(("train", "valid", "test"), False)
    for splits in tracks:
        for name, regions in splits.items():
            held[name] |= bool(regions)
    if all(held.values()):
        return
    raise BadInput(
        f"no track is long enough to hold out validation and test audio (at least {MIN_SECONDS:g} s, with three guards "
        f"of {guard_seconds:g} s; or three tracks with split_by=track): add longer files, or lower guard_seconds or "
        "valid and test"
    )


def shared(tracks: Iterable[Splits]) -> tuple[int, int | None]:
    """The proof of a split: how many samples lie in two splits at once, and the fewest between two splits' regions."""
    twice, gap = 0, None
    for splits in tracks:
        rows = sorted((start, stop, name) for name, regions in splits.items() for start, stop in regions)
        twice += sum(stop - start for start, stop, _ in rows) - length(joined(row[:2] for row in rows))
        for (_, stop, left), (start, _, right) in itertools.pairwise(rows):
            if left != right:
                gap = start - stop if gap is None else min(gap, start - stop)
    return twice, gap
