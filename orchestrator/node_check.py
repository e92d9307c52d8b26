"""What one node says of itself when `doctor --cluster` asks: it runs there, knows no Ray, and writes one small file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluster.nodes import Node
from orchestrator.doctor import GIB, Finding, open_files, shared_memory, temporary
from samplernn.chunks import cache_folder
from samplernn.errors import StorageError
from samplernn.storage import Storage

PACKAGES = ("ray", "torch", "numpy", "pyarrow", "pydantic")
SETTLE_S = 5.0
"""A network file system may show another node's file a moment later."""
BUSY_MIB = 1024
"""More GPU memory than that in use before anything of ours runs is somebody else's work."""
_SMI_FIELDS = "index,memory.used,memory.total,ecc.errors.uncorrected.volatile.total"
_EXERCISE = """
import torch
for index in range(torch.cuda.device_count()):
    whole = torch.arange(64.0).reshape(8, 8)
    assert torch.equal((whole.to(f"cuda:{index}") @ whole.to(f"cuda:{index}").T).cpu(), whole @ whole.T), index
print(torch.cuda.device_count())
"""


@dataclass(frozen=True)
class NodeFacts:
    """What a node says: versions to be compared with the others', and what it found out alone."""

    versions: dict[str, str]
    findings: list[Finding]
    """One each of storage (the driver's file read, its own written), disk, shared memory, open files, GPU, datasets."""


def look(node: Node, folder: Storage, names: list[str]) -> NodeFacts:
    """Everything that a node can find out alone. Its file is written to `folder`, and the files `names` read there."""
    return NodeFacts(
        versions(),
        [
            storage(folder, node, names),
            temporary(),
            shared_memory(),
            open_files(),
            gpu(node.gpus),
            datasets(),
        ],
    )


@cache
def versions() -> dict[str, str]:
    """Versions of what must be alike everywhere, this project's own code by its digest."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return {**found, "code": code_digest()}


def code_digest() -> str:
    """The first of the SHA-256 over this project's Python files, in the order of their paths."""
    root, digest = Path(__file__).parent.parent, hashlib.sha256()
    for room in ("cluster", "orchestrator", "samplernn"):
        for file in sorted((root / room).rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:10]


def storage(folder: Storage, node: Node, names: list[str]) -> Finding:
    """Whether the workspace can be written and the files `names` be read here."""
    try:
        folder.write(node.id, node.host.encode())
    except (StorageError, OSError) as error:
        return Finding(
            "storage",
            f"can't be written: {error}",
            "bad",
            "mount it writable here, or give the node the rights",
        )
    return read_all(folder, names)


def read_all(folder: Storage, names: list[str]) -> Finding:
    """Whether the files `names`, which other nodes wrote, can be read here."""
    end, missing = time.monotonic() + SETTLE_S, list(names)
    remedy = (
        f"the workspace {folder} must be one storage for all nodes: an NFS mount at one path, s3:// or gs://"
    )
    while True:
        try:
            missing = [name for name in missing if not folder.exists(name)]
            if not missing:
                for name in names:
                    folder.read(name)
                return Finding("storage", "written and read")
        except (StorageError, OSError) as error:
            return Finding("storage", f"can't be read: {error}", "bad", remedy)
        if time.monotonic() > end:
            return Finding(
                "storage", f"{len(missing)} of {len(names)} other writers' files are not here", "bad", remedy
            )
        time.sleep(0.2)


def gpu(counted: float) -> Finding:
    """Whether the GPUs that Ray counts here are there, free, without memory errors, and multiply right."""
    if not counted:
        return Finding("GPU", "none")
    rows = smi_rows()
    if not rows:
        value = f"Ray counts {counted:g}, the driver shows none"
        return Finding(
            "GPU",
            value,
            "warn",
            "right where GPUs are pretended; else mend the driver (nvidia-smi), or start the node without --num-gpus",
        )
    return judge_gpus(counted, rows) or exercise()


def smi_rows() -> list[tuple[int, float, float, int]]:
    """(index, MiB used, MiB in all, uncorrected memory errors since the start) of every GPU that the driver shows."""
    command = ["nvidia-smi", f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[word.strip() for word in line.split(",")] for line in told.splitlines() if line.count(",") == 3]
    return [
        (int(i), float(used), float(total), int(ecc) if ecc.isdigit() else 0) for i, used, total, ecc in rows
    ]


def judge_gpus(counted: float, rows: list[tuple[int, float, float, int]]) -> Finding | None:
    """What is wrong with a node's GPUs as the driver shows them, or None."""
    if counted > len(rows):
        value = f"Ray counts {counted:g}, the driver shows {len(rows)}"
        return Finding(
            "GPU", value, "bad", "one has fallen off the bus (dmesg | grep NVRM): restart the node"
        )
    for index, _, _, errors in rows:
        if errors:
            value = f"GPU {index} has {errors} uncorrected memory errors"
            return Finding(
                "GPU",
                value,
                "bad",
                "drain the node and reset the GPU; when they come back it must be replaced",
            )
    for index, used, total, _ in rows:
        if used > BUSY_MIB:
            value = f"GPU {index}: {used / 1024:.1f} of {total / 1024:.1f} GiB in use"
            return Finding(
                "GPU", value, "warn", "a trial of yours, or somebody else's work (nvidia-smi): end it there"
            )
    return None


def exercise() -> Finding:
    """A small exact product on every GPU, in a process of its own that sees them all."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _EXERCISE], env=environment, capture_output=True, text=True, timeout=40
        )
    except subprocess.TimeoutExpired:
        return Finding(
            "GPU", "a product of 8 x 8 did not end within 40 s", "bad", "it hangs: restart the node"
        )
    if done.returncode or done.stdout.strip() == "0":
        reason = (done.stderr.strip().splitlines() or ["PyTorch sees none"])[-1]
        return Finding(
            "GPU",
            f"can't be used: {reason}",
            "bad",
            "install PyTorch's CUDA build (make setup there), or restart the node",
        )
    return Finding("GPU", f"{done.stdout.strip()} free and right")


def datasets(folder: Path | None = None) -> Finding:
    """The node's copies of datasets from object stores, and the room for more."""
    folder = folder or cache_folder()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK):
        return Finding(
            "datasets",
            f"{folder} can't be written",
            "bad",
            "it belongs to another user: remove it, or set TMPDIR",
        )
    kept = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0
    free = shutil.disk_usage(there).free
    value = f"{kept / GIB:.1f} GiB kept, {free / GIB:.1f} GiB free"
    if free < 2 * GIB:
        return Finding(
            "datasets", value, "warn", f"a copy of the dataset goes to {folder}: make room, or set TMPDIR"
        )
    return Finding("datasets", value)
