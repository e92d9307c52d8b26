"""The portable backend: the training graph's logits for every kind of model, and the model's distribution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from samplernn.config import ModelConfig
from samplernn.errors import BadInput
from samplernn.folding import FoldedModel, fold
from samplernn.generate import backends
from samplernn.generate.backends import choose_backend, serving
from samplernn.generate.cuda_backend import Recorder
from samplernn.generate.frame import Frame, Variant
from samplernn.generate.torch_backend import TorchBackend
from tests.samplernn import reference
from tests.samplernn.asking import FULL, limited, request
from tests.samplernn.test_model import made

CPU = torch.device("cpu")


@pytest.mark.parametrize("config", FULL, ids=lambda c: f"{c.frame_sizes}-{c.rnn_type}-{c.skip_conn}")
def test_teacher_forced_logits_equal_the_training_graphs(config):
    model = made(config, 1)
    codes = torch.randint(0, 32, (4, 64))
    past = torch.full((4, config.context), config.q_zero)
    with torch.no_grad():
        expected, _ = model(torch.cat([past, codes], dim=1), model.initial_state(4))
    given = codes.numpy().astype(np.int16)
    backend = TorchBackend(fold(model), 4)
    got = np.concatenate(
        [backend.teacher_forced(given[:, :16]), backend.teacher_forced(given[:, 16:])], axis=1
    )
    assert np.allclose(got, expected.numpy(), rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert np.allclose(got[0], reference.logits(model, given[0]), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def folded() -> FoldedModel:
    return fold(made(ModelConfig(frame_sizes=(4, 16), dim=32, n_rnn=2, emb_size=8, q_levels=64), 3))


def test_bf16_weights_stay_near_float32(folded):
    codes = np.random.default_rng(0).integers(0, 64, (3, 64)).astype(np.int16)
    plain = TorchBackend(folded, 3).teacher_forced(codes)
    half = TorchBackend(folded, 3, precision="bf16").teacher_forced(codes)
    assert 0 < np.abs(half - plain).max() < 0.03 * np.abs(plain).max()


@pytest.mark.parametrize("skip", [True, False])
def test_features_enter_every_layer_that_sees_the_tiers_input(skip):
    """Constant features are a bias: the widened rows times the features, in each layer that has them."""
    model = fold(
        made(ModelConfig(dim=16, n_rnn=2, skip_conn=skip, emb_size=4, q_levels=16, frame_sizes=(2, 4)), 2)
    )
    rng = np.random.default_rng(4)
    features = rng.normal(size=3).astype(np.float32)
    wide, shifted = [], []
    for index, layer in enumerate(model.tiers[-1].layers):
        seen = index == 0 or skip
        rows = torch.from_numpy(rng.normal(size=(3, layer.bias.shape[0])).astype(np.float32))
        wide.append(replace(layer, w_x=torch.cat((layer.w_x, rows))) if seen else layer)
        shifted.append(replace(layer, bias=layer.bias + torch.from_numpy(features) @ rows) if seen else layer)

    def with_layers(layers):
        return replace(model, tiers=(model.tiers[0], replace(model.tiers[1], layers=tuple(layers))))

    codes = rng.integers(0, 16, (2, 12)).astype(np.int16)
    conditioned = TorchBackend(with_layers(wide), 2)
    assert with_layers(wide).features == 3
    got = conditioned.teacher_forced(codes, np.tile(features, (2, 3, 1)))
    assert np.allclose(got, TorchBackend(with_layers(shifted), 2).teacher_forced(codes), atol=1e-5)
    assert not np.allclose(got[:, 4:], TorchBackend(model, 2).teacher_forced(codes)[:, 4:], atol=1e-2)


def test_temperature_zero_takes_the_most_likely_sample(folded):
    codes = TorchBackend(folded, 2).advance(request(2, 32, temperature=0))
    logits = TorchBackend(folded, 2).teacher_forced(codes)
    assert np.array_equal(logits.argmax(axis=2), codes)
    assert np.array_equal(TorchBackend(folded, 2).advance(request(2, 32, top_k=1)), codes)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1, 0, 1), (0.7, 0, 1), (1, 5, 1), (1, 0, 0.6), (1.3, 7, 0.8)]
)
def test_draws_follow_the_softmax(temperature, top_k, top_p):
    """Levels drawn, against the sum of the probabilities that each draw had: 250,000 draws, 5 sigma a level."""
    model = fold(
        made(ModelConfig(frame_sizes=(2,), dim=6, n_rnn=1, skip_conn=False, emb_size=2, q_levels=12), 5)
    )
    slots, samples = 1000, 250
    asked = request(slots, samples, temperature=temperature, top_k=top_k, top_p=top_p)
    codes = TorchBackend(model, slots).advance(asked)
    logits = TorchBackend(model, slots).teacher_forced(codes).reshape(-1, 12) / np.float32(temperature)
    if top_k or top_p < 1:
        logits, drawn = logits[::10], codes.reshape(-1)[::10]
        p = limited(logits, top_k, top_p)
    else:
        drawn = codes.reshape(-1)
        p = np.exp(logits.astype(np.float64))
        p /= p.sum(axis=1, keepdims=True)
    assert (p[np.arange(len(drawn)), drawn] > 0).mean() > 0.9999  # a tie in rounding may differ
    surplus = np.bincount(drawn, minlength=12) - p.sum(axis=0)
    sigma = np.sqrt((p * (1 - p)).sum(axis=0))
    assert (np.abs(surplus) < 5 * sigma + 1e-6 * len(drawn)).all()


def test_a_million_draws_of_one_distribution_pass_chi_square():
    model = fold(
        made(ModelConfig(frame_sizes=(4,), dim=4, n_rnn=1, skip_conn=False, emb_size=2, q_levels=32), 6)
    )
    still = replace(model, w_out=torch.zeros_like(model.w_out))  # every sample has the bias's softmax
    codes = TorchBackend(still, 1000).advance(request(1000, 1000))
    expected = torch.softmax(still.b_out.double(), 0).numpy() * codes.size
    counts = np.bincount(codes.reshape(-1), minlength=32)
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < 31 + 5 * 62**0.5


def test_one_songs_limits_change_nothing_of_another(folded):
    plain = TorchBackend(folded, 3).advance(request(3, 64))
    mixed = request(3, 64, top_k=[0, 3, 0], top_p=[1, 1, 0.5])
    mixed.temperature[2] = 0
    got = TorchBackend(folded, 3).advance(mixed)
    assert np.array_equal(got[0], plain[0])
    assert not np.array_equal(got[1], plain[1])


def test_forced_codes_are_taken_and_the_rest_is_drawn(folded):
    forced = np.full((2, 64), -1, dtype=np.int16)
    forced[0, :20] = np.arange(20)
    got = TorchBackend(folded, 2).advance(request(2, 64, forced=forced))
    assert np.array_equal(got[0, :20], np.arange(20))
    assert np.array_equal(got[1], TorchBackend(folded, 2).advance(request(2, 64))[1])


def test_saved_state_goes_on_in_another_slot_and_backend(folded):
    whole = TorchBackend(folded, 2).advance(request(2, 96))
    first, second = TorchBackend(folded, 2), TorchBackend(folded, 2)
    first.advance(request(2, 32))
    state = first.save(1)
    first.advance(request(2, 32, start=32))
    second.load(0, state)
    asked = request(2, 64, start=32)
    asked.song[:] = 1
    assert np.array_equal(second.advance(asked)[0], whole[1, 32:])
    with pytest.raises(BadInput, match="another model's"):
        second.load(0, {name: array for name, array in state.items() if name != "rnn.1"})


def test_reset_starts_from_silence_and_h0(folded):
    codes = np.random.default_rng(0).integers(0, 64, (2, 16)).astype(np.int16)
    backend = TorchBackend(folded, 2)
    fresh = backend.teacher_forced(codes)
    backend.reset(0)
    backend.reset(1, [np.full((2, 2, 32), 0.3, dtype=np.float32)] * 2)
    again = backend.teacher_forced(codes)
    assert np.array_equal(again[0], fresh[0])
    assert not np.allclose(again[1], fresh[1], atol=1e-3)


def test_a_frame_asks_the_device_for_no_value_in_any_variant(folded):
    """On the meta device, where there are no values, looking at one raises: what a CUDA graph can't record."""
    meta = Frame(folded.to(torch.device("meta"), torch.bfloat16), 3)
    for cold in (False, True):
        for limit in (False, True):
            for forced in (False, True):
                meta.run(Variant(cold, limit, forced, logits=True))
    with pytest.raises(RuntimeError):
        bool(meta.codes.sum())


