"""The songs' random streams: the published Philox, any piece of a stream, the same bits from torch."""

from __future__ import annotations

import numpy as np
import torch

from samplernn.generate.song_rng import START, philox, seed_again, uniforms, uniforms_beside


def test_philox_gives_the_published_answers():
    def words(*values):
        return tuple(np.array([v], dtype=np.uint64) for v in values)

    def run(counter, key):
        there = [int(w[0]) for w in philox(words(*counter), key)]
        tensors = [torch.tensor([value]) for value in counter]
        assert [int(w[0]) for w in philox(tensors, key)] == there
        return there

    full = 0xFFFFFFFF
    assert run((0, 0, 0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert run((full,) * 4, (full,) * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert run(pi, (0xA4093822, 0x299F31D0)) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_any_piece_of_a_stream_is_the_same():
    whole = uniforms(3, 4, 0, 1000)
    assert np.array_equal(uniforms(3, 4, 137, 500), whole[137:637])
    assert whole.min() > 0
    assert whole.max() < 1


def test_songs_side_by_side_in_torch_have_numpys_bits():
    seeds, songs, starts = [3, 2**32 - 1, 3], [4, 2**31, 5], [0, 137, 2**34 + 3]
    drawn = uniforms_beside(*map(torch.tensor, (seeds, songs, starts)), count=77).numpy()
    for row, key in zip(drawn, zip(seeds, songs, starts, strict=True), strict=True):
        assert np.array_equal(row, uniforms(*key, 77))


def test_a_songs_streams_and_takes_have_nothing_in_common():
    samples, start = uniforms(3, 4, 0, 400), uniforms(3, 4, 0, 400, START)
    takes = [seed_again(3, 4, take) for take in range(4)]
    assert takes[0] == 3
    assert len(set(takes)) == 4
    assert not set(samples) & set(start)
    assert takes[1:] != [seed_again(3, 5, take) for take in range(1, 4)]
