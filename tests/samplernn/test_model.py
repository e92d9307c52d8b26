"""The network against the NumPy reference, and its gradients against finite differences."""

from __future__ import annotations

import platform
import shutil
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from samplernn import kernels
from samplernn.config import ModelConfig
from samplernn.model import BITS_PER_NAT, SampleRNN, nll_bits
from tests.samplernn import reference

STEP = 1e-8
"""Of the float64 reference's parameters, for a central difference: small, so that hardly any ReLU turns on the way."""
ROUNDED = 3e-6
"""Float32's rounding in a slope of a loss of some 20 bits: what is left of one that is 0 (a norm undoes its scale)."""


@st.composite
def configs(draw):
    n_rnn = draw(st.integers(1, 3))
    return ModelConfig(
        frame_sizes=draw(st.sampled_from([(4,), (2, 8), (1, 4), (2, 4, 8)])),
        dim=draw(st.sampled_from([5, 16])),
        n_rnn=n_rnn,
        rnn_type=draw(st.sampled_from(["LSTM", "GRU", "GRU-torch"])),
        skip_conn=n_rnn > 1 and draw(st.booleans()),
        weight_norm=draw(st.booleans()),
        learn_h0=draw(st.booleans()),
        features=draw(st.sampled_from([(), ("onset",)])),
        emb_size=draw(st.sampled_from([0, 3])),
        q_levels=draw(st.sampled_from([5, 8])),
    )


