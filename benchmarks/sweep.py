"""What the conductor costs: hundreds of short trials on 4 nodes of 8 fake GPUs, beside bare Ray Tune.

    python benchmarks/sweep.py [--trials 300] [--quick] [--json FILE]

Both sides run the same training of a tiny model in workers of Ray Tune: torch imported, the same steps, one evaluation,
one checkpoint written. Bare Tune does it in a plain function that saves with torch.save and reports once; ours is the
sweep, with its journal, attempts, metrics and verified commits. Each side is a process of its own on a fresh cluster,
told are its wall time, and the driver's CPU time and peak memory. Then the simulator: how long 300 trials on 32 GPUs
and 10,000 on 1,000 take it, and how idle the GPUs are there with the seconds between two trials that were measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from report import Report

from orchestrator.config import Schedule, SweepFile
from orchestrator.merge import build
from orchestrator.occupancy import idleness, recorded_spans
from orchestrator.plan import plan
from orchestrator.simulate import Cluster, Course, power_law, simulate
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import list_commits, step_name
from samplernn.chunks import CARD, PCM, pcm_to_arrow

NODES, GPUS = 4, 8
STEPS = 6

CLUSTER = f"""
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 0}})
for _ in range({NODES}):
    cluster.add_node(num_cpus={GPUS}, num_gpus={GPUS})
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


def sweep(trials: int) -> SweepFile:
    """So many tiny models."""
    train = {
        "max_steps": STEPS, "checkpoint_every": STEPS, "log_every": STEPS, "batch_size": 4, "seq_len": 64,
        "chunk_seconds": 0.1, "num_chunks": 40, "eval_seconds": 0.5, "clips": 0,
    }  # fmt: skip
    model = {"frame_sizes": [16], "dim": 16, "n_rnn": 1, "skip_conn": False, "emb_size": 8}
    body = {"name": "short", "dataset": "noise", "base": {"model": model, "train": train}}
    space = {"train.seed": list(range(trials))}
    how = {"schedule": {"type": "none"}, "run": {"tracking": {"wandb": "off"}}}
    return build(SweepFile, {**body, "space": space, **how})


