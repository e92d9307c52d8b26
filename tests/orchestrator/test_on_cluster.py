"""The same commands on a cluster of three nodes with fake GPUs: work on every node, one GPU a trial."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import psutil
import pytest
import yaml

from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from tests.made import tiny_experiment, write_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.system]
NODES, GPUS = 3, 2

# The cluster lives in a process of its own: a test process holds one Ray at a time, and this one may have another.
CLUSTER = f"""
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 0}})
for _ in range({NODES}):
    cluster.add_node(num_cpus=2, num_gpus={GPUS})
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def address():
    """Address of a cluster: a head without cores, and nodes with 2 cores and 2 fake GPUs each."""
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
            found = process.stdout.readline().strip()
            assert found, "the cluster did not start"
            family = psutil.Process(process.pid).children(recursive=True)
            yield found
            process.stdin.write("\n")
            process.stdin.close()
            process.wait(60)
        finally:
            for left in [p for p in family if p.is_running()]:
                left.kill()


def orchestrator(address: str, workspace: Path, *words: str) -> str:
    environment = {**os.environ, "RAY_ADDRESS": address}
    command = [sys.executable, "-m", "orchestrator.cli", *words, "-w", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_trials_run_on_every_node_with_one_gpu_each_and_songs_follow(address, tmp_path):
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_dataset(workspace.dataset("toy"))
    body = {
        "dataset": "toy",
        "base": tiny_experiment().model_dump(mode="json", exclude_unset=True),
        "space": {"model.dim": [8, 16], "train.seed": [1, 2, 3, 4]},
        "schedule": {"type": "none"},
        "run": {"tracking": {"wandb": "off"}},
    }
    file = tmp_path / "spread.yaml"
    file.write_text(yaml.safe_dump(body))
    orchestrator(address, tmp_path / "workspace", "sweep", str(file))
    trials = SweepView.open(workspace, "spread").trials
    assert len(trials) == 8
    assert {trial.state for trial in trials} == {"done"}
    where = defaultdict(set)
    for trial in trials:
        attempt = commit.read_record(workspace.trial("spread", trial.name).at("attempts"), "0001.json")
        assert len(attempt["gpus"]) == 1
        assert attempt["visible_gpus"] == attempt["gpus"][0]
        where[attempt["node"]].add(attempt["gpus"][0])
    assert len(where) == NODES, f"trials ran on {len(where)} of {NODES} nodes"

    orchestrator(
        address, tmp_path / "workspace", "generate", "spread", "songs=5", "seconds=0.2", "run.actors=3"
    )
    assert len(workspace.batch("spread-songs").at("songs").names()) == 5


def test_a_trial_that_fits_no_node_is_refused_before_it_starts(address, tmp_path):
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_dataset(workspace.dataset("toy"))
    environment = {**os.environ, "RAY_ADDRESS": address}
    command = [sys.executable, "-m", "orchestrator.cli", "train", "dataset=toy", "resources.cpus=64"]
    done = subprocess.run(
        [*command, "run.tracking.wandb=off", "-w", str(tmp_path / "workspace")],
        capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    assert done.returncode == 2
    assert "asks for 64 CPU and the largest node has 2" in done.stderr
    assert "Traceback" not in done.stderr