def test_a_frame_works_on_the_same_buffers_every_time(folded):
    frame = Frame(folded, 2)
    buffers = [frame.codes, *frame.states]
    before = [(buffer.data_ptr(), buffer.clone()) for buffer in buffers]
    frame.run(Variant())
    now = [frame.codes, *frame.states]
    assert [buffer.data_ptr() for buffer in now] == [at for at, _ in before]
    assert not any(torch.equal(buffer, old) for buffer, (_, old) in zip(now, before, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_graphs_give_the_portable_backends_samples_and_logits(folded):
    placed = folded.to(torch.device("cuda"))
    eager, replayed = TorchBackend(placed, 4), TorchBackend(placed, 4, run=Recorder())
    for start in (0, 64):
        asked = request(4, 64, start=start, temperature=0.9)
        assert np.array_equal(eager.advance(asked), replayed.advance(asked))
    codes = np.random.default_rng(0).integers(0, 64, (4, 32)).astype(np.int16)
    on_cpu, on_cuda = TorchBackend(folded, 4), TorchBackend(placed, 4, run=Recorder())
    assert np.allclose(on_cpu.teacher_forced(codes), on_cuda.teacher_forced(codes), atol=1e-3)


def test_backend_that_is_not_there_is_refused_with_the_reason(folded):
    with pytest.raises(BadInput, match="needs a CUDA device"):
        serving(CPU, "cuda")
    with pytest.raises(BadInput, match="int8 weights are the native kernel's"):
        serving(CPU, "torch", "int8")
    served = serving(CPU, "torch", "bf16")
    assert (served.name, served.fix) == ("torch", "")
    backend, _ = choose_backend(folded, CPU, wanted="torch", slots=3)
    assert (backend.slots, "threads1" in backend.engine_id) == (3, True)


def test_native_kernel_that_does_not_load_leaves_the_portable_backend_and_its_remedy(folded, monkeypatch):
    monkeypatch.setattr(backends, "why_no_native", lambda: "it is not built: run make setup")
    backend, served = choose_backend(folded, CPU)
    assert isinstance(backend, TorchBackend)
    assert "times slower" in served.said
    assert served.fix == "it is not built: run make setup"
    with pytest.raises(BadInput, match="native can't be used: it is not built"):
        choose_backend(folded, CPU, wanted="native")
    with pytest.raises(BadInput, match=r"int8 weights are the native kernel's.*it is not built"):
        choose_backend(folded, CPU, precision="int8")


def test_weights_that_are_no_numbers_are_refused(folded):
    poisoned = replace(folded, b3=folded.b3 * float("nan"))
    with pytest.raises(BadInput, match="NaN or infinite"):
        choose_backend(poisoned, CPU)
