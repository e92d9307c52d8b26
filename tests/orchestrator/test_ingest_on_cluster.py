"""Ingest on a cluster of three nodes: work on each of them, and a node lost in the middle loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samplernn.chunks import CARD
from samplernn.storage import Storage
from tests.sounds import write_sound

pytestmark = [pytest.mark.cluster, pytest.mark.system]

# The cluster and its driver live in a process of their own: a test process holds one Ray at a time.
DRIVER = """
import json, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from cluster.connect import connect
from orchestrator.config import IngestConfig
from orchestrator.on_ray.ingest import ingest
from samplernn.storage import Storage

source, out, lose = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
cluster.wait_for_nodes()
lost = []

def heard(done, total, name):
    if lose == "track" and " piece " not in name and done == 4 and not lost:
        lost.append(nodes[0].node_id)
        cluster.remove_node(nodes[0], allow_graceful=False)
    if lose == "piece" and " piece " in name and not lost:
        lost.append(nodes[0].node_id)
        cluster.remove_node(nodes[0], allow_graceful=False)

with connect(cluster.address):
    config = IngestConfig(name="band", source=source)
    report = ingest(config, Storage.open(out), heard)
print(json.dumps({"nodes": dict(report.nodes), "lost": lost}))
cluster.shutdown()
"""


def ingest(source: Path, out: Path, how: str) -> dict:
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(source), str(out), how],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def contents(folder: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files.pop("report.txt")  # names its own folder and who did the work
    return files


def test_ingest_works_on_all_nodes_and_a_lost_one_changes_no_byte(tmp_path):
    source = tmp_path / "band"
    for seed in range(17):
        write_sound(source / f"{seed:02d}.flac", 90.0, 44_100, 2, seed)
    write_sound(source / "long.flac", 2400.0, 22_050, 1, 99)
    whole = ingest(source, tmp_path / "whole", "nothing")
    assert len(whole["nodes"]) == 3
    assert sum(whole["nodes"].values()) == 18 + 8
    for when in ("piece", "track"):
        lost = ingest(source, tmp_path / when, when)
        assert lost["lost"]
        assert contents(tmp_path / when) == contents(tmp_path / "whole")
        card = json.loads(Storage.open(tmp_path / when).read(CARD))
        assert (len(card["tracks"]), card["skipped"]) == (18, [])


def test_one_long_file_is_worked_on_by_all_nodes(tmp_path):
    write_sound(tmp_path / "band" / "long.flac", 3600.0, 22_050, 1)
    report = ingest(tmp_path / "band", tmp_path / "out", "nothing")
    assert len(report["nodes"]) == 3
    assert sum(report["nodes"].values()) == 12 + 1
