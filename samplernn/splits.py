"""Which samples are for training and which are held out, as a pure function of the track and the config.

Each track gives one held-out block, somewhere inside it, so that every song is heard in training and none of its
held-out seconds are:

    [ train ][guard][ valid ][guard][ test ][guard][ train ]

The guards belong to no split, so that no resampling filter, reverb tail or receptive field reaches across.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from samplernn.errors import BadInput

Splits = dict[str, list[list[int]]]
MIN_SECONDS = 2.0
"""A shorter track goes wholly to train."""
_TRAIN_EDGE_SECONDS = 0.25


def split_track(
    samples: int, sample_rate: int, track: str, *, valid: float, test: float, guard_seconds: float, seed: int
) -> Splits:
    """Regions {split: [[start, stop], ...]} in samples of a track of `samples` samples at sample_rate Hz.

    `valid` and `test` are shares of the track, each rounded to samples. The block's place depends on (seed, track)
    alone. A track that is too short to hold them with their guards, and at least a quarter second of training audio
    on either side, goes wholly to train.
    """
    guard = round(guard_seconds * sample_rate)
    edge = max(1, round(_TRAIN_EDGE_SECONDS * sample_rate))
    held_valid, held_test = round(samples * valid), round(samples * test)
    room = samples - held_valid - held_test - 3 * guard - 2 * edge
    if samples < MIN_SECONDS * sample_rate or room < 0 or not held_valid or not held_test:
        return {"train": [[0, samples]] if samples else [], "valid": [], "test": []}
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{track}".encode()).digest()[:8], "big")
    block = edge + draw % (room + 1)
    valid_at = block + guard
    test_at = valid_at + held_valid + guard
    after = test_at + held_test + guard
    return {
        "train": [[0, block], [after, samples]],
        "valid": [[valid_at, valid_at + held_valid]],
        "test": [[test_at, test_at + held_test]],
    }


def require_held_out(tracks: Iterable[Splits], guard_seconds: float) -> None:
    """Raise BadInput when no track was long enough to give valid and test anything."""
    if any(splits["valid"] and splits["test"] for splits in tracks):
        return
    raise BadInput(
        f"no track is long enough to hold out validation and test audio (at least {MIN_SECONDS:g} s, with three guards "
        f"of {guard_seconds:g} s): add longer files, or lower guard_seconds or valid and test"
    )