def made_workspace(folder: Path, seconds: int = 10) -> Workspace:
    """A workspace with so much noise as a dataset: three quarters for training, an eighth each for valid and test."""
    workspace, samples = Workspace.open(str(folder)), seconds * 16_000
    dataset = workspace.dataset("noise")
    pcm = np.random.default_rng(0).normal(0, 3000, samples).astype(np.int16)
    commit.write_commit(dataset.at("tracks", "0"), {PCM: pcm_to_arrow([pcm])})
    cuts = (0, samples * 3 // 4, samples * 7 // 8, samples)
    splits = {name: [[cuts[i], cuts[i + 1]]] for i, name in enumerate(("train", "valid", "test"))}
    row = {"id": "0", "samples": samples, "splits": splits, "measures": {}}
    commit.write_record(dataset, CARD, {"schema": 1, "name": "noise", "sample_rate": 16_000, "tracks": [row]})
    return workspace


def train_bare(config: dict[str, Any]) -> None:
    """The same training in a plain function of Tune's."""
    import torch
    from ray import tune

    from samplernn.chunks import Dataset, cache_folder
    from samplernn.config import Experiment
    from samplernn.evaluate import evaluate
    from samplernn.step import train_step
    from samplernn.train import _windows, fresh
    from samplernn.windows import Batch

    torch.set_num_threads(1)
    experiment = Experiment.model_validate(config["experiment"])
    dataset = Dataset.open(Workspace.open(config["workspace"]).dataset("noise"), cache_folder())
    run, windows = fresh(experiment, torch.device("cpu")), _windows(experiment, dataset)
    while run.step < experiment.train.max_steps:
        batch = Batch.of(windows.at(run.step), experiment.model.context, torch.device("cpu"))
        train_step(run, batch, experiment.train)
    bits = evaluate(run.model, dataset, "valid", experiment)
    with tempfile.TemporaryDirectory() as folder:
        state = {"model": run.model.state_dict(), "optimiser": run.optimiser.state_dict()}
        torch.save(state, Path(folder) / "checkpoint.pt")
        tune.report({"bits": bits}, checkpoint=tune.Checkpoint.from_directory(folder))


def drive_bare(workspace: Workspace, trials: int) -> None:
    """Bare Ray Tune over all trials."""
    from ray import tune
    from ray.tune import RunConfig, Tuner

    from cluster.connect import connect

    experiments = [trial.experiment.model_dump(mode="json") for trial in plan(sweep(trials).sweep)]
    space = {"experiment": tune.grid_search(experiments), "workspace": str(workspace.storage)}
    with connect(), tempfile.TemporaryDirectory() as folder:
        tuner = Tuner(
            tune.with_resources(train_bare, {"cpu": 1, "gpu": 1}),
            param_space=space,
            run_config=RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
        found = [result for result in results if result.checkpoint is not None]
    assert len(found) == trials, f"{len(found)} of {trials} trials left a checkpoint"


def drive_ours(workspace: Workspace, trials: int) -> None:
    """The sweep."""
    from rich.console import Console

    from orchestrator.sweep import run_sweep

    run_sweep(workspace, sweep(trials), Console(highlight=False, width=140, file=sys.stderr))


@contextmanager
def cluster() -> Iterator[str]:
    """Address of a fresh cluster whose head runs no trial."""
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(60)


def driven(side: str, folder: str, trials: int) -> None:
    """What the process of one side does and prints."""
    began = time.perf_counter()
    sides = {"bare": drive_bare, "ours": drive_ours}
    sides[side](Workspace.open(folder), trials)
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss / 1024}
    print(json.dumps({"wall": time.perf_counter() - began, **figures}))


def drive(side: str, workspace: Workspace, trials: int) -> dict[str, float]:
    """One side in a process of its own: its wall time and CPU time in seconds, its peak memory in MB."""
    command = [
        sys.executable,
        __file__,
        "--drive",
        side,
        "--folder",
        str(workspace.storage),
        "--trials",
        str(trials),
    ]
    with cluster() as address:
        environment = {**os.environ, "RAY_ADDRESS": address}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def complete(workspace: Workspace) -> int:
    """Trials whose folder holds everything: config, attempt, rows, and a model and a state that verify."""
    found = 0
    for trial in SweepView.open(workspace, "short").trials:
        folder = workspace.trial("short", trial.name)
        commits = {kind: list_commits(folder, kind) for kind in ("model", "state", "clips")}
        whole = all(
            at and at[-1][0] == STEPS and commit.read_commit(folder.at(kind, step_name(*at[-1])))
            for kind, at in commits.items()
        )
        kinds = [row["kind"] for row in trial.rows]
        found += whole and folder.exists(CONFIG) and trial.state == "done" and kinds == ["eval", "train"]
    return found


def simulated(report: Report, between: float) -> None:
    """The simulator's own time and what it says of idle GPUs, for trials of about ten minutes."""
    for trials, nodes in ((300, NODES), (10_000, 125)):
        courses = [Course(f"{n:05d}", 20_000, 1_000, 0.029, 1.0, power_law(n, 20_000)) for n in range(trials)]
        for schedule in (Schedule(type="none"), Schedule(grace_steps=1000)):
            began = time.perf_counter()
            outcome = simulate(courses, Cluster(nodes, GPUS, between), schedule)
            took = time.perf_counter() - began
            idle, name = idleness(outcome.spans), f"{trials:,} on {nodes * GPUS:,}, {schedule.type}"
            report.add(f"simulator: {name}", "s", [took])
            report.add(f"simulated idle share between trials: {name}", "ratio", [idle.share])
            print(
                f"simulator: {name}: {took:6.2f} s  makespan {outcome.makespan_s / 3600:.1f} h  idle between trials "
                f"{idle.share:.2%}, waiting for the last {idle.tail:.1%}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="16 trials: more start than work")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--drive", choices=("bare", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.drive:
        driven(asked.drive, asked.folder, asked.trials)
        return
    trials, report = 16 if asked.quick else asked.trials, Report()
    with tempfile.TemporaryDirectory() as folder:
        workspace = made_workspace(Path(folder))
        sides = {}
        for side in ("bare", "ours"):
            sides[side] = drive(side, workspace, trials)
            for what, unit in (("wall", "s"), ("cpu", "s"), ("memory", "MB")):
                report.add(f"{side}: {what}", unit, [sides[side][what]])
            told = "{wall:7.1f} s  driver {cpu:6.1f} CPU-s  {memory:5.0f} MB".format(**sides[side])
            print(f"{trials} trials, {side}: {told}", flush=True)
        for what in ("wall", "cpu", "memory"):
            ratio = report.add(f"ours / bare: {what}", "ratio", [sides["ours"][what] / sides["bare"][what]])
            print(f"ours / bare, {what}: {ratio:.3f}")
        whole = report.add("complete trial folders", "trials", [complete(workspace)])
        idle = idleness(recorded_spans(workspace, "short"))
        report.add("between two trials of a slot", "s", idle.between or [0.0])
        print(
            f"{whole} of {trials} folders are complete; between two trials of a slot {idle.median:.1f} s "
            f"(to {max(idle.between, default=0.0):.1f})"
        )
    simulated(report, idle.median)
    if asked.json:
        report.write(asked.json)


if __name__ == "__main__":
    main()
