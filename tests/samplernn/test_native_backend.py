"""The native kernel: the reference's logits, the model's distribution, the same bits whatever else goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from samplernn.config import ModelConfig
from samplernn.errors import BadInput, SampleRNNError
from samplernn.folding import fold
from samplernn.generate import native_library
from samplernn.generate.backend import Request
from samplernn.generate.native_backend import PRECISIONS, NativeBackend, unavailable
from samplernn.generate.song_rng import uniforms
from tests.samplernn import reference
from tests.samplernn.asking import FULL
from tests.samplernn.test_model import made

WHY_NOT = unavailable()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
ISAS = [isa for isa in native_library.INSTRUCTION_SETS if not isinstance(native_library.load(isa), str)]

SHAPES = [
    *FULL,
    ModelConfig(dim=64, n_rnn=2, emb_size=8, q_levels=256),
    ModelConfig(frame_sizes=(3,), dim=65, n_rnn=3, emb_size=4, q_levels=2, q_type="linear"),
    ModelConfig(frame_sizes=(2, 70), dim=10, n_rnn=1, skip_conn=False, emb_size=4, q_levels=1000, q_type="linear"),
]  # fmt: skip


def name(config):
    return f"{config.frame_sizes}-{config.rnn_type}-{config.skip_conn}-dim{config.dim}-q{config.q_levels}"


def request(songs, samples, *, slots=None, at=0, temperature=1.0, **more):
    """Song i of `songs` (None: nobody) in slot i."""
    slots = len(songs) if slots is None else slots
    songs = [*songs, *[None] * (slots - len(songs))]
    given = {
        "active": np.array([song is not None for song in songs]),
        "seed": np.full(slots, 7, dtype=np.uint32),
        "song": np.array([song or 0 for song in songs], dtype=np.uint32),
        "start": np.full(slots, at, dtype=np.int64),
        "temperature": np.full((slots, samples), temperature, dtype=np.float32),
        "top_k": np.zeros(slots, dtype=np.int32),
        "top_p": np.ones(slots, dtype=np.float32),
    }
    return Request(**(given | more))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("config", SHAPES, ids=name)
def test_fp32_logits_equal_the_float64_reference(config, isa):
    model, context = made(config, 1), config.context
    length = context * -(-32 // context)
    codes = np.random.default_rng(2).integers(0, config.q_levels, (3, 2 * length)).astype(np.int16)
    backend = NativeBackend(fold(model), 3, threads=2, isa=isa)
    got = np.concatenate([backend.teacher_forced(c) for c in (codes[:, :length], codes[:, length:])], axis=1)
    expected = reference.logits(model, codes[2])
    assert np.abs(got[2] - expected).max() < 1e-4 * np.abs(expected).max()


def with_features(config, count, seed):
    """A folded model whose top tier also reads `count` features, and the same with the features' columns left out."""
    plain = fold(made(config, seed))
    top, frame, rng = plain.tiers[-1], config.frame_sizes[-1], np.random.default_rng(seed)
    layers = []
    for index, layer in enumerate(top.layers):
        if index and not config.skip_conn:
            layers.append(layer)
            continue
        extra = torch.from_numpy(rng.normal(size=(count, layer.w_x.shape[1])).astype(np.float32))
        layers.append(dataclasses.replace(layer, w_x=torch.cat([layer.w_x, extra])))
    tier = dataclasses.replace(top, layers=tuple(layers))
    assert layers[0].w_x.shape[0] == frame + count
    return dataclasses.replace(plain, tiers=(*plain.tiers[:-1], tier)), plain


