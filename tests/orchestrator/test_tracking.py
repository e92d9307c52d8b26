"""Tracking: what reaches W&B is what the trials wrote, once, and nobody waits for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import SweepConfig, Tracking
from orchestrator.journal import Journal
from orchestrator.pages.spectrogram import spectrogram_png
from orchestrator.tracking.group import Group
from orchestrator.tracking.history import Shipped, run_id, unshipped
from orchestrator.tracking.login import tracking_mode
from orchestrator.tracking.start import Shipping, start_shipper
from orchestrator.trials import SweepView
from orchestrator.workspace import BORN, CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import begin_attempt, step_name, write_metrics
from samplernn.errors import BadInput
from samplernn.flac import decode_flac, encode_flac
from tests.made import tiny_experiment, tone
from tests.orchestrator.wandb_ends import KEY, Server, history_of, log_out, records, wait_for

SWEEP = "riffs"
DRIVER = """
import sys, time
from orchestrator.config import Tracking
from orchestrator.tracking.login import tracking_mode
from orchestrator.tracking.group import Group
from orchestrator.tracking.start import start_shipper
from orchestrator.workspace import Workspace
shipping = start_shipper(Workspace.open(sys.argv[1]), Group("sweep", "riffs"), Tracking(wandb="offline"))
print(shipping.process.pid, flush=True)
time.sleep(60)
"""
QUICK = ("--poll-s", "0.2", "--flush-s", "0.5")


class Band:
    """A sweep of two trials that the tests write as training would."""

    token = "0a1b2c3d"

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace.open(str(folder))
        config = SweepConfig(
            name=SWEEP, dataset="toy", base=tiny_experiment(max_steps=1000), space={"model.dim": [16, 24]},
            schedule={"type": "none"},
        )  # fmt: skip
        commit.write_record(self.workspace.sweep(SWEEP), CONFIG, config.model_dump(mode="json"))
        commit.write_record(self.workspace.sweep(SWEEP), BORN, {"token": self.token})
        self.journal = Journal(self.workspace.sweep(SWEEP))
        self.names = [trial.name for trial in self.view().trials]
        self.segments = 0
        self.pcm: dict[tuple[str, int, int], np.ndarray] = {}

    def view(self) -> SweepView:
        return SweepView.open(self.workspace, SWEEP)

    def begin(self, trial: str, start: int = 0) -> int:
        attempt = begin_attempt(self.workspace.trial(SWEEP, trial), start)
        self.journal.add("start", trial, attempt=attempt, step=start)
        return attempt

    def play(self, trial: str, attempt: int, first: int, last: int) -> None:
        """Steps first..last in tens; every fifty steps an evaluation and two clips."""
        for step in range(first, last + 1, 10):
            rows: list[dict[str, Any]] = [
                {
                    "kind": "train",
                    "step": step,
                    "seconds": step / 7,
                    "train_bits": 8 / (step + 3),
                    "grad_norm": 0.1,
                }
            ]
            if step % 50 == 0:
                rows.append({"kind": "eval", "step": step, "seconds": step / 7, "valid_bits": 9 / (step + 3)})
                self.clips(trial, attempt, step)
            self.segments += 1
            write_metrics(self.workspace.trial(SWEEP, trial), attempt, self.segments, rows)

    def clips(self, trial: str, attempt: int, step: int) -> None:
        pcm = [tone(2000, step + index) for index in range(2)]
        self.pcm |= {(trial, step, index): each for index, each in enumerate(pcm)}
        files = {f"clip-{index}.flac": encode_flac(each, 16_000, {}) for index, each in enumerate(pcm)}
        files["measures.json"] = commit.to_json([{"flatness": 0.25}, {"flatness": 0.75}])
        folder = self.workspace.trial(SWEEP, trial).at("clips", step_name(step, attempt))
        commit.write_commit(folder, files, step=step, attempt=attempt, seconds=step / 7)

    def end(self, trial: str, state: str = "done") -> None:
        self.journal.add("end", trial, state=state, reason="max_steps")

    def expected(self, trial: str) -> dict[int, dict[str, float]]:
        """What a run's history must hold, from the trial's rows."""
        merged: dict[int, dict[str, float]] = {}
        for row in next(view for view in self.view().trials if view.name == trial).rows:
            merged.setdefault(row["step"], {}).update({k: v for k, v in row.items() if k != "kind"})
        for step in merged:
            if step % 50 == 0:
                merged[step]["clips/flatness"] = 0.5
        return merged

    @property
    def folder(self) -> Path:
        local = self.workspace.sweep(SWEEP).at("wandb").local
        assert local is not None
        return local

    def offline_runs(self, trial: str) -> list[Path]:
        return sorted(
            self.folder.glob(f"offline-run-*/run-{SWEEP}-{trial}-{self.token}.wandb"),
            key=lambda path: path.stat().st_mtime,
        )


@pytest.fixture
def band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Band:
    log_out(monkeypatch, tmp_path / "home")
    return Band(tmp_path / "workspace")


def start(band: Band, mode: str) -> Shipping:
    shipping = start_shipper(
        band.workspace, Group("sweep", SWEEP), Tracking(wandb=mode, project="band/riffs"), options=QUICK
    )
    assert shipping is not None
    return shipping


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith(("_", "clip/", "spectrogram/"))}


def kill(shipping: Shipping) -> None:
    shipping.process.send_signal(signal.SIGKILL)
    shipping.process.wait()


def check_no_key(band: Band) -> None:
    files = [path for path in band.folder.parent.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def check_offline(band: Band, trial: str) -> None:
    """Each step once over all of the trial's run folders, in order, equal to its rows, every clip decodable."""
    rows = [(row, path.parent) for path in band.offline_runs(trial) for row in history_of(path)]
    steps = [row["step"] for row, _ in rows]
    assert steps == sorted(set(steps)) == [row["_step"] for row, _ in rows]
    assert {row["step"]: plain(row) for row, _ in rows} == band.expected(trial)
    for row, folder in rows:
        for index in range(2 if row["step"] % 50 == 0 else 0):
            audio = row[f"clip/{index}"]
            pcm, rate = decode_flac((folder / "files" / audio["path"]).read_bytes())
            assert rate == 16_000
            np.testing.assert_array_equal(pcm, band.pcm[trial, row["step"], index])
            assert f"step {row['step']}" in audio["caption"]
            picture = row[f"spectrogram/{index}"]
            assert (folder / "files" / picture["path"]).read_bytes() == spectrogram_png(pcm, rate)
            assert picture["caption"] == audio["caption"]


