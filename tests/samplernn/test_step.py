"""The optimiser step: what its settings change, and what they must not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplernn.checkpoint import Training
from samplernn.config import Experiment, TrainConfig
from samplernn.errors import OutOfMemory
from samplernn.memory import advice, needed, out_of_memory, parameters
from samplernn.model import SampleRNN
from samplernn.prefetch import Prefetch
from samplernn.step import gradient_norm, learning_rate, optimiser, train_step
from samplernn.windows import Batch
from tests.made import tiny_experiment

CPU = torch.device("cpu")


def fresh(experiment: Experiment) -> Training:
    model = SampleRNN.seeded(experiment.model, 0)
    batch = experiment.train.batch_size
    return Training(
        model, optimiser(model.parameters(), experiment.train), model.initial_state(batch), torch.Generator(),
        model.bits,
    )  # fmt: skip


def some_batch(experiment: Experiment, seed: int = 0) -> Batch:
    rng, config = np.random.default_rng(seed), experiment.model
    shape = (experiment.train.batch_size, experiment.seq_len)
    codes = rng.integers(0, config.q_levels, (shape[0], config.context + shape[1])).astype(np.int16)
    features = rng.random((shape[0], shape[1] // config.context, 1)).astype(np.float32)
    weight = (rng.random(shape) < 0.8).astype(np.float32)
    return Batch(
        torch.from_numpy(codes),
        torch.from_numpy(weight),
        torch.from_numpy(features) if config.features else None,
        starts_chunk=seed == 0,
    )


def with_model(experiment: Experiment, **changes) -> Experiment:
    return Experiment(
        model=experiment.model.model_validate({**experiment.model.model_dump(), **changes}),
        train=experiment.train,
    )


def after(experiment: Experiment, steps: int = 3) -> torch.Tensor:
    """All weights after some steps, flat."""
    run = fresh(experiment)
    for step in range(steps):
        train_step(run, some_batch(experiment, step), experiment.train)
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


@pytest.mark.parametrize("clip_by", ["element", "norm"])
def test_accumulation_is_the_same_step(clip_by):
    whole = tiny_experiment(batch_size=4, clip_by=clip_by, grad_clip=0.05)
    parts = tiny_experiment(batch_size=4, clip_by=clip_by, grad_clip=0.05, accumulate=2)
    losses = [train_step(fresh(e), some_batch(e), e.train) for e in (whole, parts)]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-6)
    assert torch.allclose(after(whole), after(parts), atol=2e-4)


@pytest.mark.parametrize(("clip_by", "bound"), [("element", 0.01), ("norm", 0.01)])
def test_gradients_are_clipped(clip_by, bound):
    experiment = tiny_experiment(clip_by=clip_by, grad_clip=bound)
    run = fresh(experiment)
    train_step(run, some_batch(experiment), experiment.train)
    largest = max(float(p.grad.abs().max()) for p in run.model.parameters())
    assert largest == pytest.approx(bound, rel=1e-5) or clip_by == "norm"
    if clip_by == "norm":
        assert float(gradient_norm(run)) == pytest.approx(bound, rel=1e-3)


def test_schedules():
    assert learning_rate(TrainConfig(learning_rate=0.1), 5000) == 0.1
    halves = TrainConfig(learning_rate=0.1, lr_schedule="exponential", lr_decay_after=100, lr_half_life=50)
    assert [learning_rate(halves, s) for s in (0, 100, 150, 200)] == pytest.approx([0.1, 0.1, 0.05, 0.025])
    cosine = TrainConfig(learning_rate=0.1, lr_schedule="cosine", max_steps=200, lr_decay_after=100)
    assert [learning_rate(cosine, s) for s in (100, 150, 200)] == pytest.approx([0.1, 0.05, 0.0])


def test_weight_decay_pulls_weights_to_zero():
    decays = tiny_experiment(optimiser="adamw", weight_decay=0.5, learning_rate=0.01)
    plain = tiny_experiment(optimiser="adamw", learning_rate=0.01)
    assert float(after(decays).norm()) < float(after(plain).norm())


@pytest.mark.parametrize(
    "changes", [{"dropout": 0.5}, {"random_h0": True}, {"features": ["onset"]}, {"skip_conn": False}]
)
def test_a_step_is_a_function_of_its_number(changes):
    """What is drawn depends on (seed, step) alone: twice the same, and another with another seed or number."""
    experiment = with_model(tiny_experiment(), **changes)
    assert torch.equal(after(experiment), after(experiment))
    if {"dropout", "random_h0"} & set(changes):
        run, later = fresh(experiment), fresh(experiment)
        later.step = 7
        batch = some_batch(experiment)
        assert float(train_step(run, batch, experiment.train)) != float(
            train_step(later, batch, experiment.train)
        )


def test_dropout_is_off_without_noise():
    experiment = with_model(tiny_experiment(), dropout=0.9)
    run, batch = fresh(experiment), some_batch(experiment)
    start = run.model.initial_state(3)
    quiet, _ = run.model.bits(batch.codes, start, batch.weight)
    same = SampleRNN.seeded(tiny_experiment().model, 0)
    expected, _ = same.bits(batch.codes, same.initial_state(3), batch.weight)
    assert float(quiet.detach()) == float(expected.detach())


def test_random_h0_lies_in_the_originals_range():
    model = SampleRNN.seeded(with_model(tiny_experiment(), random_h0=True).model, 0)
    (first, *_) = model.initial_state(50, torch.Generator().manual_seed(1))
    assert -0.5 <= float(first.min()) < -0.4
    assert 0.4 < float(first.max()) < 0.5
    assert float(model.initial_state(50)[0].abs().max()) == 0


@pytest.mark.parametrize("rnn_type", ["LSTM", "GRU", "GRU-torch"])
@pytest.mark.parametrize(
    "changes", [{}, {"learn_h0": True, "emb_size": 0}, {"weight_norm": False, "features": ["onset"]}]
)
def test_parameters_are_counted(rnn_type, changes):
    config = with_model(tiny_experiment(), rnn_type=rnn_type, **changes).model
    assert parameters(config) == sum(p.numel() for p in SampleRNN.seeded(config, 0).parameters())


def test_out_of_memory_says_what_did_not_fit_and_what_would():
    experiment = tiny_experiment(batch_size=64, seq_len=4096)
    error = out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried"), experiment, CPU)
    assert isinstance(error, OutOfMemory)
    assert "batch_size 64" in str(error)
    need = needed(experiment)
    assert needed(tiny_experiment(batch_size=32, seq_len=4096)).window * 2 == need.window
    advised = advice(experiment, need.total - need.window // 2)
    assert "accumulate=2" in advised
    assert "batch_size=32" in advised


def test_prefetch_gives_items_in_order_and_raises_what_making_raised():
    def make(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number * number

    items = Prefetch(make, 2)
    each = iter(items)
    assert [next(each) for _ in range(3)] == [4, 9, 16]
    with pytest.raises(ValueError, match="five"):
        next(each)
    items.close()


def test_prefetch_closed_early_ends_its_thread():
    items = Prefetch(lambda number: number, 0)
    assert next(iter(items)) == 0
    items.close()
    assert not items._thread.is_alive()
