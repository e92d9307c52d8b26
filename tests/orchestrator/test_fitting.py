"""What fits where: placement on whole and shared GPUs, off the head, and what is missing where none fits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from ray.tune.utils.object_cache import _ObjectCache

from cluster.connect import Node
from orchestrator.config import Resources
from orchestrator.on_ray import fitting
from orchestrator.on_ray.fitting import missing, per_trial, placement, report_every_s, slots
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.errors import BadInput
from tests.made import tiny_experiment, wait_until, write_dataset


def node(name: str, cpus: float, gpus: float = 0.0, *, head: bool = False) -> Node:
    return Node(name, {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}, head)


HEAD, BARE_HEAD, GPU_HEAD = node("h", 8, head=True), node("h", 0, head=True), node("h", 8, 8, head=True)
CPUS, GPUS = node("c", 64), node("g", 16, 8)


@pytest.mark.parametrize(
    ("share", "nodes", "fit"),
    [
        ({"CPU": 1, "GPU": 1}, [BARE_HEAD, GPUS, GPUS], [8, 8]),
        ({"CPU": 1, "GPU": 1}, [GPU_HEAD, GPUS], [8, 8]),  # an idle GPU would be worse than a busy head
        ({"CPU": 1, "GPU": 0}, [GPU_HEAD, GPUS], [16]),
        ({"CPU": 1, "GPU": 0}, [HEAD, CPUS], [64]),
        ({"CPU": 1, "GPU": 0}, [HEAD], [8]),
        ({"CPU": 8, "GPU": 0}, [HEAD, node("small", 4)], [1]),
        ({"CPU": 1, "GPU": 0.25}, [BARE_HEAD, GPUS], [16]),  # 32 by its GPUs, 16 by its cores
        ({"CPU": 0.25, "GPU": 0.25}, [BARE_HEAD, GPUS], [32]),
        ({"CPU": 1, "GPU": 0.4}, [node("g", 16, 2)], [4]),  # 0.2 left of each GPU are no third place
        ({"CPU": 1, "GPU": 1 / 3}, [node("g", 16, 2)], [6]),
        ({"CPU": 0.1, "GPU": 0}, [node("c", 1)], [10]),
        ({"CPU": 128, "GPU": 0}, [HEAD, CPUS], []),
    ],
)
def test_slots_are_whole_places_on_the_nodes_that_trials_use(share, nodes, fit):
    assert slots(share, nodes) == fit


def test_missing_resource_is_named_also_where_only_the_combination_is():
    assert missing({"CPU": 1, "GPU": 1}, [HEAD, GPUS]) is None
    assert missing({"CPU": 1, "GPU": 1}, [HEAD, CPUS]) == "a trial asks for 1 GPU and the largest node has 0"
    assert missing({"CPU": 32, "GPU": 1}, [CPUS, GPUS]) == (
        "a trial asks for 32 CPU and 1 GPU and no node has as much of each"
    )
    assert missing({"CPU": 1, "GPU": 0}, []) == "a trial asks for 1 CPU and the largest node has 0"


def test_one_placement_a_trial_keeps_off_the_head():
    (bundle,) = placement({"CPU": 2, "GPU": 0.5}, [BARE_HEAD, GPUS]).bundles
    assert bundle == {"CPU": 2, "GPU": 0.5}
    assert len(placement({"CPU": 1, "GPU": 0}, [HEAD, CPUS]).bundles) == 1


def test_a_fresh_place_is_the_same_one_by_a_request_that_fits_no_used_worker():
    share, nodes = {"CPU": 2, "GPU": 0.5}, [BARE_HEAD, GPUS]
    usual, fresh = placement(share, nodes), placement(share, nodes, "SPREAD")
    workers = _ObjectCache(may_keep_one=True)  # where Tune looks for one that trained before
    assert workers.cache_object(usual, "used")
    assert not workers.has_cached_object(fresh)
    assert workers.has_cached_object(placement(share, nodes))
    assert fresh.bundles == usual.bundles


@pytest.mark.parametrize("concurrent", [1, 32, 160, 161, 1000, 10_000])
def test_all_trials_together_report_less_than_a_hundred_times_a_second(concurrent):
    assert concurrent / report_every_s(concurrent) < 100
    assert report_every_s(concurrent) >= 2


@pytest.mark.cluster
def test_trial_that_fits_no_node_of_this_machine_is_refused_with_its_setting(ray_local):
    with pytest.raises(BadInput, match=r"asks for 4096 CPU and the largest node has .*lower resources\.cpus"):
        per_trial(Resources(cpus=4096))
    with pytest.raises(BadInput, match=r"asks for 1 GPU and the largest node has 0; lower resources\.gpus"):
        per_trial(Resources(gpus=1))


@pytest.mark.cluster
def test_waiting_trials_are_named_once_with_what_is_missing_while_none_works(ray_local, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(fitting.time, "monotonic", lambda: now[0])
    watch, names = fitting.Unplaced({"CPU": 4096.0, "GPU": 0.0}), [f"{n:04d}" for n in range(5)]
    told = []
    for seconds, working in [
        (0, False),
        (59, False),
        (61, False),
        (90, False),
        (95, True),
        (100, False),
        (161, False),
    ]:
        now[0] = float(seconds)
        told.append(watch.look(names, working))
    assert [bool(line) for line in told] == [False, False, True, False, False, False, True]
    assert "a trial asks for 4096 CPU" in told[2]
    assert "0000, 0001, 0002 and 2 more wait" in told[2]
    assert watch.look([], working=False) is None


# The head has cores of its own; the line takes the node away.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
node = cluster.add_node(num_cpus=2, num_gpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(node, allow_graceful=False)
sys.stdin.readline()
cluster.shutdown()
"""
SOONER = "import sys, orchestrator.on_ray.fitting as f; f.UNPLACED_S = 5.0; from orchestrator.cli import main; main()"