def test_shipper_offline_writes_one_run_a_trial_equal_to_its_rows(
    band: Band, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    shipping = start(band, "offline")
    first, second = band.names
    for trial in band.names:
        band.play(trial, band.begin(trial), 10, 100)
    band.end(first)
    band.end(second, "failed")
    wait_for(lambda: band.offline_runs(first))
    command = Path(f"/proc/{shipping.process.pid}/cmdline").read_bytes()
    assert b"orchestrator.tracking.shipper" in command
    assert KEY.encode() not in command
    line = shipping.finish(30)
    assert line.startswith("W&B: 3 runs offline in")  # the trials and the sweep
    assert "wandb sync" in line
    for trial in band.names:
        check_offline(band, trial)
        run = next(
            record.run
            for path in band.offline_runs(trial)
            for record in records(path)
            if record.HasField("run")
        )
        assert (run.run_id, run.run_group, run.job_type, run.display_name) == (
            f"{SWEEP}-{trial}-{band.token}",
            SWEEP,
            "train",
            trial,
        )
        assert (run.entity, run.project) == ("band", "riffs")
        config = {item.key or "/".join(item.nested_key): item.value_json for item in run.config.update}
        assert config["model.dim"] == config["dim"] == ("16" if trial == first else "24")
        assert config["dataset"] == '"toy"'
    exits = {
        trial: [r.exit.exit_code for r in records(band.offline_runs(trial)[-1]) if r.HasField("exit")]
        for trial in band.names
    }
    assert exits == {first: [0], second: [1]}
    check_no_key(band)
    assert not list(band.folder.glob("staging-*"))


def test_shipper_killed_midway_and_trial_resumed_ships_each_step_once(
    band: Band, server: Server, tmp_path: Path
) -> None:
    trial = band.names[0]
    shipping = start(band, "offline")
    attempt = band.begin(trial)
    for step in range(10, 130, 10):
        band.play(trial, attempt, step, step)
        if step in (40, 80):
            wait_for(lambda: band.offline_runs(trial))
            kill(shipping)
            shipping = start(band, "offline")
        time.sleep(0.1)
    wait_for(lambda: any(row["step"] >= 70 for path in band.offline_runs(trial) for row in history_of(path)))
    band.play(trial, band.begin(trial, 50), 60, 200)  # the worker died; the second attempt redoes 60 to 120
    band.end(trial)
    assert "1 run offline" in shipping.finish(30)
    check_offline(band, trial)
    folders = [str(path.parent) for path in band.offline_runs(trial)]
    assert len(folders) > 1
    command = [sys.executable, "-m", "wandb", "sync", *folders]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    check_online(band, server, trial)


def check_online(band: Band, server: Server, trial: str) -> None:
    """Each step once on the server, in order, equal to the trial's rows, every clip uploaded and decodable."""
    run = f"{SWEEP}-{trial}-{band.token}"
    rows = server.rows(run)
    assert (
        [row["_step"] for row in rows]
        == [row["step"] for row in rows]
        == sorted({row["step"] for row in rows})
    )
    assert {row["step"]: plain(row) for row in rows} == band.expected(trial)
    for row in (row for row in rows if row["step"] % 50 == 0):
        for index in range(2):
            pcm, rate = decode_flac(server.uploads[f"{run}/{row[f'clip/{index}']['path']}"])
            np.testing.assert_array_equal(pcm, band.pcm[trial, row["step"], index])
            picture = server.uploads[f"{run}/{row[f'spectrogram/{index}']['path']}"]
            assert picture == spectrogram_png(pcm, rate)


def test_shipper_online_killed_midway_resumes_the_run_and_ships_each_step_once(
    band: Band, server: Server
) -> None:
    trial = band.names[0]
    run = f"{SWEEP}-{trial}-{band.token}"
    shipping = start(band, "online")
    attempt = band.begin(trial)
    band.play(trial, attempt, 10, 100)
    wait_for(lambda: len(server.history.get(run, [])) >= 5)
    kill(shipping)
    band.play(trial, attempt, 110, 200)
    band.end(trial)
    assert start(band, "online").finish(30) == f"W&B: 1 run at {server.url}/band/riffs"
    check_online(band, server, trial)


@pytest.mark.parametrize("fault", ["refuse", "hang", "429", "die"])
def test_finish_with_a_server_that_fails_returns_in_time_and_a_later_run_ships_all(
    band: Band, server: Server, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    trial = band.names[0]
    band.play(trial, band.begin(trial), 10, 60)
    band.end(trial)
    server.answer = fault
    if fault == "refuse":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    shipping = start(band, "online")
    if fault != "refuse":
        wait_for(lambda: server.requests > 0)
    started = time.monotonic()
    line = shipping.finish(2)
    assert time.monotonic() - started < 4
    assert shipping.process.returncode is not None
    assert "`orchestrator sync` ships the rest" in line
    check_no_key(band)
    server.answer = "ok"
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert start(band, "online").finish(30) == f"W&B: 1 run at {server.url}/band/riffs"
    check_online(band, server, trial)


def test_shipper_whose_driver_was_killed_drains_and_ends(band: Band) -> None:
    trial = band.names[0]
    band.play(trial, band.begin(trial), 10, 60)
    band.end(trial)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(band.workspace.storage)], stdout=subprocess.PIPE
    )
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    driver.kill()
    driver.communicate()
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    check_offline(band, trial)


