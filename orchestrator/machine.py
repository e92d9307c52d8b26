"""What the operating system says of this machine: cores, memory, processor and GPUs, within a container's limits."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> float:
    """Cores by sched affinity, or fewer where the cgroup (v2 or v1) has a CPU quota."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota, period = [*_words(cgroup / "cpu.max"), "", ""][:2]
    if not quota:
        quota = "".join(_words(cgroup / "cpu/cpu.cfs_quota_us"))
        period = "".join(_words(cgroup / "cpu/cpu.cfs_period_us"))
    if quota.isdigit() and period.isdigit() and int(period):
        return min(cores, int(quota) / int(period))
    return cores


def busy_cores(seconds: float = 0.5) -> float:
    """Cores that all processes of this machine keep busy, watched for a while in which this one sleeps."""
    return psutil.cpu_percent(seconds) / 100 * (psutil.cpu_count() or 1)


def memory_bytes(cgroup: Path = CGROUP) -> tuple[int, int]:
    """RAM in all and free, in bytes; no more than the cgroup (v2 or v1) allows."""
    ram = psutil.virtual_memory()
    limits = [_words(cgroup / name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    total = min([ram.total, *(int(words[0]) for words in limits if words and words[0].isdigit())])
    return total, min(ram.available, total)


def cpu_model() -> tuple[str, set[str]]:
    """Name and instruction sets, from Linux's /proc/cpuinfo; elsewhere the platform's word."""
    facts: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    model = facts.get("model name") or platform.processor() or platform.machine()
    return model, set((facts.get("flags") or facts.get("Features") or "").split())


def nvidia_smi() -> list[tuple[str, str]]:
    """Name and driver of every NVIDIA GPU that the driver shows, without PyTorch."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(", ") for line in answer.splitlines() if ", " in line)
    return [(name, driver) for name, _, driver in rows]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