@pytest.fixture
def head_and_node() -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True,
    ) as process:  # fmt: skip
        family: list[psutil.Process] = []
        try:
            yield process
            family = psutil.Process(process.pid).children(recursive=True)
            process.communicate("\n", timeout=60)
        finally:
            process.kill()
            for left in [p for p in family if p.is_running()]:
                left.kill()


@pytest.mark.cluster
@pytest.mark.system
def test_trials_share_a_gpu_keep_off_the_head_and_say_what_is_missing_when_their_node_is_gone(
    tmp_path, head_and_node
):
    address = head_and_node.stdout.readline().strip()
    assert address, "the cluster did not start"
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_dataset(workspace.dataset("toy"), samples=32_000)

    def start(name: str, log: Path, **train: int) -> subprocess.Popen[bytes]:
        body = {
            "dataset": "toy",
            "base": tiny_experiment(**train).model_dump(mode="json", exclude_unset=True),
            "space": {"train.seed": [1, 2, 3]},
            "schedule": {"type": "none"},
            "resources": {"gpus": 0 if name == "cores" else 0.5},
            "run": {"tracking": {"wandb": "off"}},
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(body))
        command = [sys.executable, "-c", SOONER, "sweep", str(tmp_path / f"{name}.yaml")]
        with log.open("wb") as out:
            return subprocess.Popen(
                [*command, "-w", str(workspace.storage)],
                stdout=out, stderr=out, env={**os.environ, "RAY_ADDRESS": address},
            )  # fmt: skip

    log = tmp_path / "log"
    assert start("cores", log).wait(200) == 0, log.read_text()
    trials = SweepView.open(workspace, "cores").trials
    records = [
        commit.read_record(workspace.trial("cores", trial.name).at("attempts"), "0001.json")
        for trial in trials
    ]
    assert len({record["node"] for record in records}) == 1, "the head had room for two of the three"

    gone = start("gone", log, max_steps=100_000, checkpoint_every=100_000)
    try:
        wait_until(gone, lambda: "2 running, 1 waiting" in log.read_text(), "two trials on one GPU")
        head_and_node.stdin.write("\n")
        head_and_node.stdin.flush()
        wait_until(gone, lambda: "asks for 0.5 GPU" in log.read_text(), "what is missing")
    finally:
        gone.kill()
        gone.wait()
    said = " ".join(log.read_text().split())
    assert "no trial could be placed for 5 s: a trial asks for 0.5 GPU and the largest node has 0" in said
    assert "wait, and start as soon as there is such a node" in said
