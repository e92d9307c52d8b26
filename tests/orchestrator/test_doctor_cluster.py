"""`doctor --cluster`: what a node finds out alone, how nodes are compared, and the whole of it on real nodes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from cluster.nodes import Node, Silent
from orchestrator import node_check
from orchestrator.doctor_cluster import (
    NodeReport,
    check_before,
    clock,
    render_cluster,
    same_versions,
    unanswered,
)
from orchestrator.live import console
from orchestrator.node_check import datasets, gpu, judge_gpus, look, read_all, versions
from orchestrator.workspace import Workspace
from samplernn.storage import Storage
from tests.made import write_dataset

HERE = Node("a" * 8, "here", "10.0.0.1")
GPUS = [(0, 4.0, 81559.0, 0), (1, 4.0, 81559.0, 0)]


def test_a_node_reads_the_drivers_file_and_writes_its_own(tmp_path):
    folder = Storage.open(tmp_path)
    folder.write("driver", b"driver")
    facts = look(HERE, folder, ["driver"])
    assert {finding.name: finding.state for finding in facts.findings}["storage"] == "ok"
    assert folder.read(HERE.id) == b"here"
    assert facts.versions == versions()


def test_a_workspace_that_another_node_does_not_share_is_red(tmp_path, monkeypatch):
    monkeypatch.setattr(node_check, "SETTLE_S", 0.0)
    found = read_all(Storage.open(tmp_path), ["written-elsewhere"])
    assert found.state == "bad"
    assert "one storage for all nodes" in found.remedy


def test_a_workspace_that_cannot_be_written_is_red(tmp_path):
    (tmp_path / "file").write_text("in the way")
    found = node_check.storage(Storage.open(tmp_path / "file" / "below"), HERE, [])
    assert found.state == "bad"
    assert "can't be written" in found.value


def test_versions_that_differ_are_named_with_both():
    here = versions()
    assert same_versions(here, here).state == "ok"
    other = same_versions(here, {**here, "torch": "1.0", "code": "0000000000"})
    assert other.state == "bad"
    assert f"torch 1.0 (here {here['torch']})" in other.value
    assert "code 0000000000" in other.value


@pytest.mark.parametrize(
    ("difference", "doubt", "state"),
    [(0.2, 0.01, "ok"), (-3.0, 0.01, "warn"), (3.0, 2.5, "ok"), (86_400.0, 0.01, "bad")],
)
def test_a_clock_is_judged_beyond_what_the_way_there_explains(difference, doubt, state):
    assert clock(difference, doubt).state == state


@pytest.mark.parametrize(
    ("counted", "rows", "says"),
    [
        (2, GPUS, None),
        (2, GPUS[:1], "the driver shows 1"),
        (2, [GPUS[0], (1, 4.0, 81559.0, 3)], "GPU 1 has 3 uncorrected memory errors"),
        (1, [(0, 40_960.0, 81559.0, 0)], "40.0 of 79.6 GiB in use"),
    ],
)
def test_gpus_that_are_lost_faulty_or_taken_are_told(counted, rows, says):
    found = judge_gpus(counted, rows)
    assert (found is None) if says is None else (found is not None and says in found.value)


def test_gpus_are_read_from_the_driver_as_it_answers(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '0, 4, 81559, 0'\necho '1, 900, 81559, [N/A]'\n")
    smi.chmod(smi.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert node_check.smi_rows() == [(0, 4.0, 81559.0, 0), (1, 900.0, 81559.0, 0)]


def test_gpus_that_ray_counts_and_no_driver_shows_are_worth_a_look(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert gpu(2).state == "warn"
    assert gpu(0).state == "ok"


def test_the_cache_of_datasets_says_what_it_keeps(tmp_path):
    (tmp_path / "band").mkdir()
    (tmp_path / "band" / "pcm.arrow").write_bytes(bytes(1024))
    assert "kept" in datasets(tmp_path).value


def test_a_node_without_the_project_is_red_and_one_that_is_lost_is_not(capsys):
    assert unanswered(Silent("ModuleNotFoundError: No module named 'orchestrator'")).state == "bad"
    lost = NodeReport(HERE, [unanswered(Silent("no answer within 45 s"))])
    assert lost.state == "warn"
    console().print(render_cluster([lost]))
    told = capsys.readouterr().out
    assert "0 of 1 nodes are right; 1 worth a look" in told
    assert "trials that it took are moved" in told


CLUSTER = """
import os, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
cluster.add_node(num_cpus=1, num_gpus=2, env_vars={"PATH": sys.argv[1] + os.pathsep + os.environ["PATH"]})
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.mark.cluster
@pytest.mark.system
def test_a_red_cell_is_told_with_its_remedy_and_keeps_a_sweep_from_starting(tmp_path):
    """A head, and a node that counts two GPUs of which the driver shows one."""
    write_dataset(Workspace.open(str(tmp_path / "workspace")).dataset("toy"))
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho '0, 4, 81559, 0'\n")
    smi.chmod(0o755)
    command = [sys.executable, "-c", CLUSTER, str(smi.parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        try:
            environment = {**os.environ, "RAY_ADDRESS": cluster.stdout.readline().strip()}
            assert environment["RAY_ADDRESS"], "the cluster did not start"
            for words, code in ((["doctor", "--cluster"], 1), (["train", "dataset=toy"], 3)):
                done = subprocess.run(
                    [sys.executable, "-m", "orchestrator.cli", *words, "-w", str(tmp_path / "workspace")],
                    env=environment, capture_output=True, text=True, timeout=120,
                )  # fmt: skip
                told = done.stdout + done.stderr
                assert done.returncode == code, told
                assert "GPU: Ray counts 2, the driver shows 1" in told
                assert "restart the node" in told
            assert "1 of 2 nodes can't do their part (GPU" in told
            assert not (tmp_path / "workspace" / "sweeps" / "train" / "trials").exists()
        finally:
            cluster.communicate("\n", timeout=60)


def test_one_node_alone_is_not_looked_at_before_a_sweep(ray_local, tmp_path):
    check_before(Workspace.open(str(tmp_path / "never-made")), lambda shown: pytest.fail(str(shown)))
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_is_not_named_is_asked_for(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "orchestrator.cli", "doctor", "--cluster", "-w", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "RAY_ADDRESS=auto" in done.stderr
