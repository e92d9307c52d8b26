"""The doctor on this machine and, at the machine's edge, on machines that are made up in a folder."""

from __future__ import annotations

import importlib
import io
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from orchestrator import doctor
from orchestrator.doctor import Finding, examine, render
from orchestrator.machine import memory_bytes, nvidia_smi, usable_cores
from orchestrator.workspace import Workspace


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def executable(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_examine_on_this_machine_finds_what_is_installed(tmp_path: Path) -> None:
    found = by_name(examine(Workspace.open(str(tmp_path))))
    for name in (
        "CPU",
        "RAM",
        "workspace",
        "disk",
        "shared memory",
        "open files",
        "Python",
        "W&B",
        "generation",
    ):
        assert found[name].value
    for name in ("torch", "ray", "pyarrow", "soundfile", "workspace"):
        assert found[name].state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_busy_cores_are_told_with_what_they_cost() -> None:
    spin = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(spin) for _ in range(math.ceil(os.cpu_count() / 2))]
    try:
        found = doctor.cpu()
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    assert found.state == "warn"
    assert "busy" in found.value


def test_examine_leaves_no_folder_behind(tmp_path: Path) -> None:
    found = by_name(list(doctor.disk(Workspace.open(str(tmp_path / "not" / "yet")))))
    assert found["workspace"].state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_disk_below_a_file_is_bad_and_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = by_name(list(doctor.disk(Workspace.open(str(tmp_path / "file" / "workspace")))))
    assert found["workspace"].state == "bad"
    assert "--workspace" in found["workspace"].remedy


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "25000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.25),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_usable_cores_follow_the_containers_quota(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert usable_cores(tmp_path) == (affinity if cores is None else cores)


def test_memory_follows_the_containers_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1048576\n")
    assert memory_bytes(tmp_path) == (2**20, 2**20)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path)[0] > 2**20


def test_open_files_below_4096_is_worth_a_look() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, hard))
    try:
        finding = doctor.open_files()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert finding.state == "warn"
    assert "1,000" in finding.value
    assert "ulimit -n" in finding.remedy


def test_gpu_with_a_cpu_build_of_torch_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    if torch.version.cuda is not None:
        pytest.skip("this PyTorch is a CUDA build")
    executable(tmp_path, "nvidia-smi", 'echo "NVIDIA H200, 570.86.15"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert nvidia_smi() == [("NVIDIA H200", "570.86.15")]
    (finding,) = doctor.gpus()
    assert finding.state == "bad"
    assert "NVIDIA H200" in finding.value
    assert "make setup" in finding.remedy


def test_generation_row_names_the_backend_and_why_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = importlib.import_module("samplernn.generate.backends")
    monkeypatch.setattr(backends, "why_no_native", lambda: "")
    assert doctor.generation().state == "ok"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(backends, "why_no_native", lambda: "it is not built: run make setup")
    finding = doctor.generation()
    assert finding.state == "warn"
    assert "portable PyTorch on cpu" in finding.value
    assert finding.remedy == "it is not built: run make setup"


def test_nvidia_smi_that_fails_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path, "nvidia-smi", 'echo "NVIDIA-SMI has failed, no driver"; exit 9')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert nvidia_smi() == []


def test_wandb_login_is_seen_in_the_environment_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret" * 8)
    finding = doctor.wandb_login()
    assert "logged in" in finding.value
    assert "s3cret" not in str(finding)


def test_render_sums_up_and_shows_the_remedy() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(
        render([Finding("disk", "full [really]", "bad", "buy one"), Finding("CPU", "2", "warn", "more")])
    )
    text = console.export_text()
    assert "full [really]" in text
    assert "→ buy one" in text
    assert "1 must be mended" in text
    assert "1 worth a look" in text


def test_doctor_verb_exits_zero_only_when_nothing_is_bad(tmp_path: Path) -> None:
    from orchestrator.cli import app

    good = CliRunner().invoke(app, ["doctor", "--workspace", str(tmp_path)])
    expected = any(finding.state == "bad" for finding in examine(Workspace.open(str(tmp_path))))
    assert (good.exit_code != 0) == expected
    (tmp_path / "file").write_text("in the way")
    assert CliRunner().invoke(app, ["doctor", "--workspace", str(tmp_path / "file" / "x")]).exit_code != 0
