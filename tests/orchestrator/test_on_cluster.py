"""The same commands on a cluster of three nodes with fake GPUs: work on every node, one GPU a trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import yaml

from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.attempts import list_commits, step_name
from tests.made import tiny_experiment, wait_until, write_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.system]
NODES, GPUS = 3, 2
STEPS = 400
DEADLINE_S = 240

# The cluster lives in a process of its own: a test process holds one Ray at a time, and this one may have another.
# It prints its address, removes each node that a line of its input names, and ends with its input.
CLUSTER = f"""
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 0}})
added = [cluster.add_node(num_cpus=2, num_gpus={GPUS}) for _ in range({NODES})]
nodes = {{node.node_id: node for node in added}}
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(line.strip()), allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""


class Cluster:
    """A head without cores, and nodes with 2 cores and 2 fake GPUs each."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._answer()

    def kill(self, node: str) -> None:
        self._process.stdin.write(node + "\n")
        self._process.stdin.flush()
        assert self._answer() == "removed"

    def _answer(self) -> str:
        line = self._process.stdout.readline().strip()
        assert line, "the cluster's process ended"
        return line


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as process:
        family: list[psutil.Process] = []
        try:
            started = Cluster(process)
            family = psutil.Process(process.pid).children(recursive=True)
            yield started
            process.stdin.close()
            process.wait(60)
        finally:
            for left in [p for p in family if p.is_running()]:
                left.kill()


def command_line(workspace: Workspace, *words: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator.cli", *words, "-w", str(workspace.storage)]


def orchestrator(cluster: Cluster, workspace: Workspace, *words: str) -> None:
    done = subprocess.run(
        command_line(workspace, *words),
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "RAY_ADDRESS": cluster.address},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def made_workspace(folder: Path) -> Workspace:
    workspace = Workspace.open(str(folder / "workspace"))
    write_dataset(workspace.dataset("toy"))
    return workspace


def sweep_file(folder: Path, name: str, **train: int) -> str:
    body = {
        "dataset": "toy",
        "base": tiny_experiment(**train).model_dump(mode="json", exclude_unset=True),
        "space": {"model.dim": [8, 16], "train.seed": [1, 2, 3]},
        "schedule": {"type": "none"},
        "run": {"tracking": {"wandb": "off"}},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(body))
    return str(file)


def attempts(workspace: Workspace, sweep: str) -> dict[str, list[dict]]:
    """The attempts of every trial of a sweep that has begun, in order."""
    found = {}
    for trial in workspace.sweep(sweep).at("trials").names():
        folder = workspace.trial(sweep, trial).at("attempts")
        found[trial] = [commit.read_record(folder, name) for name in folder.names()]
    return found


def span(trial: Path) -> tuple[float, float]:
    """When a trial began and when it last wrote, by its files' times."""
    written = [path.stat().st_mtime for path in trial.rglob("*") if path.name != "config.json"]
    return (trial / "attempts" / "0001.json").stat().st_mtime, max(written)


def test_trials_run_on_every_node_with_one_gpu_each_and_songs_follow(cluster, tmp_path):
    workspace = made_workspace(tmp_path)
    orchestrator(cluster, workspace, "sweep", sweep_file(tmp_path, "spread"))
    trials = SweepView.open(workspace, "spread").trials
    assert len(trials) == 6
    assert {trial.state for trial in trials} == {"done"}
    spans = defaultdict(list)
    for name, (attempt,) in attempts(workspace, "spread").items():
        assert len(attempt["gpus"]) == 1
        assert attempt["visible_gpus"] == attempt["gpus"][0]
        folder = tmp_path / "workspace" / "sweeps" / "spread" / "trials" / name
        spans[attempt["node"], attempt["gpus"][0]].append(span(folder))
    assert len({node for node, _ in spans}) == NODES, f"trials ran on {set(spans)}"
    for gpu, used in spans.items():
        for (_, end), (start, _) in pairwise(sorted(used)):
            assert end <= start, f"two trials at once on GPU {gpu}"

    orchestrator(cluster, workspace, "generate", "spread", "songs=6", "seconds=4")
    songs = workspace.batch("spread-songs").at("songs")
    made_on = [json.loads(commit.read_file(songs.at(song), "song.json"))["made_on"] for song in songs.names()]
    assert len(made_on) == 6
    assert {len(where["gpus"]) for where in made_on} == {1}
    assert len({where["node"] for where in made_on}) > 1


def test_a_trial_that_fits_no_node_is_refused_before_it_starts(cluster, tmp_path):
    workspace = made_workspace(tmp_path)
    words = ["train", "dataset=toy", "run.resources.cpus=64", "run.tracking.wandb=off"]
    done = subprocess.run(
        command_line(workspace, *words),
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "RAY_ADDRESS": cluster.address},
    )
    assert done.returncode == 2
    assert "asks for 64 CPU and the largest node has 2" in done.stderr
    assert "Traceback" not in done.stderr


# The last test: it leaves the cluster without one of its nodes.
def test_node_lost_in_mid_sweep_its_trials_go_on_from_their_checkpoints_on_others(cluster, tmp_path):
    workspace = made_workspace(tmp_path)
    words = command_line(
        workspace, "sweep", sweep_file(tmp_path, "lost", max_steps=STEPS, checkpoint_every=20)
    )
    log = tmp_path / "log"

    nodes: list[str] = []

    def one_is_in_the_middle() -> bool:
        """A trial has a checkpoint and more than half of its steps to go: notes its node."""
        for name in workspace.sweep("lost").at("trials").names():
            trial = workspace.trial("lost", name)
            saved = list_commits(trial, "state")
            if saved and saved[-1][0] < STEPS / 2:
                nodes.append(commit.read_record(trial.at("attempts"), "0001.json")["node"])
                return True
        return False

    with (
        log.open("wb") as out,
        subprocess.Popen(
            words, stdout=out, stderr=out, env={**os.environ, "RAY_ADDRESS": cluster.address}
        ) as driver,
    ):
        wait_until(driver, one_is_in_the_middle, f"a trial with a checkpoint (log: {log})")
        (node,) = nodes
        cluster.kill(node)
        assert driver.wait(DEADLINE_S) == 0, log.read_text()
    assert {trial.state for trial in SweepView.open(workspace, "lost").trials} == {"done"}
    tried = attempts(workspace, "lost")
    moved = {trial: tries for trial, tries in tried.items() if len(tries) > 1}
    assert moved
    assert {tries[0]["node"] for tries in moved.values()} == {node}
    assert node not in {later["node"] for tries in moved.values() for later in tries[1:]}
    assert any(tries[1]["start_step"] > 0 for tries in moved.values())
    for trial in tried:
        folder = workspace.trial("lost", trial)
        step, attempt = list_commits(folder, "model")[-1]
        assert (step, attempt) == (STEPS, len(tried[trial]))
        assert commit.read_commit(folder.at("model", step_name(step, attempt)))
