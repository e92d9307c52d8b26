"""What this machine can do and what is wrong with it: looked at, tried and told, never guessed over the network."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import os
import platform
import resource
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from rich.markup import escape
from rich.table import Table

from orchestrator.machine import busy_cores, cpu_model, memory_bytes, nvidia_smi, usable_cores
from orchestrator.tracking.login import base_url, logged_in, wandb_installed
from orchestrator.workspace import Workspace
from samplernn.config import Experiment
from samplernn.errors import StorageError

GIB = 2**30
TESTED = ((3, 11), (3, 13))
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
BUSY = 0.25
"""Share of the cores that may be busy before it is told."""
REINSTALL = "rm .venv/.set-up && make setup"
MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]look[/]", "bad": "[bold red]bad[/]"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    value: str
    state: Literal["ok", "warn", "bad"] = "ok"
    remedy: str = ""
    """What to do about it, or what else it could do."""


def examine(workspace: Workspace) -> list[Finding]:
    """Look at everything; writes a small file into the workspace and deletes it."""
    return [
        cpu(),
        memory(),
        *gpus(),
        generation(),
        *disk(workspace),
        temporary(),
        shared_memory(),
        open_files(),
        python(),
        *libraries(),
        wandb_login(),
    ]


def render(findings: list[Finding]) -> Table:
    """The findings as a table for the terminal, with a last line that sums them up."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        told = escape(finding.value)
        if finding.remedy:
            told += f"\n[dim]→[/] {escape(finding.remedy)}"
        table.add_row(MARKS[finding.state], finding.name, told)
    bad = sum(finding.state == "bad" for finding in findings)
    look = sum(finding.state == "warn" for finding in findings)
    summary = "nothing is wrong" if not bad else f"{bad} must be mended before this machine can work"
    table.add_row("", "", f"\n{summary}{f'; {look} worth a look' if look else ''}")
    return table


def cpu() -> Finding:
    """Cores that this process may use (its affinity and its container's quota), the model and instruction sets."""
    cores = usable_cores()
    model, flags = cpu_model()
    known = " ".join(name for name in INSTRUCTIONS if name in flags)
    value = f"{cores:g} of {os.cpu_count()} cores, {model}{', ' if known else ''}{known}"
    if cores < 2:
        return Finding(
            "CPU", value, "warn", "with one core trials run one after the other; give the container two"
        )
    busy = busy_cores()
    if busy >= BUSY * cores:
        remedy = "the threads of a song or a trial wait for the slowest: they take up to 3 times as long"
        return Finding("CPU", f"{value}; {busy:.1f} of them busy", "warn", remedy)
    return Finding("CPU", value)


def memory() -> Finding:
    """RAM that is there and free."""
    total, free = memory_bytes()
    value = f"{total / GIB:.1f} GiB, {free / GIB:.1f} GiB free"
    if free < 3 * GIB:
        return Finding(
            "RAM", value, "warn", "Ray and two small trials want 3 GiB; close something, or run fewer at once"
        )
    return Finding("RAM", value)


def gpus() -> Iterator[Finding]:
    """Every GPU that PyTorch can use, or why it can't use one that is there."""
    seen = nvidia_smi()
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("GPU", f"PyTorch can't be loaded: {error}", "bad", REINSTALL)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old driver warns; the findings below say it
        usable = torch.cuda.is_available()
    if usable:
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            driver = f", driver {seen[0][1]}" if seen else ""
            capability = f"compute capability {device.major}.{device.minor}"
            value = f"{device.name}, {device.total_memory / GIB:.0f} GiB, {capability}{driver}"
            yield Finding(f"GPU {index}", value)
    elif not seen:
        yield Finding("GPU", "none: training runs on the CPU, for small models")
    elif torch.version.cuda is None:
        remedy = f"install its CUDA build: {REINSTALL}"
        yield Finding("GPU", f"{seen[0][0]} is here, but this PyTorch was built for the CPU", "bad", remedy)
    else:
        remedy = f"update the driver to one for CUDA {torch.version.cuda}; check CUDA_VISIBLE_DEVICES"
        value = f"{seen[0][0]} (driver {seen[0][1]}) is here, but PyTorch can't use it"
        yield Finding("GPU", value, "bad", remedy)


def fits(experiment: Experiment) -> Iterator[Finding]:
    """Whether training this fits into this machine's memory, and into each GPU's; see samplernn/memory.py."""
    import torch

    from samplernn.memory import advice, available, needed

    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    for device in devices or [torch.device("cpu")]:
        need, room = needed(experiment, device.type), available(device)
        name = "model" if device.type == "cpu" else f"model on GPU {device.index}"
        value = f"training takes about {need}"
        if not room or need.total <= room:
            yield Finding(name, value)
        else:
            remedy = advice(experiment, room, device.type)
            yield Finding(name, f"{value}; {room / GIB:.1f} GiB are there", "bad", remedy)


