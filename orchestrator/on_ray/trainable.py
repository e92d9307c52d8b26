"""One trial inside a Ray Tune worker: iterate over the training loop and report what it did."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from ray import tune

from orchestrator.on_ray.placement import assigned_device, whereabouts
from orchestrator.workspace import Workspace
from samplernn.chunks import Dataset, cache_folder
from samplernn.config import Experiment
from samplernn.errors import BadInput, Damaged, Diverged
from samplernn.train import Logged, Saved, Started, train

REPORT_EVERY_S = 2.0


def assignment(
    workspace: str, sweep: str, dataset: str, trial: str, experiment: Experiment
) -> dict[str, Any]:
    """What a worker is told; plain values, so that it is readable wherever Ray shows it."""
    return {
        "workspace": workspace,
        "sweep": sweep,
        "dataset": dataset,
        "trial": trial,
        "experiment": experiment.model_dump(mode="json"),
    }


def run_trial(config: dict[str, Any]) -> None:
    """Tune's function trainable. Reports have `kind`: start, log, saved (with `bits`) or failed (with `reason`).

    An error that trying again can't mend is reported as failed; every other one is raised, and Tune tries again.
    """
    job = config["job"]
    experiment = Experiment.model_validate(job["experiment"])
    torch.set_num_threads(_cores())
    device = assigned_device()
    workspace = Workspace.open(job["workspace"])
    reported = 0.0
    try:
        dataset = Dataset.open(workspace.dataset(job["dataset"]), cache_folder())
        trial = workspace.trial(job["sweep"], job["trial"])
        for event in train(experiment, dataset, trial, device=device, about=whereabouts(device)):
            match event:
                case Started(attempt, step):
                    tune.report({"kind": "start", "attempt": attempt, "step": step})
                case Saved(step, bits):
                    tune.report({"kind": "saved", "attempt": attempt, "step": step, "bits": bits})
                case Logged(row) if time.monotonic() - reported > REPORT_EVERY_S:
                    reported = time.monotonic()
                    tune.report({**row, "kind": "log"})
    except (Diverged, BadInput, Damaged) as error:
        kind = "diverged" if isinstance(error, Diverged) else "failed"
        tune.report({"kind": "failed", "reason": f"{kind}: {error}"})


def _cores() -> int:
    """Threads for this trial: what Ray assigned, which it also puts in OMP_NUM_THREADS."""
    return max(1, int(float(os.environ.get("OMP_NUM_THREADS", "1"))))
