"""Waiting for nodes of a real Ray cluster: those there, those that come while we wait, those that never come."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.system]

# A head without cores and a node with a fake GPU; a line on stdin asks for one more of those.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
cluster.add_node(num_cpus=1, num_gpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.add_node(num_cpus=1, num_gpus=1)
sys.stdin.readline()
cluster.shutdown()
"""
OPEN = {"RAY_AUTH_MODE": "disabled"}
"""A token file of this machine has nothing to do with it."""
GROWS = "import sys; from cluster.connect import connect; from cluster.grow import grow\n"
JOINS = "import sys; from cluster.connect import connect; from cluster.slurm.joined import joined\n"


@pytest.fixture(scope="module")
def cluster():
    """The cluster's process; its address was read."""
    environment = {
        **os.environ,
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        **OPEN,
    }
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as process:
        try:
            address = process.stdout.readline().strip()
            assert address, "the cluster did not start"
            yield process, address
            process.stdin.close()
            process.wait(60)
        finally:
            family = [process]
            if psutil.pid_exists(process.pid):
                family += psutil.Process(process.pid).children(recursive=True)
            for left in family:
                left.kill()


def started(address: str, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "RAY_ADDRESS": address, **OPEN}
    return subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its code, and what it printed, or else its errors."""
    said, errors = process.communicate(timeout=90)
    return process.returncode, said or errors


def test_nodes_are_counted_waited_for_and_given_up(cluster):
    process, address = cluster
    assert ended(started(address, "-m", "cluster.slurm.joined", "1")) == (0, "1 of 1 nodes have joined\n")
    assert ended(started(address, "-m", "cluster.grow", "1")) == (0, "1 GPUs are there; 1 were asked for\n")
    short = "with connect(): print({}, flush=True)"
    assert ended(started(address, "-c", GROWS + short.format("grow(2, 1.0)"))) == (0, "1\n")
    assert ended(started(address, "-c", JOINS + short.format("joined(2, 1.0)"))) == (0, "1\n")

    waiting = [started(address, "-m", module, "2") for module in ("cluster.grow", "cluster.slurm.joined")]
    time.sleep(8)
    assert [each.poll() for each in waiting] == [None, None], "they ended before the second node came"
    process.stdin.write("\n")
    process.stdin.flush()
    assert [ended(each) for each in waiting] == [
        (0, "2 GPUs are there; 2 were asked for\n"),
        (0, "2 of 2 nodes have joined\n"),
    ]


@pytest.mark.parametrize("words", [[], ["two"], ["1", "2"]])
def test_growing_by_no_number_tells_the_usage(words):
    code, said = ended(started("", "-m", "cluster.grow", *words))
    assert code == 2
    assert "python -m cluster.grow COUNT" in said
