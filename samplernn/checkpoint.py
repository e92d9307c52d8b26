"""Checkpoints: three sibling commits a step, so that one can be pruned without the others.

    model/step-<n>.<attempt>/   model.safetensors, config.json      what generation needs
    state/step-<n>.<attempt>/   state.safetensors, state.json       what going on needs: optimiser, hidden state
    clips/step-<n>.<attempt>/   clip-<i>.flac, measures.json,       what a listener needs
                                previews.safetensors

safetensors and JSON only; nothing is unpickled. What does not verify is not loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.config import Experiment
from samplernn.errors import BadInput, Damaged
from samplernn.model import SampleRNN
from samplernn.storage import Storage

STATES_KEPT = 2
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_HIDDEN, _OPTIMISER = "hidden.", "optimiser."


@dataclass(frozen=True)
class About:
    """What a checkpoint says of itself (config.json of the model commit)."""

    experiment: Experiment
    dataset: str
    """Name of the dataset."""
    dataset_digest: str
    sample_rate: int
    """Hz."""
    step: int
    seconds: float
    """Training seconds so far."""
    valid_bits: float


@dataclass
class Training:
    """Everything a training run carries from step to step."""

    model: SampleRNN
    optimiser: torch.optim.Optimizer
    hidden: list[Tensor]
    noise: torch.Generator
    """Seeded afresh at every step, so that no checkpoint needs its state."""
    bits: Callable[..., tuple[Tensor, list[Tensor]]]
    """The model's own `bits`, compiled or not."""
    step: int = 0
    seconds: float = 0.0
    best_bits: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint before it is on storage."""

    about: About
    weights: dict[str, Tensor]
    state: dict[str, Tensor]
    progress: dict[str, Any]

    @classmethod
    def of(cls, training: Training, about: About, *, copy: bool) -> Snapshot:
        """Of a run as it stands; with `copy` in CPU memory of its own, so that training may go on at once."""

        def kept(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {key: value.detach().to("cpu", copy=True) for key, value in tensors.items()}

        weights, state = training.model.state_dict(), _state(training)
        if copy:
            weights, state = kept(weights), kept(state)
        return cls(about, weights, state, _progress(training))

    def save(self, trial: Storage, attempt: int) -> None:
        """Commit the model, then the state, then drop all but the newest states."""
        _write_model(trial, attempt, self.weights, self.about)
        _write_state(trial, attempt, self.state, self.progress)
        for step, older in list_commits(trial, "state")[:-STATES_KEPT]:
            name = step_name(step, older)
            commit.delete_commit(trial.at("state", name), trial.at("state"), name)


def save_model(trial: Storage, attempt: int, model: SampleRNN, about: About) -> None:
    """Commit the weights of a step."""
    _write_model(trial, attempt, model.state_dict(), about)


def _write_model(trial: Storage, attempt: int, weights: dict[str, Tensor], about: About) -> None:
    files = {
        WEIGHTS: _to_bytes(weights),
        CONFIG: commit.to_json(
            {
                **about.__dict__,
                "experiment": about.experiment.model_dump(mode="json"),
                "schema": commit.SCHEMA,
            }
        ),
    }
    commit.write_commit(
        trial.at("model", step_name(about.step, attempt)), files, step=about.step, attempt=attempt
    )


def _to_bytes(tensors: dict[str, Tensor]) -> bytes:
    data: bytes = save_tensors({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
    return data


def read_about(folder: Storage) -> About:
    """What a model commit says of itself. Raises FileNotFoundError without one, Damaged when it can't be read."""
    return _about(folder, commit.read_file(folder, CONFIG))


def _about(folder: Storage, config: bytes) -> About:
    try:
        body = json.loads(config)
        if body.pop("schema") != commit.SCHEMA:
            raise Damaged(f"{folder} was written by another version of this program; use that version")
        return About(**{**body, "experiment": Experiment.model_validate(body["experiment"])})
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Damaged(
            f"{folder}/{CONFIG} is not what this version writes; use the version that wrote it ({error})"
        ) from error


