"""One trial inside a Ray Tune worker: walk through the training loop and report what it did.

torch is imported where it trains: the driver imports this file, too, and needs none of torch's memory.
"""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import Any

from ray import tune

from orchestrator.config import Retention, SweepFile
from orchestrator.failures import Preempted
from orchestrator.retention import retain
from orchestrator.room import shortage, writable
from orchestrator.workspace import Workspace
from samplernn.chunks import Dataset, cache_folder
from samplernn.config import Experiment
from samplernn.errors import Damaged, StorageError
from samplernn.storage import Storage

LOOK_AGAIN_S = 5.0
"""Seconds between two looks at a full disk."""
Report = dict[str, Any]


def assignment(
    workspace: Workspace, asked: SweepFile, trial: str, experiment: Experiment, report_every_s: float
) -> dict[str, Any]:
    """What a worker is told; plain values, so that it is readable wherever Ray shows it."""
    return {
        "workspace": workspace.storage.address,
        "sweep": asked.name,
        "dataset": asked.dataset,
        "trial": trial,
        "experiment": experiment.model_dump(mode="json"),
        "retention": asked.retention.model_dump(mode="json"),
        "free_disk_gb": asked.run.free_disk_gb,
        "report_every_s": report_every_s,
    }


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """Tune's trainable: a step goes on to the next report. What goes wrong is raised, and the driver decides.

    A class and not a function, because Tune runs functions in a thread, where SIGTERM can't be heard. One worker trains
    trial after trial, as long as none fails: torch, and on a GPU its context, are there when the next one comes.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Called once, in the worker's main thread."""
        self._usual = signal.signal(signal.SIGTERM, self._terminate)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave the last trial, which ended or was stopped, with all its memory, and take the next one."""
        self._reports.close()
        release_memory()
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._asked_to_end = self._working = False
        self._reports = reports(config["job"], lambda: self._asked_to_end)

    def step(self) -> Report:
        """The next report."""
        self._working = True
        try:
            return next(self._reports)
        finally:
            self._working = False

    def end_soon(self) -> None:
        """Called between two steps: the next one commits a checkpoint, and is the last."""
        self._asked_to_end = True

    def _terminate(self, signum: int, frame: FrameType | None) -> None:
        """A step that is under way ends with a checkpoint; a second signal, and one between steps, end at once."""
        if self._working and not self._asked_to_end:
            self._asked_to_end = True
        elif callable(self._usual):
            self._usual(signum, frame)


def release_memory() -> None:
    """Give back what a trial held, and count the peak of the GPU's memory anew."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def reports(job: dict[str, Any], stop: Callable[[], bool]) -> Generator[Report, None, None]:
    """Train the trial of a job. `kind` is start, log (the step, and what the last row of metrics said), saved (with
    `bits`), paused (with `reason`), and at last done.

    Storage that is full or can't be written is waited for: the trial then goes on from its last commit. Once stop()
    says so, commits a checkpoint and raises Preempted.
    """
    import torch

    from orchestrator.on_ray.placement import assigned_cores

    torch.set_num_threads(assigned_cores())
    workspace = Workspace.open(job["workspace"])
    trial = workspace.trial(job["sweep"], job["trial"])
    while True:
        broken = None
        try:
            yield from _attempt(job, workspace, trial, stop)
        except Damaged:
            raise
        except StorageError as error:
            broken = str(error)
        if stop():
            raise Preempted
        if broken is None:
            break
        yield {"kind": "paused", "reason": broken}
        while not stop() and (shortage(trial, job["free_disk_gb"]) or not writable(trial)):
            time.sleep(LOOK_AGAIN_S)
            yield {"kind": "paused", "reason": broken}
    yield {"kind": "done", "done": True}


def _attempt(
    job: dict[str, Any], workspace: Workspace, trial: Storage, stop: Callable[[], bool]
) -> Iterator[Report]:
    """From the trial's newest checkpoint to its end, or until stop() says so."""
    from orchestrator.on_ray.placement import assigned_device, whereabouts
    from samplernn.train import Logged, Saved, Started, Stepped, train

    yield from _room(job, trial, stop)
    experiment = Experiment.model_validate(job["experiment"])
    retention = Retention.model_validate(job["retention"])
    device = assigned_device()
    dataset = Dataset.open(workspace.dataset(job["dataset"]), cache_folder())
    reported = 0.0
    row: Report = {}
    about = whereabouts(device)
    for event in train(experiment, dataset, trial, device=device, stop=stop, about=about):
        match event:
            case Started(attempt, step):
                yield {"kind": "start", "attempt": attempt, "step": step, "node": about["node"]}
            case Saved(step, bits):
                retain(workspace, job["sweep"], job["trial"], retention)
                yield {"kind": "saved", "attempt": attempt, "step": step, "bits": bits}
            case Stepped(step):
                if time.monotonic() - reported > job["report_every_s"]:
                    reported = time.monotonic()
                    yield {**row, "kind": "log", "step": step}
            case Logged(row):
                yield from _room(job, trial, stop)


def _room(job: dict[str, Any], trial: Storage, stop: Callable[[], bool]) -> Iterator[Report]:
    """Nothing where there is room; else a report every few seconds, until there is."""
    while not stop() and (reason := shortage(trial, job["free_disk_gb"])):
        yield {"kind": "paused", "reason": reason}
        time.sleep(LOOK_AGAIN_S)