def test_shipper_imports_neither_torch_nor_ray_and_the_driver_side_no_wandb() -> None:
    ask = (
        "import sys, orchestrator.tracking.{}; print(sorted({{'torch', 'ray', 'wandb'}} & set(sys.modules)))"
    )
    found = [
        subprocess.run([sys.executable, "-c", ask.format(name)], capture_output=True, check=True)
        .stdout.decode()
        .strip()
        for name in ("shipper", "start")
    ]
    assert found == ["['wandb']", "[]"]


def test_start_auto_without_login_is_offline_and_with_netrc_online(band: Band, tmp_path: Path) -> None:
    assert tracking_mode(Tracking()) == "offline"
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    (home / ".netrc").chmod(0o600)
    assert tracking_mode(Tracking()) == "online"


def test_start_online_without_login_is_refused_with_the_remedy(band: Band) -> None:
    with pytest.raises(BadInput, match="wandb login"):
        start_shipper(band.workspace, Group("sweep", SWEEP), Tracking(wandb="online"))


def test_start_without_wandb_says_so_or_refuses(band: Band, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.tracking.login.find_spec", lambda _: None)
    said: list[str] = []
    assert start_shipper(band.workspace, Group("sweep", SWEEP), Tracking(), say=said.append) is None
    assert ["pip install" in line for line in said] == [True]
    with pytest.raises(BadInput, match="pip install"):
        start_shipper(band.workspace, Group("sweep", SWEEP), Tracking(wandb="online"))


def test_run_id_keeps_what_tells_runs_apart_whatever_the_length_of_the_names() -> None:
    assert run_id("riffs", "0001", "ab12") == "riffs-0001-ab12"
    long = "x" * 200
    ids = {run_id(long, trial, token) for trial in ("0001", "0002") for token in ("ab12", "cd34")}
    assert len(ids) == 4
    assert {len(each) for each in ids} == {128}


def test_unshipped_holds_back_what_may_still_grow_and_finds_room_for_late_clips(band: Band) -> None:
    trial = band.names[0]
    attempt = band.begin(trial)
    band.play(trial, attempt, 10, 40)
    band.clips(trial, attempt, 20)
    view = band.view().trials[0]
    assert [row.step for row in unshipped(view, Shipped(), below=40)] == [10, 20, 30]
    late = unshipped(view, Shipped(step=30), below=40)
    assert [(row.step, row.values["step"]) for row in late] == [(31, 20)]
    assert unshipped(view, Shipped(step=40), below=40) == []
    assert [row.step for row in unshipped(view, Shipped(step=40), below=None)] == [41]
    assert unshipped(view, Shipped(step=40, clips=(20,)), below=None) == []
