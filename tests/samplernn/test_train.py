"""Training: resumed runs are bit-equal, damaged checkpoints are never loaded, and the loss falls."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from samplernn.attempts import begin_attempt, list_commits, read_lineage, read_metrics, step_name
from samplernn.checkpoint import Snapshot, load_model
from samplernn.chunks import Dataset
from samplernn.errors import Damaged, Diverged, OutOfMemory, StorageError
from samplernn.step import train_step
from samplernn.storage import Storage
from samplernn.train import Logged, Saved, Started, Stepped, train
from samplernn.windows import TrainingWindows
from tests.made import tiny_experiment, write_dataset

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def dataset(tmp_path):
    write_dataset(Storage.open(tmp_path / "data"))
    return Dataset.open(Storage.open(tmp_path / "data"), tmp_path / "cache")


def run(experiment, dataset, trial, until=lambda event: False):
    """Iterate like a worker that is killed when `until` says so."""
    for event in train(experiment, dataset, trial, device=CPU):
        if until(event):
            return


def weights(trial, step):
    attempt = max(a for s, a in list_commits(trial, "model") if s == step)
    return load_model(trial.at("model", step_name(step, attempt)))[0].state_dict()


def rows(trial):
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "samples_per_s")} for row in read_metrics(trial)
    ]


@pytest.mark.parametrize(
    ("train", "model"),
    [
        (
            {"lr_schedule": "cosine", "optimiser": "adamw", "weight_decay": 0.1, "accumulate": 3},
            {"dropout": 0.3},
        ),
        ({"lr_schedule": "exponential", "lr_half_life": 5, "clip_by": "norm"}, {"random_h0": True}),
        ({"precision": "bf16"}, {"features": ["onset"], "rnn_type": "GRU", "learn_h0": True}),
    ],
)
def test_every_setting_resumes_bit_equal(tmp_path, dataset, train, model):
    tiny = tiny_experiment(**train)
    experiment = tiny.model_copy(
        update={"model": tiny.model.model_validate({**tiny.model.model_dump(), **model})}
    )
    whole, killed = Storage.open(tmp_path / "whole"), Storage.open(tmp_path / "killed")
    run(experiment, dataset, whole)
    run(experiment, dataset, killed, until=lambda e: isinstance(e, Logged) and e.row["step"] == 6)
    run(experiment, dataset, killed)
    expected, got = weights(whole, 12), weights(killed, 12)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert rows(whole) == rows(killed)


@pytest.mark.parametrize("killed_at", [2, 6, 10])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path, dataset, killed_at):
    whole, killed = Storage.open(tmp_path / "whole"), Storage.open(tmp_path / "killed")
    experiment = tiny_experiment()
    run(experiment, dataset, whole)
    run(experiment, dataset, killed, until=lambda e: isinstance(e, Logged) and e.row["step"] == killed_at)
    run(experiment, dataset, killed)
    expected, got = weights(whole, 12), weights(killed, 12)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert rows(whole) == rows(killed)
    clips = [
        trial.at("clips", step_name(12, a)).read("clip-0.flac") for trial, a in ((whole, 1), (killed, 2))
    ]
    assert clips[0] == clips[1]
    assert [s for s, _ in list_commits(killed, "clips")] == [4, 8, 12]


@pytest.mark.parametrize("background", [False, True])
def test_stop_commits_a_checkpoint_and_ends(tmp_path, dataset, background):
    trial = Storage.open(tmp_path / "trial")
    asked = iter([False, False, True])
    stop = lambda: next(asked)  # noqa: E731
    events = list(train(tiny_experiment(), dataset, trial, device=CPU, stop=stop, background=background))
    assert isinstance(events[-1], Saved)
    assert events[-1].step == 3
    assert next(iter(train(tiny_experiment(), dataset, trial, device=CPU))) == Started(2, 3)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, dataset):
    trial = Storage.open(tmp_path / "trial")
    run(tiny_experiment(), dataset, trial)
    path = tmp_path / "trial" / "state" / step_name(12, 1) / "state.safetensors"
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(bytes(body))
    assert next(iter(train(tiny_experiment(max_steps=16), dataset, trial, device=CPU))) == Started(2, 8)


def test_all_checkpoints_damaged_is_an_error_and_not_step_zero(tmp_path, dataset):
    trial = Storage.open(tmp_path / "trial")
    run(tiny_experiment(), dataset, trial)
    for step, attempt in list_commits(trial, "state"):
        (tmp_path / "trial" / "state" / step_name(step, attempt) / "state.safetensors").write_bytes(
            b"\xff" * 100
        )
    with pytest.raises(Damaged, match="can be trusted"):
        next(iter(train(tiny_experiment(), dataset, trial, device=CPU)))


def test_only_the_newest_two_states_are_kept(tmp_path, dataset):
    trial = Storage.open(tmp_path / "trial")
    run(tiny_experiment(), dataset, trial)
    assert [step for step, _ in list_commits(trial, "state")] == [8, 12]
    assert [step for step, _ in list_commits(trial, "model")] == [4, 8, 12]


def test_what_a_late_attempt_writes_is_void(tmp_path):
    trial = Storage.open(tmp_path)
    assert begin_attempt(trial, 0) == 1
    assert begin_attempt(trial, 100) == 2
    lineage = read_lineage(trial)
    assert lineage.keeps(100, 1)
    assert not lineage.keeps(150, 1)
    assert lineage.keeps(150, 2)
    assert not lineage.keeps(50, 3)


def test_nan_ends_as_diverged_with_the_last_good_checkpoint_kept(tmp_path, dataset, monkeypatch):
    trial, steps = Storage.open(tmp_path / "trial"), iter(range(100))

    def poisoned(*arguments):
        return train_step(*arguments) * (float("nan") if next(steps) == 5 else 1.0)

    monkeypatch.setattr("samplernn.train.train_step", poisoned)
    with pytest.raises(Diverged, match="lower"):
        run(tiny_experiment(), dataset, trial)
    assert [step for step, _ in list_commits(trial, "model")] == [4]
    assert all(bool(torch.isfinite(value).all()) for value in weights(trial, 4).values())


def test_a_run_no_better_than_the_histogram_ends_as_diverged(tmp_path, dataset):
    trial = Storage.open(tmp_path / "trial")
    slow = tiny_experiment(learning_rate=1e-9, diverge_after=6)
    with pytest.raises(Diverged, match="histogram"):
        run(slow, dataset, trial)
    assert [step for step, _ in list_commits(trial, "model")] == [4]


def test_the_test_split_is_evaluated_only_when_validation_improves(tmp_path, dataset, monkeypatch):
    trial, costs = Storage.open(tmp_path / "trial"), iter([3.0, 2.5, 4.0])
    asked = []

    def known(model, data, split, experiment):
        asked.append(split)
        return next(costs) if split == "valid" else 9.0

    monkeypatch.setattr("samplernn.train.evaluate", known)
    run(tiny_experiment(), dataset, trial)
    assert asked == ["valid", "test", "valid", "test", "valid"]


def test_running_out_of_memory_says_what_would_fit(tmp_path, dataset, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("samplernn.train.train_step", full)
    with pytest.raises(OutOfMemory, match="batch_size 3"):
        run(tiny_experiment(), dataset, Storage.open(tmp_path / "trial"))


def test_the_loss_falls_well_below_the_start(tmp_path, dataset):
    trial = Storage.open(tmp_path / "trial")
    run(
        tiny_experiment(max_steps=150, checkpoint_every=150, log_every=10, learning_rate=0.01), dataset, trial
    )
    bits = [row["train_bits"] for row in read_metrics(trial) if row["kind"] == "train"]
    assert bits[-1] < bits[0] - 1


def test_windows_cover_each_chunk_once_an_epoch_in_a_seeded_order(dataset):
    model = tiny_experiment().model
    make = lambda: TrainingWindows(dataset, model, seq_len=64, batch=3, length=128, count=7, seed=5)  # noqa: E731
    windows, again = make(), make()
    seen = [windows.at(step).codes[:, model.context :] for step in range(14)]
    for step in (13, 4, 9, 0):
        assert np.array_equal(again.at(step).codes[:, model.context :], seen[step])
    chunks = {
        row.tobytes() for pair in range(7) for row in np.concatenate(seen[2 * pair : 2 * pair + 2], axis=1)
    }
    assert len(chunks) == 7
    assert windows.at(0).starts_chunk
    assert not windows.at(1).starts_chunk
    assert np.all(windows.at(0).codes[:, : model.context] == model.q_zero)


def files(trial):
    """Every file of every checkpoint; times are another run's."""
    return {
        path: trial.at(*path.split("/")[:-1]).read(path.split("/")[-1])
        for path, _ in trial.walk()
        if path.split("/")[-1] in ("model.safetensors", "state.safetensors", "clip-0.flac")
    }


