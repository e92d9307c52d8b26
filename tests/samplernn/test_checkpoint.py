"""Checkpoints that must not be generated from: each is refused in one clear line."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load, save

from samplernn import commit
from samplernn.attempts import step_name
from samplernn.checkpoint import About, load_model, save_model
from samplernn.clips import make_clips
from samplernn.errors import BadInput, Damaged
from samplernn.model import SampleRNN
from samplernn.storage import Storage
from tests.made import tiny_experiment


@pytest.fixture
def kept(tmp_path) -> tuple[Storage, dict[str, bytes]]:
    """A committed model and its files."""
    experiment = tiny_experiment()
    about = About(experiment, "toy", "0" * 64, 16_000, 7, 1.0, 5.0)
    trial = Storage.open(str(tmp_path / "trial"))
    save_model(trial, 1, SampleRNN.seeded(experiment.model, 0), about)
    folder = trial.at("model", step_name(7, 1))
    return trial.at("again"), commit.read_commit(folder)


def test_a_model_comes_back_as_it_was_kept(kept):
    folder, files = kept
    commit.write_commit(folder, files)
    model, about = load_model(folder)
    assert (about.step, about.sample_rate) == (7, 16_000)
    assert all(
        torch.equal(value, load(files["model.safetensors"])[name])
        for name, value in model.state_dict().items()
    )


def change(files: dict[str, bytes], **body) -> dict[str, bytes]:
    return {**files, "config.json": commit.to_json({**json.loads(files["config.json"]), **body})}


def with_weights(files: dict[str, bytes], edit) -> dict[str, bytes]:
    tensors = load(files["model.safetensors"])
    edit(tensors)
    return {**files, "model.safetensors": save(tensors)}


def poison(tensors) -> None:
    next(iter(tensors.values())).view(-1)[0] = float("nan")


BAD = {
    "NaN weight": (lambda files: with_weights(files, poison), "NaN or infinite weights; take an earlier"),
    "newer version": (lambda files: change(files, schema=99), "written by another version"),
    "missing weight": (lambda files: with_weights(files, lambda t: t.pop(next(iter(t)))), "does not hold the model"),
    "extra weight": (lambda files: with_weights(files, lambda t: t.update(x=torch.ones(1))), "does not hold the model"),
    "no safetensors": (lambda files: {**files, "model.safetensors": b"\xff" * 64}, "does not hold the model"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_checkpoint_that_is_not_what_it_says_is_refused(kept, name):
    folder, files = kept
    edit, said = BAD[name]
    commit.write_commit(folder, edit(files))
    with pytest.raises(Damaged, match=said):
        load_model(folder)


def test_a_folder_without_a_commit_is_no_checkpoint(kept):
    with pytest.raises(BadInput, match="there is no checkpoint at"):
        load_model(kept[0])


def test_clips_are_the_same_on_any_number_of_threads(kept):
    folder, files = kept
    commit.write_commit(folder, files)
    model, about = load_model(folder)
    threads = torch.get_num_threads()
    for attempt, count in ((1, 1), (2, 2)):
        torch.set_num_threads(count)
        make_clips(folder, attempt, model, about)
    torch.set_num_threads(threads)
    first, second = (commit.read_commit(folder.at("clips", step_name(7, attempt))) for attempt in (1, 2))
    assert first == second
    assert first["clip-0.flac"] != first["clip-1.flac"]
