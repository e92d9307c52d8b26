"""What the song pool costs: songs an hour of its actors against the bare engine in one process, on the same cores.

    python benchmarks/factory.py [--quick] [--actors 1 2 4] [--json FILE]

The bare engine runs with as many threads as there are actors and cores, a pool with one thread an actor; both make the
same songs of dim 512 x 3 (random weights) in fp32, measures off. Only the time between the first and the last sample
counts for the ratio: the start of Ray and of its workers is told apart. Sides run in turn (A B A B). Actors beyond the
cores wait for a place, as they do in `generate`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from report import Report

from cluster.connect import connect
from orchestrator.config import GenerateJob, GenerateRun, Schedule, SweepConfig
from orchestrator.drift import check_same_config
from orchestrator.on_ray.song_pool import SongPool
from orchestrator.plan import plan
from orchestrator.songs import PlannedSong, is_made, plan_songs
from orchestrator.sources import Checkpoint, Source
from orchestrator.workspace import CONFIG, Workspace
from samplernn.attempts import begin_attempt, step_name
from samplernn.checkpoint import About, load_model, save_model
from samplernn.config import Experiment, GenerateConfig, ModelConfig
from samplernn.folding import fold
from samplernn.generate.backends import choose_backend
from samplernn.generate.engine import Engine
from samplernn.generate.song import Song
from samplernn.model import SampleRNN

RATE = 16_000
MODEL = ModelConfig(dim=512, n_rnn=3)


def checkpoint(workspace: Workspace) -> Checkpoint:
    """A committed model with random weights."""
    config = SweepConfig(
        name="bench", dataset="none", base=Experiment(model=MODEL), schedule=Schedule(type="none")
    )
    check_same_config(workspace.sweep("bench"), CONFIG, config)
    (only,) = plan(config)
    about = About(only.experiment, "none", "0" * 64, RATE, 1, 1.0, 8.0)
    trial = workspace.trial("bench", only.name)
    begin_attempt(trial, 0)
    save_model(trial, 1, SampleRNN.seeded(MODEL, 0), about)
    return Checkpoint("bench", only.name, 1, trial.at("model", step_name(1, 1)), 8.0, 1.0)


def planned(workspace: Workspace, at: Checkpoint, songs: int, seconds: float) -> list[PlannedSong]:
    """Songs to make, none of them there."""
    job = GenerateJob(name="any", sweep="bench", generate=GenerateConfig(songs=songs, seconds=seconds))
    return plan_songs([Source(1, job, at, {})])


def bare(at: Checkpoint, songs: int, seconds: float, cores: int) -> float:
    """Songs an hour of the engine alone."""
    model, _ = load_model(at.folder)
    folded = fold(model)
    backend, _ = choose_backend(folded, torch.device("cpu"), threads=cores)
    engine = Engine(folded, backend, RATE)
    order = [Song(seed=0, index=index, samples=round(seconds * RATE)) for index in range(songs)]
    began = time.perf_counter()
    for _ in engine.generate(order):
        pass
    return songs / (time.perf_counter() - began) * 3600


@dataclass
class Run:
    """How one run of the pool went."""

    rate: float
    """Songs an hour, from the moment when all actors are ready."""
    first: float
    """Seconds from the command to the first samples that an actor told of."""
    share: float
    """CPU seconds a second of the driver."""


def pool(workspace: Workspace, name: str, at: Checkpoint, songs: int, seconds: float, actors: int) -> Run:
    """The pool makes the songs."""
    process, ready, heard = psutil.Process(), list[float](), list[float]()
    before, began = process.cpu_times(), time.perf_counter()
    factory = SongPool(
        workspace, name, GenerateRun(actors=actors, measures=False), gpus=0,
        agree=lambda _: ready.append(time.perf_counter()), progress=lambda *_: heard.append(time.perf_counter()),
        tick=lambda: None,
    )  # fmt: skip
    factory.run(planned(workspace, at, songs, seconds))
    end, after = time.perf_counter(), process.cpu_times()
    busy = after.user + after.system - before.user - before.system
    return Run(songs / (end - max(ready)) * 3600, heard[0] - began, busy / (end - began))


def first_on_disk(workspace: Workspace, batch: str, seconds: float) -> float:
    """Seconds from the start of the command to the first whole song on disk, two of so many seconds being asked for."""
    command = [
        sys.executable, "-m", "orchestrator.cli", "generate", "bench", f"name={batch}", "songs=2", f"seconds={seconds}",
        "run.measures=false", "run.page=false", "-w", str(workspace.storage),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        while not any(is_made(workspace, batch, song) for song in ("0000", "0001")):
            if process.poll() is not None:
                raise RuntimeError(f"generate ended with {process.returncode} and left no song")
            time.sleep(0.02)
        return time.perf_counter() - began


_ONE_SONG = """
import resource, sys, tempfile
sys.path.insert(0, {folder!r})
from factory import GenerateRun, Workspace, checkpoint, connect, planned
from orchestrator.on_ray.song_actor import SongActor
with tempfile.TemporaryDirectory() as folder, connect():
    workspace = Workspace.open(folder)
    at = checkpoint(workspace)
    actor = SongActor(workspace, "one", GenerateRun())
    actor.load(at)
    for said in actor.make(planned(workspace, at, 1, {seconds})):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def actor_memory(seconds: float) -> float:
    """Peak MB of a process that makes one song of so many seconds, measures on."""
    code = _ONE_SONG.format(folder=str(Path(__file__).parent), seconds=seconds)
    return float(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the main ratio within a minute")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4], help="how many, one pool each")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    songs, seconds, rounds = 64, 4.0, 1 if options.quick else 3
    counts = [cores] if options.quick else options.actors
    report = Report()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        workspace = Workspace.open(folder)
        at = checkpoint(workspace)
        stack.enter_context(connect())
        for actors in counts:
            runs, alone = list[Run](), list[float]()
            for turn in range(rounds):
                alone.append(bare(at, songs, seconds, min(cores, actors)))
                runs.append(pool(workspace, f"batch-{actors}-{turn}", at, songs, seconds, actors))
            rate = report.add(f"{actors} actors", "songs/hour", [run.rate for run in runs])
            ratios = [run.rate / one for run, one in zip(runs, alone, strict=True)]
            ratio = report.add(f"{actors} actors to the bare engine", "ratio", ratios)
            first = report.add(f"{actors} actors to the first samples", "s", [run.first for run in runs])
            share = report.add(f"{actors} actors driver", "cores", [run.share for run in runs])
            print(
                f"{actors} actors {rate:8,.0f} songs of {seconds:g} s an hour  {ratio:6.1%} of the bare engine  "
                f"first samples after {first:.1f} s  driver {share:.1%} of a core",
                flush=True,
            )
    if not options.quick:
        with tempfile.TemporaryDirectory() as folder:
            workspace = Workspace.open(folder)
            checkpoint(workspace)
            times = [first_on_disk(workspace, f"first-{turn}", 4.0) for turn in range(rounds)]
        first = report.add("command to the first song of 4 s on disk", "s", times)
        print(f"from the command to the first song of 4 s on disk {first:.1f} s")
        for length in (10.0, 600.0):
            memory = report.add(f"actor with a song of {length:g} s", "MB", [actor_memory(length)])
            print(f"one actor, one song of {length:g} s: {memory:,.0f} MB at most")
    if options.json:
        report.write(options.json)


if __name__ == "__main__":
    main()
