"""The engine: the training graph's logits, the model's distribution, songs that depend on nothing but themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplernn.config import ModelConfig
from samplernn.folding import fold
from samplernn.generate.engine import Engine, Song, generate_whole
from samplernn.generate.song_rng import philox, uniforms
from samplernn.generate.torch_backend import TorchBackend
from tests.samplernn import reference
from tests.samplernn.test_model import made

FULL = [
    ModelConfig(
        frame_sizes=sizes, dim=24, n_rnn=2, rnn_type=rnn, skip_conn=skip, emb_size=emb, q_levels=32, learn_h0=True
    )
    for sizes in [(16,), (4, 16), (2, 8, 16)]
    for rnn in ["LSTM", "GRU", "GRU-torch"]
    for skip, emb in [(True, 8), (False, 0)]
]  # fmt: skip


@pytest.mark.parametrize("config", FULL, ids=lambda c: f"{c.frame_sizes}-{c.rnn_type}-{c.skip_conn}")
def test_teacher_forced_logits_equal_the_training_graphs(config):
    model = made(config, 1)
    codes = torch.randint(0, 32, (4, 64))
    past = torch.full((4, config.context), config.q_zero)
    with torch.no_grad():
        expected, _ = model(torch.cat([past, codes], dim=1), model.initial_state(4))
    backend = TorchBackend(fold(model), 4)
    got = torch.cat([backend.teacher_forced(codes[:, :16]), backend.teacher_forced(codes[:, 16:])], dim=1)
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert np.allclose(got[0].numpy(), reference.logits(model, codes[0].numpy()), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def folded():
    config = ModelConfig(frame_sizes=(4, 16), dim=32, n_rnn=2, emb_size=8, q_levels=64)
    return fold(made(config, 3))


def test_a_song_does_not_depend_on_its_neighbours_or_its_slot(folded):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    songs = [Song(5, i, 1500 + 170 * i, temperature=0.8 + 0.05 * i) for i in range(11)]
    together = generate_whole(Engine(folded), songs)
    for song, pcm in zip(songs, together, strict=True):
        assert len(pcm) == song.samples
        assert np.array_equal(generate_whole(Engine(folded), [song])[0], pcm)
    assert not np.array_equal(together[0][:1000], together[1][:1000])
    torch.set_num_threads(threads)


def test_temperature_zero_takes_the_most_likely_sample(folded):
    backend = TorchBackend(folded, 2)
    codes = backend.advance(torch.rand(2, 32), torch.zeros(2))
    logits = TorchBackend(folded, 2).teacher_forced(codes)
    assert torch.equal(logits.argmax(dim=2), codes)


def test_first_samples_follow_the_softmax(folded):
    backend = TorchBackend(folded, 64)
    probabilities = torch.softmax(
        TorchBackend(folded, 64).teacher_forced(torch.zeros(64, 16, dtype=torch.int64))[0, 0], 0
    )
    counts, draws = torch.zeros(64), 200
    for block in range(draws):
        for slot in range(64):
            backend.reset(slot)
        u = torch.from_numpy(np.stack([uniforms(9, slot, 16 * block, 16) for slot in range(64)]))
        counts += torch.bincount(backend.advance(u, torch.ones(64))[:, 0], minlength=64)
    expected = probabilities * 64 * draws
    seen = expected > 5
    chi2 = float(((counts - expected)[seen] ** 2 / expected[seen]).sum())
    freedom = int(seen.sum()) - 1
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5


def test_philox_gives_the_published_answers():
    def words(*values):
        return tuple(np.array([v], dtype=np.uint64) for v in values)

    def run(counter, key):
        return [int(w[0]) for w in philox(words(*counter), key)]

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
    assert abs(float(uniforms(3, 4, 0, 100_000).mean()) - 0.5) < 0.005
