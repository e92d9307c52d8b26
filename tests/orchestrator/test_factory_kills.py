"""The song factory on a cluster that is shot at: every song once, sample by sample as the bare engine makes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import psutil
import pytest
import torch
import yaml

from orchestrator.drift import check_same_config
from orchestrator.journal import read_journal
from orchestrator.plan import plan
from orchestrator.sources import choose_sources
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.checkpoint import load_model
from samplernn.chunks import Dataset
from samplernn.config import ModelConfig
from samplernn.dc import without_dc
from samplernn.errors import Damaged
from samplernn.flac import decode_flac
from samplernn.folding import fold
from samplernn.generate.backends import choose_backend
from samplernn.generate.engine import BLOCK, Engine, generate_whole
from samplernn.generate.native_backend import unavailable
from samplernn.generate.song import Song
from samplernn.train import train
from tests.made import tiny_experiment, wait_until, write_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.system]
RATE, SECONDS, COMMIT_SECONDS, EACH, STEPS = 4_000, 20, 1.0, 20, (4, 8, 12)

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=2) for _ in range(int(sys.argv[1]))]
cluster.wait_for_nodes()
print(cluster.address, nodes[-1].node_id, flush=True)
for line in sys.stdin:
    if line.strip() == "remove":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    elif line.strip() == "add":
        nodes.append(cluster.add_node(num_cpus=2))
    print("done", flush=True)
cluster.shutdown()
"""


