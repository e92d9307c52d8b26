"""A sweep on storage that fills up, is read-only, is another file system's, a bucket, or a copy of another place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from orchestrator.journal import read_journal
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.attempts import list_commits, list_folders, read_lineage, step_name
from samplernn.checkpoint import load_model
from samplernn.errors import Damaged
from tests.made import tiny_experiment, wait_until, write_dataset
from tests.s3_server import bucket, uri

pytestmark = [pytest.mark.cluster, pytest.mark.system]
NAME, STEPS, EVERY = "stored", 240, 40
MB = 2**20


@contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[None]:
    """A file system of its own at a folder, of `size` bytes; needs root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount a tmpfs: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def sweep_file(folder: Path, free_disk_gb: float = 0.0, **train) -> Path:
    base = tiny_experiment(**{"max_steps": STEPS, "checkpoint_every": EVERY, "log_every": 10, **train})
    body = {
        "dataset": "toy",
        "base": base.model_dump(mode="json", exclude_unset=True),
        "space": {"model.dim": [8, 16]},
        "schedule": {"type": "none"},
        "run": {"tracking": {"wandb": "off"}, "free_disk_gb": free_disk_gb},
    }
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


class Sweep:
    """The sweep of a file in a workspace; its command is always the same."""

    def __init__(self, folder: Path, where: str, **settings) -> None:
        self.workspace, self.log = Workspace.open(where), folder / "log"
        self._file, self._where = sweep_file(folder, **settings), where

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "orchestrator.cli", "sweep", str(self._file), "-w", self._where]
        with self.log.open("wb") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)

    def run(self) -> int:
        return self.start().wait(200)

    def said(self) -> str:
        return self.log.read_text()

    def entries(self, kind: str) -> list[dict]:
        journal = read_journal(self.workspace.sweep(NAME))
        return [entry for entry in journal if entry["kind"] == kind]

    def kill_with_a_checkpoint_made(self) -> None:
        """SIGKILL of the driver once it has heard of a checkpoint."""
        process = self.start()
        wait_until(process, lambda: bool(self.entries("report")), "a checkpoint")
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        psutil.wait_procs([each for each in family if "Agent" not in each.name()], timeout=60)


def check(sweep: Sweep) -> dict[str, torch.Tensor]:
    """Every trial done, each row and checkpoint once and whole; returns the last weights."""
    weights = {}
    trials = SweepView.open(sweep.workspace, NAME).trials
    assert len(trials) == 2
    for trial in trials:
        assert trial.state == "done", trial
        folder = sweep.workspace.trial(NAME, trial.name)
        lineage, rows = read_lineage(folder), []
        for segment in folder.at("metrics").names():
            attempt = int(segment.partition(".")[0])
            try:
                found = commit.read_record(folder.at("metrics"), segment)["rows"]
            except Damaged:
                continue  # the disk was full: it does not exist
            rows += [(r["kind"], r["step"]) for r in found if lineage.keeps(r["step"], attempt)]
        assert len(rows) == len(set(rows)), f"rows of {trial.name} twice"
        assert sorted(step for kind, step in rows if kind == "train") == list(range(10, STEPS + 1, 10))
        assert [clip.step for clip in trial.clips] == list(range(EVERY, STEPS + 1, EVERY))
        for kind in ("model", "state", "clips"):
            for at in list_folders(folder, kind):
                if folder.at(kind, step_name(*at)).exists(commit.MANIFEST):
                    assert commit.read_commit(folder.at(kind, step_name(*at)))
        step, attempt = list_commits(folder, "model")[-1]
        assert step == STEPS
        model, _ = load_model(folder.at("model", step_name(step, attempt)))
        weights |= {f"{trial.name} {key}": value for key, value in model.state_dict().items()}
    return weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, torch.Tensor]:
    """The last weights of the same sweep where nothing happens."""
    folder = tmp_path_factory.mktemp("whole")
    sweep = Sweep(folder, str(folder / "workspace"))
    write_dataset(sweep.workspace.dataset("toy"), samples=32_000)
    assert sweep.run() == 0, sweep.said()
    return check(sweep)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_disk_that_fills_up_in_mid_sweep_pauses_the_trials_and_they_go_on_when_there_is_room(
    tmp_path, whole
):
    """A disk of its own is also a second file system: /tmp, Ray's and the cache are on another."""
    disk = tmp_path / "disk"
    with tmpfs(disk, 8 * MB):
        sweep = Sweep(tmp_path, str(disk / "workspace"))
        write_dataset(sweep.workspace.dataset("toy"), samples=32_000)
        process = sweep.start()
        wait_until(process, lambda: bool(sweep.entries("start")), "a start")
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as out:
            try:
                while out.write(bytes(4096)):
                    pass
            except OSError:
                pass
        try:
            wait_until(process, lambda: "paused, nothing is lost" in sweep.said(), "a pause", 60)
            assert "No space left" in sweep.said()
        except AssertionError:  # the journal was written first: the driver ended instead
            assert process.wait(60) == 3, sweep.said()
        filler.unlink()
        if process.poll() is None:
            assert process.wait(200) == 0, sweep.said()
        else:
            assert sweep.run() == 0, sweep.said()
        assert "Traceback" not in sweep.said()
        assert same(check(sweep), whole)


