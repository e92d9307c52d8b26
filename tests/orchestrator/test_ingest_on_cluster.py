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
from collections import Counter
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from cluster.connect import connect
from orchestrator.config import IngestConfig
from orchestrator.on_ray import ingest as on_ray
from samplernn.storage import Storage

source, out, lose = sys.argv[1], sys.argv[2], sys.argv[3] == "lose"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
cluster.wait_for_nodes()
lost = []
pieces = {}

def heard(done, total, name):
    if not lose:
        return
    if " piece " in name and not lost or " piece " not in name and done == 4:
        node = nodes[len(lost)]
        lost.append(node.node_id)
        cluster.remove_node(node, allow_graceful=False)

def noting(*args):
    pieces.update(decode_pieces(*args))
    return Counter(pieces)

decode_pieces, on_ray._decode_pieces = on_ray._decode_pieces, noting
with connect(cluster.address):
    config = IngestConfig(name="band", source=source)
    report = on_ray.ingest(config, Storage.open(out), heard)
print(json.dumps({"nodes": dict(report.nodes), "pieces": pieces, "lost": lost}))
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


def test_ingest_works_on_all_nodes_and_two_lost_ones_change_no_byte(tmp_path):
    """One is lost while a long file's pieces are decoded, another while tracks are made."""
    source = tmp_path / "band"
    for seed in range(17):
        write_sound(source / f"{seed:02d}.flac", 60.0, 44_100, 2, seed)
    write_sound(source / "long.flac", 2400.0, 22_050, 1, 99)
    whole = ingest(source, tmp_path / "whole", "keep")
    assert len(whole["pieces"]) == len(whole["nodes"]) == 3
    assert (sum(whole["pieces"].values()), sum(whole["nodes"].values())) == (8, 18 + 8)
    lost = ingest(source, tmp_path / "lost", "lose")
    assert len(lost["lost"]) == 2
    assert contents(tmp_path / "lost") == contents(tmp_path / "whole")
    card = json.loads(Storage.open(tmp_path / "lost").read(CARD))
    assert (len(card["tracks"]), card["skipped"]) == (18, [])