def load_model(folder: Storage) -> tuple[SampleRNN, About]:
    """Load a model commit. Raises BadInput when there is none, Damaged when anything does not fit."""
    try:
        files = commit.read_commit(folder)
    except FileNotFoundError as error:
        raise BadInput(f"there is no checkpoint at {folder}") from error
    try:
        about = _about(folder, files[CONFIG])
        model = SampleRNN.seeded(about.experiment.model, 0)
        model.load_state_dict(load_tensors(files[WEIGHTS]))
    except (KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise Damaged(f"{folder} verifies but does not hold the model its config names: {error}") from error
    if not all(bool(torch.isfinite(value).all()) for value in model.state_dict().values()):
        raise Damaged(f"{folder} holds NaN or infinite weights; take an earlier checkpoint")
    return model, about


def write_state(trial: Storage, attempt: int, training: Training) -> None:
    """Commit what going on from this step needs."""
    _write_state(trial, attempt, _state(training), _progress(training))


def _state(training: Training) -> dict[str, Tensor]:
    tensors = {f"{_HIDDEN}{i}": state for i, state in enumerate(training.hidden)}
    names = [name for name, _ in training.model.named_parameters()]
    for index, values in training.optimiser.state_dict()["state"].items():
        tensors |= {f"{_OPTIMISER}{key}.{names[index]}": value for key, value in values.items()}
    return tensors


def _progress(training: Training) -> dict[str, Any]:
    return {"step": training.step, "seconds": training.seconds, "best_bits": training.best_bits}


def _write_state(trial: Storage, attempt: int, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
    files = {"state.safetensors": _to_bytes(tensors), "state.json": commit.to_json(progress)}
    step = progress["step"]
    folder = trial.at("state", step_name(step, attempt))
    commit.write_commit(folder, files, step=step, attempt=attempt)


def resume(trial: Storage, training: Training) -> About | None:
    """Load the newest checkpoint that verifies into `training`; None when the trial has none at all.

    Falls back to the one before a damaged one, but raises Damaged when every one is damaged: a trial is never
    silently trained again from step 0.
    """
    damaged: Damaged | None = None
    for step, attempt in reversed(list_commits(trial, "state")):
        name = step_name(step, attempt)
        try:
            files = commit.read_commit(trial.at("state", name))
            model, about = load_model(trial.at("model", name))
            _fill(training, model, files)
        except (FileNotFoundError, BadInput):
            continue  # never committed: it does not exist
        except Damaged as error:
            damaged = damaged or error
            continue
        return about
    if damaged is not None:
        raise Damaged(
            f"no checkpoint of {trial} can be trusted ({damaged}); restore it from a copy or delete the trial"
        )
    return None


def _fill(training: Training, model: SampleRNN, files: dict[str, bytes]) -> None:
    try:
        tensors = load_tensors(files["state.safetensors"])
        body: dict[str, Any] = json.loads(files["state.json"])
        names = [name for name, _ in model.named_parameters()]
        state: dict[int, dict[str, Tensor]] = {index: {} for index in range(len(names))}
        for key, value in tensors.items():
            if key.startswith(_OPTIMISER):
                field, name = key.removeprefix(_OPTIMISER).split(".", 1)
                state[names.index(name)][field] = value
        hidden = [tensors[f"{_HIDDEN}{i}"] for i in range(len(training.hidden))]
        training.model.load_state_dict(model.state_dict())
        groups = training.optimiser.state_dict()["param_groups"]
        training.optimiser.load_state_dict({"state": state, "param_groups": groups})
    except (KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise Damaged(f"the training state does not fit its model: {error}") from error
    training.hidden = [new.to(old.device) for new, old in zip(hidden, training.hidden, strict=True)]
    training.step, training.seconds, training.best_bits = body["step"], body["seconds"], body["best_bits"]