def generation() -> Finding:
    """What makes the songs here."""
    try:
        import torch

        from samplernn.generate.backends import serving
    except (ImportError, OSError) as error:
        return Finding("generation", f"PyTorch can't be loaded: {error}", "bad", REINSTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old driver warns; the GPU's row says it
        served = serving(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return Finding("generation", served.said, "warn" if served.fix else "ok", served.fix)


def disk(workspace: Workspace) -> Iterator[Finding]:
    """Whether the workspace can be written (it is tried), and the space that is left in it."""
    storage, probe = workspace.storage, f".doctor-{os.getpid()}"
    root = storage.local
    new = [folder for folder in (root, *root.parents) if not folder.exists()] if root else []
    try:
        storage.write(probe, b"doctor")
        storage.delete(probe)
        yield Finding("workspace", f"{storage} can be written")
    except (StorageError, OSError) as error:
        remedy = "name another with --workspace or $ORCHESTRATOR_WORKSPACE"
        yield Finding("workspace", f"{storage} can't be written: {error}", "bad", remedy)
    if root is None:
        return
    for folder in new:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    yield _space(
        "disk", there, warn=10, bad=1, remedy="a night's sweep keeps some GiB: prune, or name a larger disk"
    )


def temporary() -> Finding:
    """Space for Ray's session files and spilled objects."""
    where = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    return _space(
        "temporary files", where, warn=2, bad=0.2, remedy="Ray works there; free some, or set RAY_TMPDIR"
    )


def shared_memory(where: Path = Path("/dev/shm")) -> Finding:
    """Size of /dev/shm, where Ray keeps its objects."""
    if not where.is_dir():
        return Finding("shared memory", f"no {where} on this system; Ray uses temporary files")
    size = shutil.disk_usage(where).total
    if size < GIB:
        remedy = (
            "Ray's object store wants 1 GiB: docker run --shm-size=2g, or mount -o remount,size=2g /dev/shm"
        )
        return Finding("shared memory", f"{where} holds {size / GIB:.2f} GiB", "warn", remedy)
    return Finding("shared memory", f"{where} holds {size / GIB:.1f} GiB")


def open_files() -> Finding:
    """How many files a process may hold open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding("open files", "no limit")
    if soft < 4096:
        limit = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
        return Finding(
            "open files", f"{soft:,} at most", "warn", f"Ray wants 4,096 or more: ulimit -n {limit}"
        )
    return Finding("open files", f"{soft:,} at most")


def python() -> Finding:
    """The interpreter, and whether this project was tested with it."""
    value = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not TESTED[0] <= sys.version_info[:2] <= TESTED[1]:
        return Finding("Python", value, "warn", "tested with 3.11 to 3.13")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return Finding("Python", value, "warn", "tested on Linux x86-64 only; this should work")
    return Finding("Python", value)


def libraries() -> Iterator[Finding]:
    """Versions of what the work rests on, and whether libsndfile can be loaded and reads MP3."""
    for name in ("torch", "ray", "pyarrow"):
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed", "bad", REINSTALL)
    try:
        soundfile = importlib.import_module("soundfile")
    except (ImportError, OSError) as error:
        remedy = f"{REINSTALL}, or Debian's libsndfile1"
        yield Finding("soundfile", f"can't be loaded: {error}", "bad", remedy)
        return
    value = f"{soundfile.__version__} with libsndfile {soundfile.__libsndfile_version__}"
    if "MP3" in soundfile.available_formats():
        yield Finding("soundfile", value)
    else:
        yield Finding("soundfile", value, "warn", "it reads no MP3: libsndfile 1.1 or newer does")


def wandb_login() -> Finding:
    """Whether runs go to Weights & Biases; nothing is wrong where they stay here."""
    if not wandb_installed():
        remedy = "pip install 'samplernn-orchestrator[wandb]' adds it"
        return Finding("W&B", "not installed: metrics stay in the workspace", remedy=remedy)
    host = urlsplit(base_url()).netloc
    version = importlib.metadata.version("wandb")
    if logged_in():
        return Finding("W&B", f"{version}, logged in to {host}")
    return Finding("W&B", f"{version}, not logged in to {host}: runs are kept offline", remedy="wandb login")


def _space(name: str, where: Path, warn: float, bad: float, remedy: str) -> Finding:
    try:
        free = shutil.disk_usage(where).free / GIB
    except OSError as error:
        return Finding(name, f"{where}: {error.strerror}", "bad", remedy)
    state: Literal["ok", "warn", "bad"] = "bad" if free < bad else "warn" if free < warn else "ok"
    return Finding(
        name, f"{math.floor(free * 10) / 10:.1f} GiB free in {where}", state, "" if state == "ok" else remedy
    )
