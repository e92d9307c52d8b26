"""The training loop of one trial: a generator of events that leaves everything on storage by itself.

Whoever runs it (a Ray Tune trial, a plain loop) only iterates. It goes on from the newest checkpoint of the trial's
folder; on CPU a resumed run is bit-equal to one that never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from samplernn.attempts import begin_attempt, write_metrics
from samplernn.checkpoint import About, Training, resume, save_model, save_state
from samplernn.chunks import Dataset
from samplernn.clips import has_clips, make_clips
from samplernn.config import Experiment
from samplernn.errors import Diverged
from samplernn.evaluate import evaluate
from samplernn.model import SampleRNN, nll_bits
from samplernn.storage import Storage
from samplernn.windows import TrainingWindows, Window


@dataclass(frozen=True)
class Started:
    """The run begins, or goes on, at `step`."""

    attempt: int
    step: int


@dataclass(frozen=True)
class Logged:
    """A row of metrics: kind is train or eval."""

    row: dict[str, Any]


@dataclass(frozen=True)
class Saved:
    """A checkpoint is committed: model, state and clips."""

    step: int
    valid_bits: float


Event = Started | Logged | Saved


def train(
    experiment: Experiment,
    dataset: Dataset,
    trial: Storage,
    *,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
    about: Mapping[str, Any] = {},
) -> Iterator[Event]:
    """Train one trial to train.max_steps, or until stop() says so: then a checkpoint is committed first.

    `about` is recorded with the attempt: where it ran, on what.
    Raises Diverged when the loss is NaN or infinite, Damaged when the trial's checkpoints can't be trusted.
    """
    config = experiment.train
    run = _fresh(experiment, device)
    resumed = resume(trial, run)
    attempt = begin_attempt(trial, run.step, **about)
    log = _MetricsLog(trial, attempt)
    yield Started(attempt, run.step)
    if resumed is not None and not has_clips(trial, resumed.step):
        make_clips(trial, attempt, run.model, resumed)
    windows = _windows(experiment, dataset)
    bits, since, clock = torch.zeros((), device=device), 0, time.perf_counter()
    while run.step < config.max_steps:
        loss, norm = _step(run, windows.at(run.step), device, config.grad_clip)
        bits, since, halt = bits + loss, since + 1, stop()
        saves = halt or run.step % config.checkpoint_every == 0 or run.step == config.max_steps
        if not saves and run.step % config.log_every:
            continue
        row = _train_row(run, float(bits) / since, float(norm), config.learning_rate)
        elapsed = time.perf_counter() - clock
        run.seconds += elapsed
        row |= {
            "seconds": run.seconds,
            "samples_per_s": since * config.batch_size * experiment.seq_len / elapsed,
        }
        yield Logged(log.add(row))
        if saves:
            yield from _checkpoint(run, experiment, dataset, trial, attempt, log)
        if halt:
            return
        bits, since, clock = torch.zeros((), device=device), 0, time.perf_counter()


def _fresh(experiment: Experiment, device: torch.device) -> Training:
    model = SampleRNN.seeded(experiment.model, experiment.train.seed).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=experiment.train.learning_rate, fused=True)
    return Training(model, optimiser, hidden=model.initial_state(experiment.train.batch_size))


def _windows(experiment: Experiment, dataset: Dataset) -> TrainingWindows:
    config = experiment.train
    length, hop = config.chunk_samples(dataset.sample_rate)
    return TrainingWindows(
        dataset,
        experiment.model,
        seq_len=experiment.seq_len,
        batch=config.batch_size,
        length=length,
        count=config.num_chunks,
        hop=hop,
        seed=config.seed,
    )


def _step(
    run: Training, window: Window, device: torch.device, clip: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One optimiser step. Returns the mean bits and the gradient's norm, both still on the device."""
    codes = torch.from_numpy(window.codes.astype(np.int64)).to(device, non_blocking=True)
    targets = codes[:, run.model.config.context :]
    mask = None if window.mask is None else torch.from_numpy(window.mask).to(device)
    start = run.model.initial_state(len(codes)) if window.starts_chunk else run.hidden
    logits, hidden = run.model(codes, start)
    count = targets.numel() if mask is None else mask.sum().clamp(min=1)
    loss = nll_bits(logits, targets, mask) / count
    run.optimiser.zero_grad(set_to_none=True)
    # The reference's loss is in bits; elementwise clipping makes the unit part of what is computed.
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = list(run.model.parameters())
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip is not None:
        torch.nn.utils.clip_grad_value_(parameters, clip)
    run.optimiser.step()
    run.hidden = [state.detach() for state in hidden]
    run.step += 1
    return loss.detach(), norm


def _checkpoint(
    run: Training, experiment: Experiment, dataset: Dataset, trial: Storage, attempt: int, log: _MetricsLog
) -> Iterator[Event]:
    """Evaluate, then commit in the order metrics, model, state, clips: what is named later needs what is before."""
    valid = evaluate(run.model, dataset, "valid", experiment)
    if not math.isfinite(valid):
        raise Diverged(f"the validation cost at step {run.step} is {valid}; lower train.learning_rate")
    row = {"kind": "eval", "step": run.step, "seconds": run.seconds, "valid_bits": valid}
    if run.best_bits is None or valid < run.best_bits:
        run.best_bits = valid
        row["test_bits"] = evaluate(run.model, dataset, "test", experiment)
    yield Logged(log.add(row))
    log.flush()
    about = About(experiment, dataset.name, dataset.digest, dataset.sample_rate, run.step, run.seconds, valid)
    save_model(trial, attempt, run.model, about)
    save_state(trial, attempt, run)
    make_clips(trial, attempt, run.model, about)
    yield Saved(run.step, valid)


def _train_row(run: Training, bits: float, norm: float, learning_rate: float) -> dict[str, Any]:
    if not (math.isfinite(bits) and math.isfinite(norm)):
        raise Diverged(
            f"the loss is {bits} bits and the gradient's norm {norm} at step {run.step}; "
            "lower train.learning_rate or train.grad_clip"
        )
    return {
        "kind": "train",
        "step": run.step,
        "train_bits": bits,
        "grad_norm": norm,
        "learning_rate": learning_rate,
    }


class _MetricsLog:
    """Rows of this attempt, written as numbered segments: at checkpoints, and every few seconds in between."""

    EVERY_S = 5.0

    def __init__(self, trial: Storage, attempt: int) -> None:
        self._trial, self._attempt, self._seq = trial, attempt, 1
        self._rows: list[dict[str, Any]] = []
        self._written = time.perf_counter()

    def add(self, row: dict[str, Any]) -> dict[str, Any]:
        self._rows.append(row)
        if time.perf_counter() - self._written > self.EVERY_S:
            self.flush()
        return row

    def flush(self) -> None:
        if self._rows:
            write_metrics(self._trial, self._attempt, self._seq, self._rows)
            self._rows, self._seq = [], self._seq + 1
        self._written = time.perf_counter()