@pytest.mark.parametrize("config", FULL[:6], ids=name)
def test_constant_features_are_a_shift_of_the_bias(config):
    featured, plain = with_features(config, 3, 4)
    values = np.array([0.5, -1.0, 2.0], dtype=np.float32)
    layers = []
    for index, (layer, old) in enumerate(zip(featured.tiers[-1].layers, plain.tiers[-1].layers, strict=True)):
        seen = index == 0 or config.skip_conn
        shift = torch.from_numpy(values) @ layer.w_x[-3:] if seen else torch.zeros_like(old.bias)
        layers.append(dataclasses.replace(old, bias=old.bias + shift))
    shifted = dataclasses.replace(
        plain, tiers=(*plain.tiers[:-1], dataclasses.replace(plain.tiers[-1], layers=tuple(layers)))
    )
    codes = np.random.default_rng(5).integers(0, 32, (2, 48)).astype(np.int16)
    features = np.tile(values, (2, 48 // config.context, 1))
    got = NativeBackend(featured, 2, threads=1).teacher_forced(codes, features)
    expected = NativeBackend(shifted, 2, threads=1).teacher_forced(codes)
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()
    features[1, -1] += 1  # one song's last frame
    other = NativeBackend(featured, 2, threads=1).teacher_forced(codes, features)
    assert np.array_equal(other[0], got[0])
    assert np.array_equal(other[1, : -config.context], got[1, : -config.context])
    assert not np.allclose(other[1, -1], got[1, -1])


@pytest.fixture(scope="module")
def folded():
    return fold(made(ModelConfig(frame_sizes=(4, 16), dim=72, n_rnn=2, emb_size=8, q_levels=64), 3))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_song_is_the_same_alone_in_a_batch_on_threads_in_any_slot_and_interrupted(folded, precision, isa):
    def backend(slots, threads):
        return NativeBackend(folded, slots, threads=threads, precision=precision, isa=isa)

    songs = list(range(100, 132))
    together = backend(32, 2).advance(request(songs, 192))
    assert len({row.tobytes() for row in together}) == 32
    for index in (0, 5, 31):
        assert np.array_equal(backend(1, 1).advance(request([songs[index]], 192))[0], together[index])
        assert np.array_equal(backend(1, 2).advance(request([songs[index]], 192))[0], together[index])
    for count in (2, 3, 5, 8, 20):  # other ways to share the work
        some = backend(count, 2).advance(request(songs[:count], 192))
        assert np.array_equal(some, together[:count])
    first, second = backend(4, 2), backend(3, 1)
    slots = [None, songs[5], None, songs[0]]
    halves = [first.advance(request(slots, 96))[1]]
    second.load(2, first.save(1))
    halves.append(second.advance(request([None, None, songs[5]], 96, at=96))[2])
    assert np.array_equal(np.concatenate(halves), together[5])


@pytest.mark.skipif(len(ISAS) < 2, reason="this CPU runs one build of the kernel only")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_instruction_set_gives_the_same_bits(folded, precision):
    def run(isa):
        backend = NativeBackend(folded, 9, threads=2, precision=precision, isa=isa)
        codes = backend.advance(request(list(range(9)), 128))
        return backend.engine_id, codes, backend.teacher_forced(codes[:, :16])

    engine, codes, logits = run(ISAS[0])
    for isa in ISAS[1:]:
        other = run(isa)
        assert other[0] == engine
        assert np.array_equal(other[1], codes)
        assert np.array_equal(other[2], logits)


@pytest.mark.parametrize("isa", ISAS)
def test_smaller_weights_stay_close_to_fp32(isa):
    model = fold(made(ModelConfig(frame_sizes=(16,), dim=256, n_rnn=2, q_levels=256), 8))
    codes = np.random.default_rng(0).integers(0, 256, (2, 64)).astype(np.int16)
    exact, bf16, int8 = (
        NativeBackend(model, 2, threads=2, precision=p, isa=isa).teacher_forced(codes) for p in PRECISIONS
    )
    spread = exact.std()
    assert 0 < np.abs(bf16 - exact).max() < 0.05 * spread
    assert 0 < np.abs(int8 - exact).max() < 0.2 * spread


def test_a_million_draws_follow_the_softmax():
    # One frame from silence again and again: the first sample's distribution is known, each song draws one of it.
    model = fold(
        made(ModelConfig(frame_sizes=(1,), dim=8, n_rnn=1, skip_conn=False, emb_size=4, q_levels=16), 5)
    )
    slots, draws, temperature = 1000, 1000, 0.8
    backend = NativeBackend(model, slots, threads=2)
    start = backend.save(0)
    logits = NativeBackend(model, 1, threads=1).teacher_forced(np.zeros((1, 1), dtype=np.int16))[0, 0]
    p = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    counts = np.zeros(16)
    for at in range(draws):
        for slot in range(slots):
            backend.load(slot, start)
        codes = backend.advance(request(list(range(slots)), 1, at=at, temperature=temperature))
        counts += np.bincount(codes[:, 0], minlength=16)
    expected = p / p.sum() * slots * draws
    assert expected.min() > 5
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < 15 + 5 * 30**0.5


def test_draws_invert_the_distribution_at_the_songs_own_uniforms(folded):
    backend = NativeBackend(folded, 1, threads=1)
    codes = backend.advance(request([3], 256, at=1000))[0]
    logits = NativeBackend(folded, 1, threads=1).teacher_forced(codes[None])[0].astype(np.float64)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    cdf = np.cumsum(p, axis=1) / p.sum(axis=1, keepdims=True)
    u = uniforms(7, 3, 1000, 256)
    above = cdf[np.arange(256), codes]
    below = above - (p / p.sum(axis=1, keepdims=True))[np.arange(256), codes]
    assert (below - 1e-5 <= u).all()
    assert (u <= above + 1e-5).all()


def test_temperature_zero_takes_the_most_likely_sample(folded):
    temperature = np.ones((2, 64), dtype=np.float32)
    temperature[1] = 0
    codes = NativeBackend(folded, 2, threads=2).advance(request([1, 2], 64, temperature=temperature))
    logits = NativeBackend(folded, 2, threads=2).teacher_forced(codes)
    assert np.array_equal(logits[1].argmax(axis=1), codes[1])
    assert not np.array_equal(logits[0].argmax(axis=1), codes[0])


def test_top_k_and_top_p_draw_among_the_most_likely_only(folded):
    more = {"top_k": np.array([3, 0, 1], dtype=np.int32), "top_p": np.array([1, 0.5, 1], dtype=np.float32)}
    codes = NativeBackend(folded, 3, threads=2).advance(request([1, 2, 3], 640, **more))
    logits = NativeBackend(folded, 3, threads=2).teacher_forced(codes).astype(np.float64)
    p = np.exp(logits - logits.max(axis=2, keepdims=True))
    p /= p.sum(axis=2, keepdims=True)
    mine = np.take_along_axis(p, codes[:, :, None].astype(np.int64), axis=2)
    before = np.where(p > mine, p, 0).sum(axis=2)  # the probability of all that is likelier
    rank = (p > mine).sum(axis=2)
    assert set(np.unique(rank[0])) == {0, 1, 2}
    assert before[1].max() < 0.5 + 1e-5
    assert rank[1].max() > 3
    assert (rank[2] == 0).all()


def test_forced_codes_are_taken_and_go_on_as_if_drawn(folded):
    whole = NativeBackend(folded, 1, threads=1).advance(request([1], 64))
    forced = np.full((1, 64), -1, dtype=np.int16)
    forced[:, :24] = whole[:, :24]
    assert np.array_equal(NativeBackend(folded, 1, threads=1).advance(request([1], 64, forced=forced)), whole)
    forced[:, :24] = 5
    other = NativeBackend(folded, 1, threads=1).advance(request([1], 64, forced=forced))
    assert (other[:, :24] == 5).all()
    assert not np.array_equal(other[:, 24:], whole[:, 24:])


def test_a_slot_is_reset_to_silence_and_the_models_start_or_a_given_one():
    config = ModelConfig(frame_sizes=(16,), dim=24, n_rnn=2, emb_size=8, q_levels=32, learn_h0=True)
    backend = NativeBackend(fold(made(config, 6)), 2, threads=1)
    fresh = backend.save(1)
    songs = backend.advance(request([1, 1], 32))
    assert np.array_equal(songs[0], songs[1])
    backend.reset(0)
    assert all(np.array_equal(value, fresh[key]) for key, value in backend.save(0).items())
    backend.reset(1, [np.full((2, 2, 24), 0.5, dtype=np.float32)])
    assert (backend.save(1)["rnn.0"] == 0.5).all()
    again = backend.advance(request([1, 1], 32))
    assert np.array_equal(again[0], songs[0])
    assert not np.array_equal(again[1], songs[0])


def test_engine_ids_name_what_the_samples_depend_on(folded):
    ids = {p: NativeBackend(folded, 1, threads=1, precision=p, isa=ISAS[0]).engine_id for p in PRECISIONS}
    assert ids == {"fp32": "native-fp32-v1", "bf16": f"native-bf16-{ISAS[0]}-v1", "int8": "native-int8-v1"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forced": np.full((1, 16), 64, dtype=np.int16)}, "forced codes must be below 64"),
        ({"features": np.ones((1, 1, 2), dtype=np.float32)}, "this model needs None"),
        ({"seed": np.zeros(2, dtype=np.uint32)}, r"seed is \(2,\) and must be \(1,\)"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(folded, change, message):
    with pytest.raises(BadInput, match=message):
        NativeBackend(folded, 1, threads=1).advance(request([1], 16, **change))


def test_a_block_that_ends_within_a_frame_is_refused(folded):
    with pytest.raises(BadInput, match="block of 10 samples is not a multiple of the largest frame, 16"):
        NativeBackend(folded, 1, threads=1).advance(request([1], 10))


@pytest.mark.parametrize("change", [{"slots": 0}, {"threads": 0}, {"precision": "fp16"}])
def test_settings_out_of_range_are_refused(folded, change):
    with pytest.raises(BadInput):
        NativeBackend(folded, **({"slots": 1, "threads": 1} | change))


def test_a_library_that_is_missing_or_broken_is_named_with_the_fix(folded, tmp_path, monkeypatch):
    monkeypatch.setattr(native_library, "FOLDER", tmp_path)
    native_library.load.cache_clear()
    try:
        assert "is not built for amx or avx512 or avx2: build it with `make setup`" in str(unavailable())
        Path(tmp_path, f"avx2{native_library.EXTENSION_SUFFIXES[0]}").write_bytes(b"not a library")
        native_library.load.cache_clear()
        assert "can't be loaded" in str(unavailable())
        with pytest.raises(SampleRNNError, match="make setup"):
            NativeBackend(folded, 1)
    finally:
        monkeypatch.undo()
        native_library.load.cache_clear()