@contextmanager
def shaky_cluster(
    nodes: int = 3,
) -> Iterator[tuple[str, str, Callable[[str], None], Callable[[], None]]]:
    """Address of a head without cores and nodes of two; id of the node that "remove" removes; tell, and wait."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(nodes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env=environment, text=True,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout

        def tell(word: str) -> None:
            process.stdin.write(f"{word}\n")
            process.stdin.flush()

        def done() -> None:
            assert process.stdout.readline().strip() == "done"

        family = list[psutil.Process]()
        try:
            started = process.stdout.readline().split()
            assert started, "the cluster did not start"
            yield started[0], started[1], tell, done
        finally:
            with suppress(psutil.NoSuchProcess):
                family = psutil.Process(process.pid).children(recursive=True)
            process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            for left in [*family, psutil.Process(process.pid)] if process.poll() is None else family:
                with suppress(psutil.NoSuchProcess):
                    left.kill()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """A sweep of one trial with three trained checkpoints, at 4 kHz."""
    from orchestrator.config import SweepConfig

    folder = tmp_path_factory.mktemp("factory")
    workspace = Workspace.open(str(folder / "workspace"))
    write_dataset(workspace.dataset("toy"), rate=RATE)
    tiny = tiny_experiment(clips=0)
    model = ModelConfig(frame_sizes=(4, 16), dim=96, n_rnn=2, emb_size=8, q_levels=64)
    config = SweepConfig(
        name="toy", dataset="toy", base=tiny.model_copy(update={"model": model}), schedule={"type": "none"}
    )
    check_same_config(workspace.sweep("toy"), CONFIG, config)
    (trial,) = plan(config)
    dataset = Dataset.open(workspace.dataset("toy"), folder / "cache")
    for _ in train(trial.experiment, dataset, workspace.trial("toy", trial.name), device=torch.device("cpu")):
        pass
    return workspace


def parts_of(workspace: Workspace) -> dict[str, list[tuple[int, int]]]:
    """(start, stop) of every committed part of every unfinished song."""
    folder = workspace.batch("night").at("parts")
    return {
        song: [
            (int(name.split("-")[1]), int(name.split("-")[2]))
            for name in folder.at(song).names()
            if commit.is_committed(folder.at(song, name))
        ]
        for song in folder.names()
    }


def entries(workspace: Workspace) -> list[dict]:
    try:
        return read_journal(workspace.batch("night"))
    except (FileNotFoundError, Damaged):
        return []


def at_work(workspace: Workspace, doomed: str, on_it: bool) -> dict[int, int]:
    """Process id of every worker that lives, by its number: those on the doomed node, or on the others."""
    return {
        entry["number"]: entry["pid"]
        for entry in entries(workspace)
        if entry["kind"] == "worker"
        and (entry["node"] == doomed) == on_it
        and psutil.pid_exists(entry["pid"])
    }


@pytest.mark.skipif(bool(unavailable()), reason="the native kernel is not built")
def test_factory_that_is_shot_at_makes_every_song_once_and_to_the_same_samples(workspace, tmp_path):
    seed = int(os.environ.get("CHAOS_SEED", "7"))
    draw, file = random.Random(seed), tmp_path / "night.yaml"
    drawn = {"songs": EACH, "seconds": SECONDS, "seed": 5}
    body = {
        "sweep": "toy",
        "sections": [{"sweep": "toy", "step": step, "generate": dict(drawn)} for step in STEPS],
        "run": {
            "slots": 4, "commit_seconds": COMMIT_SECONDS, "backend": "native", "measures": False, "page": False,
            "retries": 8,
        },
    }  # fmt: skip
    file.write_text(yaml.safe_dump(body))
    command = [sys.executable, "-m", "orchestrator.cli", "generate", str(file), "-w", str(workspace.storage)]
    reached: dict[int, dict[str, int]] = {}

    with shaky_cluster() as (address, doomed, tell, done):
        environment = {**os.environ, "RAY_ADDRESS": address}

        def start() -> subprocess.Popen[str]:
            with (tmp_path / "driver.log").open("a") as said:
                return subprocess.Popen(command, stdout=said, stderr=said, env=environment, text=True)

        def kill(number: int, pid: int) -> None:
            os.kill(pid, signal.SIGKILL)
            reached[number] = {
                song: max(stop for _, stop in found) for song, found in parts_of(workspace).items() if found
            }

        def safe() -> dict[int, int]:
            return at_work(workspace, doomed, on_it=False)

        def gone(numbers: set[int]) -> bool:
            return numbers <= {entry["number"] for entry in entries(workspace) if entry["kind"] == "lost"}

        driver = start()
        wait_until(
            driver,
            lambda: len(safe()) >= 3 and bool(at_work(workspace, doomed, on_it=True)),
            "workers on each node",
        )
        wait_until(driver, lambda: bool(parts_of(workspace)), "the first part of a song")
        before, on_doomed = safe(), set(at_work(workspace, doomed, on_it=True))
        for number in draw.sample(sorted(before), 3):
            kill(number, before[number])
        tell("remove")
        wait_until(
            driver,
            lambda: bool(safe().keys() - before.keys()),
            "a worker in the place of one that was killed",
        )
        again = min(safe().keys() - before.keys())
        kill(again, safe()[again])
        wait_until(driver, lambda: gone(on_doomed | reached.keys()), "the loss of a node and of those killed")
        made_before = sum(entry["kind"] == "song" for entry in entries(workspace))
        driver.kill()
        driver.wait()
        at_kill = {s: max(stop for _, stop in found) for s, found in parts_of(workspace).items() if found}
        lengths = [stop - start for found in parts_of(workspace).values() for start, stop in found]
        second_run = len(entries(workspace))
        driver = start()
        done()
        wait_until(driver, lambda: len(entries(workspace)) > second_run, "the second driver's first worker")
        tell("add")
        done()
        assert driver.wait(240) == 0, f"seed {seed}: {(tmp_path / 'driver.log').read_text()}"
    assert made_before < len(STEPS) * EACH, "the driver was killed too late"
    assert "raylet" not in (tmp_path / "driver.log").read_text(), "Ray's own lines in what a person sees"

    journal = entries(workspace)
    assert sum(entry["kind"] == "lost" for entry in journal[:second_run]) >= 5, f"seed {seed}"
    again_nodes = {entry["node"] for entry in journal[second_run:] if entry["kind"] == "worker"}
    assert len(again_nodes - {doomed}) >= 2, "the second run had workers on one node alone"
    finished = [entry["song"] for entry in journal if entry["kind"] == "song"]
    wanted = [f"s{section:02d}-{index:04d}" for section in (1, 2, 3) for index in range(EACH)]
    made = workspace.batch("night").at("songs").names()
    assert made == wanted, f"seed {seed}"
    assert len(set(finished)) == len(finished), "a song was committed twice"
    assert (
        set(made) - set(finished) == set() or len(set(made) - set(finished)) <= 6
    )  # told of by no one who lived

    most = COMMIT_SECONDS * RATE + BLOCK + 16
    assert lengths
    assert max(lengths) <= most
    resumed = {entry["song"]: entry["resumed"] for entry in journal[second_run:] if entry["kind"] == "song"}
    affected = [song for song in at_kill if resumed.get(song) is not None]
    assert affected, "no song was in the making when the driver was killed"
    assert all(resumed[song] >= at_kill[song] for song in affected), f"seed {seed}: more was made twice"
    for at, entry in enumerate(journal[:second_run]):
        if entry["kind"] != "lost" or entry["number"] not in reached:
            continue
        for song in entry["songs"]:
            later = [e for e in journal[at:second_run] if song in (e.get("song"), *e.get("songs", []))][1:]
            if later and later[0]["kind"] == "song" and later[0]["resumed"] is not None:
                assert later[0]["resumed"] >= reached[entry["number"]].get(song, 0), f"seed {seed}: {song}"

    for section, source in enumerate(choose_sources(workspace, _job(str(file))), start=1):
        model, about = load_model(source.checkpoint.folder)
        folded = fold(model)
        backend, _ = choose_backend(folded, torch.device("cpu"), wanted="native", slots=EACH, threads=2)
        songs = [Song(seed=5, index=index, samples=SECONDS * RATE) for index in range(EACH)]
        for index, undisturbed in enumerate(
            generate_whole(Engine(folded, backend, about.sample_rate), songs)
        ):
            song = workspace.song("night", f"s{section:02d}-{index:04d}")
            pcm, _ = decode_flac(commit.read_file(song, "song.flac"))
            (whole,) = without_dc(lambda made=undisturbed.pcm: [made], RATE)
            assert np.array_equal(pcm, whole), f"seed {seed}: song {index} of section {section}"


HASTY = """
from orchestrator import cli
from orchestrator.on_ray import song_pool
song_pool.WORTH_MOVING_S = 1.0  # of a real batch, a minute
cli.main()
"""


@pytest.mark.skipif(bool(unavailable()), reason="the native kernel is not built")
def test_node_that_joins_when_every_song_is_given_away_takes_over_half_of_them(workspace, tmp_path):
    length, count = 240, 8
    command = [
        sys.executable, "-c", HASTY, "generate", "toy", "name=late", f"songs={count}", f"seconds={length}",
        "run.backend=native", "run.measures=false", "run.page=false", "-w", str(workspace.storage),
    ]  # fmt: skip
    batch = workspace.batch("late")

    def told(kind: str) -> list[dict]:
        try:
            return [entry for entry in read_journal(batch) if entry["kind"] == kind]
        except (FileNotFoundError, Damaged):
            return []

    with shaky_cluster(1) as (address, first, tell, done), (tmp_path / "driver.log").open("w") as said:
        driver = subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, "RAY_ADDRESS": address}, text=True
        )
        wait_until(driver, lambda: len(told("worker")) == 2, "two workers on the first node")
        began = {entry["number"] for entry in told("worker")}
        assert not told("song"), "the songs are too short for a node to join"
        tell("add")
        done()
        wait_until(driver, lambda: len(told("returned")) >= 2, "songs that are given back")
        assert driver.wait(240) == 0, (tmp_path / "driver.log").read_text()
    late = {entry["number"] for entry in told("worker") if entry["node"] != first}
    assert late
    assert not late & began
    taken = {entry["song"]: entry for entry in told("song") if entry["worker"] in late}
    assert len(taken) >= 2, "the late workers had less than their share"
    assert taken.keys() <= {entry["song"] for entry in told("returned")}
    assert all(entry["resumed"] > 0 for entry in taken.values()), "what was made was made again"
    assert sorted(entry["song"] for entry in told("song")) == [f"{index:04d}" for index in range(count)]

    song = min(taken)
    (source,) = choose_sources(workspace, _job("toy", "name=late", f"songs={count}", f"seconds={length}"))
    model, about = load_model(source.checkpoint.folder)
    backend, _ = choose_backend(fold(model), torch.device("cpu"), wanted="native", slots=1, threads=2)
    alone = [Song(seed=source.section.generate.seed, index=int(song), samples=length * RATE)]
    (undisturbed,) = generate_whole(Engine(fold(model), backend, about.sample_rate), alone)
    (whole,) = without_dc(lambda: [undisturbed.pcm], RATE)
    pcm, _ = decode_flac(commit.read_file(workspace.song("late", song), "song.flac"))
    assert np.array_equal(pcm, whole)


def _job(*words: str):
    from orchestrator.asked import songs_asked

    return songs_asked(list(words)).job