def made(config: ModelConfig, seed: int = 0) -> SampleRNN:
    """A model whose every parameter is random: learned states and biases too."""
    model = SampleRNN.seeded(config, seed)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@given(config=configs(), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_logits_and_bits_of_two_windows_equal_the_reference(config, seed):
    model = made(config, seed).eval()
    codes = np.random.default_rng(seed).integers(0, config.q_levels, 32)
    full = torch.cat([torch.full((config.context,), config.q_zero), torch.from_numpy(codes)])[None]
    rng = np.random.default_rng(seed)
    features = rng.random((32 // config.context, 1)) if config.features else None
    mask = rng.random(32) < 0.7
    state, seen, bits = model.initial_state(1), [], 0.0
    with torch.no_grad():
        for start in (0, 16):
            part = slice(start // config.context, (start + 16) // config.context)
            given = None if features is None else torch.from_numpy(features[part]).float()[None]
            window = full[:, start : start + 16 + config.context]
            weight = torch.from_numpy(mask[start : start + 16]).float()[None]
            bits += float(model.bits(window, state, weight, features=given)[0])
            logits, state = model(window, state, given)
            seen.append(logits)
    got = torch.cat(seen, dim=1)[0]
    expected = reference.logits(model, codes, features)
    assert np.allclose(got.numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert bits == pytest.approx(reference.bits(model, codes, mask, features), rel=1e-5)


@pytest.mark.parametrize("dim", [12, 16])
@pytest.mark.parametrize("rnn_type", ["LSTM", "GRU", "GRU-torch"])
@pytest.mark.parametrize("built", [True, False], ids=["native", "torch"])
def test_gradients_of_the_short_way_equal_the_plain_ways(monkeypatch, built, rnn_type, dim):
    """The short way folds L2 (many positions) or does not (few), in C++ or in torch; autograd walks the plain one."""
    library = kernels.library
    for emb_size, q_levels, frames in ((3, 40, 40), (0, 9, 40), (8, 33, 1)):
        config = ModelConfig(
            frame_sizes=(2, 4), dim=dim, n_rnn=2, rnn_type=rnn_type, learn_h0=True, emb_size=emb_size,
            q_levels=q_levels,
        )  # fmt: skip
        model, rng = made(config, 3), torch.Generator().manual_seed(4)
        codes = torch.randint(0, q_levels, (3, 4 + 4 * frames), generator=rng)
        weight = torch.rand((3, 4 * frames), generator=rng)
        monkeypatch.setattr(kernels, "library", lambda: None)
        logits, _ = model(codes, model.initial_state(3))
        nats = cross_entropy(logits.flatten(0, 1), codes[:, 4:].flatten(), reduction="none")
        expected = (nats * weight.flatten()).sum() * BITS_PER_NAT
        wanted = torch.autograd.grad(expected, list(model.parameters()))
        if built:
            monkeypatch.setattr(kernels, "library", library)
        bits, _ = model.bits(codes, model.initial_state(3), weight)
        got = torch.autograd.grad(bits * 2, list(model.parameters()))
        assert float(bits.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
        for (name, _), one, other in zip(model.named_parameters(), got, wanted, strict=True):
            assert torch.allclose(one / 2, other, rtol=1e-5, atol=5e-6 * float(other.abs().max())), name


def test_the_native_passes_are_built_where_they_can_be():
    if sys.platform != "linux" or platform.machine() != "x86_64" or shutil.which("g++") is None:
        pytest.skip("no C++ compiler or no x86-64 Linux: torch's own operations serve")
    assert kernels.library() is not None, "build them with: python setup.py build_ext --inplace"


def test_native_results_do_not_depend_on_the_number_of_threads():
    config = ModelConfig(frame_sizes=(4,), dim=64, n_rnn=2, emb_size=8, q_levels=32)
    model = made(config)
    table, x = torch.randn(4 * 32, 64), torch.randn(512, 64)
    codes = torch.randint(0, 32, (600,), dtype=torch.int32)
    starts = torch.arange(512, dtype=torch.int32)
    seen = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        rows, into = x.clone(), torch.zeros_like(table)
        kernels.add_rows_(rows, torch.zeros(256), table, codes, starts, 4, relu=True)
        kernels.scatter_rows_(into, rows, codes, starts, 4)
        out, end = model.frame_tiers[0].rnn.eval()(torch.randn(8, 3, 4, generator=torch.Generator().manual_seed(1)),
                                                   model.frame_tiers[0].rnn.initial_state(3))  # fmt: skip
        seen.append((rows, into, out, end))
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_bf16_stays_near_fp32():
    config = ModelConfig(frame_sizes=(4,), dim=64, n_rnn=2, emb_size=8, q_levels=32)
    model = made(config)
    codes, weight = torch.randint(0, 32, (4, 4 + 256)), torch.full((4, 256), 1 / 1024)
    exact, _ = model.bits(codes, model.initial_state(4), weight)
    wanted = torch.autograd.grad(exact, list(model.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = model.bits(codes, model.initial_state(4), weight)
    got = torch.autograd.grad(rounded, list(model.parameters()))
    assert float(rounded.detach()) == pytest.approx(float(exact.detach()), rel=2e-3)
    assert all(g.dtype == torch.float32 for g in got)
    one, other = (torch.cat([g.flatten() for g in grads]) for grads in (got, wanted))
    assert float(torch.nn.functional.cosine_similarity(one, other, dim=0)) > 0.995


@given(config=configs(), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None, derandomize=True)  # one in some thousand would meet a ReLU's corner
def test_gradients_equal_finite_differences_of_the_reference(config, seed):
    """Along a random direction of each parameter, so that every element counts; both ways of the loss."""
    model, rng = made(config, seed), np.random.default_rng(seed)
    codes = rng.integers(0, config.q_levels, 16)
    full = torch.cat([torch.full((config.context,), config.q_zero), torch.from_numpy(codes)])[None]
    weight = rng.random(16)
    features = rng.random((16 // config.context, 1)) if config.features else None
    given = None if features is None else torch.from_numpy(features).float()[None]
    short, _ = model.bits(
        full, model.initial_state(1), torch.from_numpy(weight).float()[None], features=given
    )
    logits, _ = model(full, model.initial_state(1), given)
    nats = cross_entropy(logits[0], full[0, config.context :], reduction="none")
    plain = (nats * torch.from_numpy(weight).float()).sum() * BITS_PER_NAT
    named = dict(model.named_parameters())
    for loss in (short, plain):
        gradients = torch.autograd.grad(loss, list(named.values()), retain_graph=True)
        for name, gradient in zip(named, gradients, strict=True):
            way = rng.standard_normal(gradient.shape)
            sides = [
                reference.bits(model, codes, weight, features, {name: sign * STEP * way}) for sign in (1, -1)
            ]
            slope = (sides[0] - sides[1]) / (2 * STEP)
            exact = gradient.double().numpy()
            size = np.linalg.norm(exact) * np.linalg.norm(way)
            assert float((exact * way).sum()) == pytest.approx(slope, abs=1e-5 * size + ROUNDED), name


def test_masked_targets_do_not_count():
    logits = torch.randn(2, 6, 8)
    targets = torch.randint(0, 8, (2, 6))
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    expected = nll_bits(logits[:1], targets[:1], None) + nll_bits(logits[1:, :2], targets[1:, :2], None)
    assert float(nll_bits(logits, targets, mask)) == pytest.approx(float(expected), rel=1e-6)


@torch.no_grad()
def test_initialisation_is_the_references():
    config = ModelConfig(frame_sizes=(16,), dim=64, n_rnn=2, rnn_type="LSTM", skip_conn=False)
    model = SampleRNN.seeded(config, 0)
    first = model.frame_tiers[0].rnn.inputs[0]
    assert float(first.bias[64:128].min()) == 3.0
    assert float(first.bias[:64].abs().max()) == 0.0
    assert float(model.sample_tier.l2.v.std()) == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert float(first.v.std()) == pytest.approx((1 / 16) ** 0.5, rel=0.05)
    assert torch.allclose(first.weight, first.v)
    gru = (
        SampleRNN.seeded(config.model_copy(update={"rnn_type": "GRU"}), 0)
        .frame_tiers[0]
        .rnn.recurrent[0]
        .weight
    )
    assert torch.allclose(gru[128:] @ gru[128:].T, torch.eye(64), atol=1e-5)