def test_a_nearly_full_disk_is_refused_with_its_reason_and_a_larger_one_goes_on(tmp_path, whole):
    disk = tmp_path / "disk"
    with tmpfs(disk, 2 * MB):
        sweep = Sweep(tmp_path, str(disk / "workspace"), free_disk_gb=0.004)
        write_dataset(sweep.workspace.dataset("toy"), samples=32_000)
        assert sweep.run() == 3, sweep.said()
        assert "no new work is begun: 0.00 GB are free" in sweep.said()
        assert not sweep.workspace.sweep(NAME).names(), "something was written"
        remount(disk, f"size={16 * MB}")
        assert sweep.run() == 0, sweep.said()
        assert same(check(sweep), whole)


def test_a_read_only_disk_is_found_before_the_start_and_waited_for_in_mid_sweep(tmp_path, whole):
    disk = tmp_path / "disk"
    with tmpfs(disk, 16 * MB):
        sweep = Sweep(tmp_path, str(disk / "workspace"))
        write_dataset(sweep.workspace.dataset("toy"), samples=32_000)
        remount(disk, "ro")
        assert sweep.run() == 3, sweep.said()
        assert "Read-only file system" in sweep.said()
        assert "Traceback" not in sweep.said()
        remount(disk, "rw")
        sweep.kill_with_a_checkpoint_made()
        remount(disk, "ro")
        assert sweep.run() == 3, sweep.said()
        remount(disk, "rw")
        assert sweep.run() == 0, sweep.said()
        assert same(check(sweep), whole)


def test_a_workspace_copied_elsewhere_goes_on_with_the_same_command(tmp_path, whole):
    here = Sweep(tmp_path, str(tmp_path / "here"))
    write_dataset(here.workspace.dataset("toy"), samples=32_000)
    here.kill_with_a_checkpoint_made()
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    there = Sweep(tmp_path, str(tmp_path / "there"))
    assert there.run() == 0, there.said()
    assert same(check(there), whole)
    starts = [
        read_lineage(there.workspace.trial(NAME, t)).starts
        for t in there.workspace.sweep(NAME).at("trials").names()
    ]
    assert any(start.get(2, 0) >= EVERY for start in starts), "no trial went on from its checkpoint"


def test_a_sweep_in_a_bucket_goes_on_after_its_driver_was_killed(tmp_path, s3_endpoint, whole):
    bucket(s3_endpoint, "sweeps")
    sweep = Sweep(tmp_path, uri(s3_endpoint, "sweeps/workspace"))
    write_dataset(sweep.workspace.dataset("toy"), samples=32_000)
    sweep.kill_with_a_checkpoint_made()
    assert sweep.run() == 0, sweep.said()
    assert same(check(sweep), whole)
    assert sweep.run() == 0
    assert "is finished: nothing to train" in sweep.said()
    assert not [name for name in sweep.workspace.sweep(NAME).names() if name.startswith("driver")]
