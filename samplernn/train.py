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

import torch

from samplernn import kernels
from samplernn.attempts import begin_attempt, write_metrics
from samplernn.background import Background
from samplernn.checkpoint import About, Snapshot, Training, resume
from samplernn.chunks import Dataset
from samplernn.clips import ClipMaker, has_clips
from samplernn.config import Experiment
from samplernn.errors import Diverged
from samplernn.evaluate import evaluate, unigram_bits
from samplernn.memory import is_out_of_memory, out_of_memory
from samplernn.model import SampleRNN
from samplernn.prefetch import Prefetch
from samplernn.step import PRECISION, gradient_norm, learning_rate, optimiser, train_step
from samplernn.storage import Storage
from samplernn.windows import Batch, TrainingWindows


@dataclass(frozen=True)
class Started:
    """The run begins, or goes on, at `step`."""

    attempt: int
    step: int


@dataclass(frozen=True)
class Stepped:
    """An optimiser step was taken; nothing was read back from the device."""

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


Event = Started | Stepped | Logged | Saved


def train(
    experiment: Experiment,
    dataset: Dataset,
    trial: Storage,
    *,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
    about: Mapping[str, Any] = {},
    background: bool | None = None,
) -> Iterator[Event]:
    """Train one trial to train.max_steps, or until stop() says so: then a checkpoint is committed first.

    `about` is recorded with the attempt: where it ran, on what. With `background` checkpoints are written by a thread
    while training goes on, one at a time; null is so on a GPU, which would stand still. On a CPU the thread only takes
    cores from training.
    Raises Diverged when the loss is NaN or infinite, or no better than a histogram after train.diverge_after steps;
    OutOfMemory with what would fit; Damaged when the trial's checkpoints can't be trusted.
    """
    config = experiment.train
    kernels.keep_heap()
    torch.set_float32_matmul_precision(PRECISION[config.precision] if device.type == "cuda" else "highest")
    run = fresh(experiment, device)
    resumed = resume(trial, run)
    attempt = begin_attempt(trial, run.step, **{**about, "passes": kernels.passes()})
    log, clips = _MetricsLog(trial, attempt), ClipMaker(dataset)
    saver = _Saver(trial, attempt, device.type == "cuda" if background is None else background)
    yield Started(attempt, run.step)
    if resumed is not None and not has_clips(trial, resumed.step):
        clips.make(trial, attempt, run.model, resumed)
    windows = _windows(experiment, dataset)
    batches = Prefetch(lambda step: Batch.of(windows.at(step), experiment.model.context, device), run.step)
    try:
        yield from _walk(run, experiment, clips, saver, log, iter(batches), stop)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, experiment, device) from error
        raise
    finally:
        saver.close()
        batches.close()


def _walk(
    run: Training,
    experiment: Experiment,
    clips: ClipMaker,
    saver: _Saver,
    log: _MetricsLog,
    batches: Iterator[Batch],
    stop: Callable[[], bool],
) -> Iterator[Event]:
    """The loop itself: from the run's step to the last one, or to where stop() says so."""
    config = experiment.train
    device = run.noise.device
    bits, since, clock = torch.zeros((), device=device), 0, time.perf_counter()
    while run.step < config.max_steps:
        rate = learning_rate(config, run.step)
        bits, since = bits + train_step(run, next(batches), config), since + 1
        yield Stepped(run.step)
        yield from saver.saved()
        halt = stop()
        saves = halt or run.step % config.checkpoint_every == 0 or run.step == config.max_steps
        if not saves and run.step % config.log_every:
            continue
        row = _train_row(run, float(bits) / since, float(gradient_norm(run)), rate)
        elapsed = time.perf_counter() - clock
        run.seconds += elapsed
        row |= {
            "seconds": run.seconds,
            "samples_per_s": since * config.batch_size * experiment.seq_len / elapsed,
        }
        if device.type == "cuda":
            row["gpu_memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        yield Logged(log.add(row))
        if saves:
            yield from _checkpoint(run, experiment, clips, saver, log)
        if halt:
            break
        bits, since, clock = torch.zeros((), device=device), 0, time.perf_counter()
    yield from saver.saved(wait=True)


def fresh(experiment: Experiment, device: torch.device) -> Training:
    """A run at step 0."""
    config = experiment.train
    model = SampleRNN.seeded(experiment.model, config.seed).to(device)
    bits = torch.compile(model.bits) if config.compile and device.type == "cuda" else model.bits
    return Training(
        model,
        optimiser(model.parameters(), config),
        hidden=model.initial_state(config.batch_size),
        noise=torch.Generator(device),
        bits=bits,
    )


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


def _checkpoint(
    run: Training, experiment: Experiment, clips: ClipMaker, saver: _Saver, log: _MetricsLog
) -> Iterator[Event]:
    """Evaluate, then commit in the order metrics, model, state, clips: what is named later needs what is before."""
    dataset = clips.dataset
    valid = evaluate(run.model, dataset, "valid", experiment)
    if not math.isfinite(valid):
        raise Diverged(f"the validation cost at step {run.step} is {valid}; lower train.learning_rate")
    after = experiment.train.diverge_after
    if after is not None and run.step >= after and valid >= (histogram := unigram_bits(dataset, experiment)):
        raise Diverged(
            f"at step {run.step} the validation cost of {valid:.3f} bits is no better than the samples' histogram "
            f"({histogram:.3f} bits): it would make white noise; try another train.seed, or lower train.learning_rate"
        )
    row = {"kind": "eval", "step": run.step, "seconds": run.seconds, "valid_bits": valid}
    if run.best_bits is None or valid < run.best_bits:
        run.best_bits = valid
        row["test_bits"] = evaluate(run.model, dataset, "test", experiment)
    yield Logged(log.add(row))
    log.flush()
    about = About(experiment, dataset.name, dataset.digest, dataset.sample_rate, run.step, run.seconds, valid)
    yield from saver.saved(wait=True)
    saver.save(run, about)
    clips.make(saver.trial, saver.attempt, run.model, about)
    yield from saver.saved()


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


class _Saver:
    """Commits the checkpoints of an attempt, at once or in a thread, and says when one is on storage."""

    def __init__(self, trial: Storage, attempt: int, background: bool) -> None:
        self.trial, self.attempt = trial, attempt
        self._background = Background() if background else None
        self._under_way: Saved | None = None

    def save(self, run: Training, about: About) -> None:
        """Commit model and state; in a thread, from a copy of them, where there is one."""
        snapshot = Snapshot.of(run, about, copy=self._background is not None)
        self._under_way = Saved(about.step, about.valid_bits)
        if self._background is None:
            snapshot.save(self.trial, self.attempt)
        else:
            self._background.start(lambda: snapshot.save(self.trial, self.attempt))

    def saved(self, wait: bool = False) -> Iterator[Saved]:
        """The checkpoint that is on storage since the last look, if any; with `wait`, the one under way.

        Raises StorageError when it could not be written.
        """
        saved = self._under_way
        if saved is None or not (wait or self._background is None or self._background.is_over):
            return
        self._under_way = None
        if self._background is not None:
            self._background.finish()
        yield saved

    def close(self) -> None:
        """Wait for what is being written."""
        if self._background is not None:
            self._background.close()


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
