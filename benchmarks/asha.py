"""What early stopping is worth on real music: 24 small models trained to the end once, ASHA on the same 24.

    python benchmarks/asha.py [--music FOLDER] [--workspace FOLDER] [--quick] [--json FILE]

Grace is a sixteenth of the steps, eta is 4 and the learning rate constant. ASHA runs once for real, and is replayed on
the recorded curves in the order in which the trials were numbered and in 200 other orders (the simulator, with as many
slots as this machine has cores). Told are the steps that it took, and how far the best model that it found is from the
best of all. The simulated makespan of the real sweeps stands beside the real one. With --workspace an interrupted
benchmark goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import tempfile
from pathlib import Path

from report import Report
from rich.console import Console

from orchestrator.config import IngestConfig, Schedule, SweepFile
from orchestrator.ingest import run_ingest
from orchestrator.journal import read_journal
from orchestrator.merge import build
from orchestrator.occupancy import idleness, recorded_spans
from orchestrator.replay import recorded_cluster, recorded_courses
from orchestrator.simulate import Cluster, Course, simulate
from orchestrator.sweep import run_sweep
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace

MUSIC = Path(__file__).parent.parent / "demo" / "music"
ORDERS = 200


def sweep(name: str, steps: int, schedule: Schedule) -> SweepFile:
    """24 models that differ in width, layers, frame size and learning rate."""
    train = {
        "max_steps": steps, "checkpoint_every": steps // 16, "log_every": steps // 16, "batch_size": 8,
        "seq_len": 512, "chunk_seconds": 0.5, "num_chunks": 1600, "eval_seconds": 8.0, "clips": 0,
    }  # fmt: skip
    space = {
        "model.dim": [32, 64, 96],
        "model.frame_sizes": [[4], [16]],
        "train.learning_rate": [0.0005, 0.001, 0.002, 0.004],
    }
    base = {"model": {"n_rnn": 1, "skip_conn": False, "emb_size": 32}, "train": train}
    body = {
        "name": name,
        "dataset": "music",
        "base": base,
        "space": space,
        "search": "random",
        "num_samples": 24,
    }
    how = {"schedule": schedule.model_dump(), "run": {"tracking": {"wandb": "off"}}}
    return build(SweepFile, {**body, **how})


def run(workspace: Workspace, asked: SweepFile) -> SweepView:
    """Train, or go on."""
    return run_sweep(workspace, asked, Console(highlight=False, width=140))


def steps_taken(view: SweepView) -> int:
    """Optimiser steps of all trials."""
    return sum(trial.rows[-1]["step"] for trial in view.trials)


def replayed(courses: list[Course], schedule: Schedule, slots: int) -> tuple[float, float]:
    """(bits of the best model found, share of all steps) of a schedule on recorded curves."""
    outcome = simulate(courses, Cluster(1, slots, 5.0), schedule)
    found = min(
        course.bits(step)
        for course in courses
        for step in range(course.checkpoint_every, outcome.steps[course.name] + 1, course.checkpoint_every)
    )
    return found, sum(outcome.steps.values()) / sum(course.max_steps for course in courses)


def told(report: Report, name: str, unit: str, samples: list[float], goal: str = "") -> None:
    """One line, and one figure."""
    value = report.add(name, unit, samples)
    spread = f" ({min(samples):.3f} to {max(samples):.3f})" if len(samples) > 1 else ""
    print(f"{name:58} {value:8.3f} {unit}{spread}  {goal}", flush=True)


def makespan(report: Report, workspace: Workspace, name: str, schedule: Schedule) -> None:
    """The simulator beside the sweep that was really run, and the slots' idle time."""
    if any(entry["run"] > 1 for entry in read_journal(workspace.sweep(name))):
        print(f"{name} was interrupted and gone on with: its makespan is not told")
        return
    spans = recorded_spans(workspace, name)
    real = max(span.end for span in spans)
    outcome = simulate(recorded_courses(workspace, name), recorded_cluster(workspace, name), schedule)
    told(report, f"{name}: makespan", "s", [real])
    told(
        report, f"{name}: simulated makespan / real", "ratio", [outcome.makespan_s / real], "goal 0.9 to 1.1"
    )
    idle = idleness(spans)
    told(
        report, f"{name}: seconds between two trials of a slot", "s", idle.between or [0.0], "goal 5 at most"
    )
    told(report, f"{name}: idle share between trials", "ratio", [idle.share])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--music", type=Path, default=MUSIC)
    parser.add_argument("--workspace", help="kept, and gone on with; else a temporary one")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps: shows that it runs")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    steps = 96 if asked.quick else 448
    asha = Schedule(type="asha", grace_steps=steps // 16, reduction_factor=4)
    report, slots = Report(), len(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        where = asked.workspace or stack.enter_context(tempfile.TemporaryDirectory())
        workspace = Workspace.open(where)
        music = IngestConfig(name="music", source=str(asked.music.resolve()), valid=0.2)
        run_ingest(workspace, music, Console(quiet=True))
        full = run(workspace, sweep("full", steps, Schedule(type="none")))
        real = run(workspace, sweep("asha", steps, asha))
        courses = recorded_courses(workspace, "full")
        makespan(report, workspace, "full", Schedule(type="none"))
        makespan(report, workspace, "asha", asha)
    best = min(trial.best[1] for trial in full.trials if trial.best)
    worst = max(trial.best[1] for trial in full.trials if trial.best)
    told(report, "best of 24 trained to the end", "bits", [best], f"the worst has {worst:.3f}")
    bits, share = replayed(courses, asha, slots)
    told(report, "ASHA replayed: behind the best", "bits", [bits - best], "goal 0.02 at most")
    told(report, "ASHA replayed: share of the steps", "ratio", [share], "goal 0.4 at most")
    orders = [
        replayed(random.Random(seed).sample(courses, len(courses)), asha, slots) for seed in range(ORDERS)
    ]
    told(report, f"ASHA in {ORDERS} orders: behind the best", "bits", [bits - best for bits, _ in orders])
    told(report, f"ASHA in {ORDERS} orders: share of the steps", "ratio", [share for _, share in orders])
    found = min(trial.best[1] for trial in real.trials if trial.best)
    told(report, "ASHA for real: behind the best", "bits", [found - best], "goal 0.02 at most")
    told(
        report,
        "ASHA for real: share of the steps",
        "ratio",
        [steps_taken(real) / steps_taken(full)],
        "goal 0.4",
    )
    if asked.json:
        report.write(asked.json)


if __name__ == "__main__":
    main()
