"""The network against the NumPy reference, and its gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samplernn.config import ModelConfig
from samplernn.model import SampleRNN, nll_bits
from tests.samplernn import reference


@st.composite
def configs(draw):
    n_rnn = draw(st.integers(1, 3))
    return ModelConfig(
        frame_sizes=draw(st.sampled_from([(4,), (2, 8), (1, 4), (2, 4, 8)])),
        dim=draw(st.sampled_from([5, 8])),
        n_rnn=n_rnn,
        rnn_type=draw(st.sampled_from(["LSTM", "GRU", "GRU-torch"])),
        skip_conn=n_rnn > 1 and draw(st.booleans()),
        weight_norm=draw(st.booleans()),
        learn_h0=draw(st.booleans()),
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
    state, seen = model.initial_state(1), []
    with torch.no_grad():
        for start in (0, 16):
            logits, state = model(full[:, start : start + 16 + config.context], state)
            seen.append(logits)
    got = torch.cat(seen, dim=1)[0]
    expected = reference.logits(model, codes)
    assert np.allclose(got.numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    mean = nll_bits(got[None], torch.from_numpy(codes)[None], None) / 32
    assert float(mean) == pytest.approx(reference.bits(model, codes), rel=1e-5)


@pytest.mark.parametrize("rnn_type", ["LSTM", "GRU", "GRU-torch"])
def test_gradient_equals_finite_differences_of_the_reference(rnn_type):
    config = ModelConfig(
        frame_sizes=(2, 4), dim=4, n_rnn=2, rnn_type=rnn_type, emb_size=3, q_levels=6, learn_h0=True
    )
    model = made(config, 7)
    codes = np.random.default_rng(1).integers(0, 6, 12)
    full = torch.cat([torch.full((4,), 3), torch.from_numpy(codes)])[None]
    logits, _ = model(full, model.initial_state(1))
    (nll_bits(logits, full[:, 4:], None) / 12).backward()
    rng = np.random.default_rng(2)
    for name, parameter in model.named_parameters():
        index = tuple(rng.integers(0, n) for n in parameter.shape)
        step = 1e-3
        sides = []
        for sign in (1, -1):
            moved = made(config, 7)
            with torch.no_grad():
                dict(moved.named_parameters())[name][index] += sign * step
            exact = float(dict(moved.named_parameters())[name].detach()[index])
            sides.append((exact, reference.bits(moved, codes)))
        slope = (sides[0][1] - sides[1][1]) / (sides[0][0] - sides[1][0])
        assert float(parameter.grad[index]) == pytest.approx(slope, rel=2e-3, abs=2e-5), name


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