def test_checkpoints_written_in_the_background_are_the_same_files(tmp_path, dataset):
    here, there = Storage.open(tmp_path / "here"), Storage.open(tmp_path / "there")
    experiment = tiny_experiment(checkpoint_every=2, max_steps=20)
    events = [list(train(experiment, dataset, here, device=CPU, background=False))]
    events += [list(train(experiment, dataset, there, device=CPU, background=True))]
    saved = [[event.step for event in each if isinstance(event, Saved)] for each in events]
    assert saved[0] == saved[1] == list(range(2, 21, 2))
    assert files(here) == files(there)
    assert len(files(here)) == 10 + 2 + 10


def test_training_goes_on_while_a_checkpoint_is_written_and_waits_before_the_next(
    tmp_path, dataset, monkeypatch
):
    trial, may_write = Storage.open(tmp_path / "trial"), threading.Event()
    save = Snapshot.save

    def held_up(snapshot, *where):
        assert may_write.wait(60)
        save(snapshot, *where)

    monkeypatch.setattr(Snapshot, "save", held_up)
    seen = []
    for event in train(tiny_experiment(), dataset, trial, device=CPU, background=True):
        seen.append(event)
        if event == Stepped(7):  # three steps after the checkpoint
            assert not [event for event in seen if isinstance(event, Saved)]
            assert not trial.at("state").names()
        if event == Stepped(8):  # the next one is due now
            may_write.set()
    saved = [seen.index(event) for event in seen if isinstance(event, Saved)]
    assert seen.index(Stepped(8)) < saved[0] < seen.index(Stepped(9))
    assert [s for s, _ in list_commits(trial, "state")] == [8, 12]


def test_what_the_writer_of_checkpoints_meets_is_raised_in_training(tmp_path, dataset):
    trial = Storage.open(tmp_path / "trial")
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "model").write_text("a file stands where the models go")
    seen: list[object] = []
    with pytest.raises(StorageError, match=r"can't write model\.safetensors"):
        seen.extend(train(tiny_experiment(), dataset, trial, device=CPU, background=True))
    assert Stepped(9) not in seen, "at the latest before the next checkpoint"
