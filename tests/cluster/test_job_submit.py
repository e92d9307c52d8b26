"""`ray job submit` to a cluster with token authentication, as a person would do it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile
import yaml

from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from tests.made import tiny_experiment, tone, wait_until, write_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.system]
RAY = Path(sys.executable).parent / "ray"
REPOSITORY = Path(__file__).parent.parent.parent
JOB = REPOSITORY / "cluster" / "job.py"
START_S = 90


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True  # it wants a token: it is up
    except OSError:
        return False
    return True


class Head(NamedTuple):
    """A head that wants a token."""

    url: str
    """Of its dashboard."""
    address: str
    """Of its control store: RAY_ADDRESS."""
    trusted: dict[str, str]
    """Environment with the token."""

    def stranger(self, home: Path) -> dict[str, str]:
        """An environment without the token, nor one in its home."""
        kept = {name: value for name, value in self.trusted.items() if not name.startswith("RAY_AUTH")}
        return {**kept, "HOME": str(home), "RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head started for this file's tests alone."""
    folder = tmp_path_factory.mktemp("token")
    token = folder / "auth_token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    trusted = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    trusted.pop("RAY_ADDRESS", None)
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's sockets need a short path
    dashboard = free_port()
    ports = {"port": free_port(), "dashboard-port": dashboard, "ray-client-server-port": free_port()}
    ports |= {"dashboard-agent-listen-port": free_port(), "dashboard-agent-grpc-port": free_port()}
    command = [str(RAY), "start", "--head", "--block", "--num-cpus=2", "--include-dashboard=true"]
    command += ["--dashboard-host=127.0.0.1", f"--temp-dir={scratch}", "--object-store-memory=100000000"]
    command += [f"--{name}={number}" for name, number in ports.items()]
    log = folder / "head.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=trusted, stdout=out, stderr=out, start_new_session=True)
    url = f"http://127.0.0.1:{dashboard}"
    try:
        wait_until(process, lambda: answers(url), f"an answer at {url} (log: {log})", START_S)
        yield Head(url, f"127.0.0.1:{ports['port']}", trusted)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def submit(url: str, environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--address", url, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize(
    "entry",
    [("--", sys.executable, JOB), ("--working-dir", REPOSITORY, "--", sys.executable, "cluster/job.py")],
    ids=["the code on the nodes", "the code uploaded"],
)
def test_a_submitted_sweep_ends_with_every_trial_on_storage(head, tmp_path, entry):
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_dataset(workspace.dataset("toy"))
    body = {
        "dataset": "toy",
        "base": tiny_experiment().model_dump(mode="json", exclude_unset=True),
        "space": {"model.dim": [8, 16]},
        "schedule": {"type": "none"},
    }
    file = tmp_path / "submitted.yaml"
    file.write_text(yaml.safe_dump({**body, "run": {"tracking": {"wandb": "off"}}}))
    done = submit(head.url, head.trusted, *entry, "sweep", file, "-w", tmp_path / "workspace")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 done" in done.stdout
    assert [trial.state for trial in SweepView.open(workspace, "submitted").trials] == ["done", "done"]


def test_an_upload_is_code_and_configs_without_audio_workspace_or_environment(head):
    done = submit(
        head.url,
        head.trusted,
        "--working-dir",
        REPOSITORY,
        "--",
        "find",
        ".",
        "-type",
        "f",
        "-printf",
        "%s %P\\n",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sizes = {name: int(size) for size, name in re.findall(r"^(\d+) (\S+)$", done.stdout, re.MULTILINE)}
    assert {
        "cluster/job.py",
        "orchestrator/cli.py",
        "samplernn/train.py",
        "configs/sweeps/overnight.yaml",
    } <= set(sizes)
    assert not [
        name for name in sizes if name.startswith((".git/", ".venv/", "workspace/", "demo/", "tests/"))
    ]
    assert not [name for name in sizes if name.endswith((".ogg", ".flac", ".wav", ".arrow", ".safetensors"))]
    assert sum(sizes.values()) < 2**21


def test_a_job_that_would_lose_its_workspace_is_refused(tmp_path):
    environment = {**os.environ, "ORCHESTRATOR_WORKSPACE": ""}
    for words in ([], ["-w", "workspace"]):
        command = [sys.executable, JOB, "status", *words]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert done.stderr.startswith("error: a job's own folder is deleted when it ends; give --workspace")
    assert list(tmp_path.iterdir()) == []


def test_without_the_token_a_submission_is_refused(head, tmp_path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{head.url}/api/jobs/", timeout=10)
    assert refused.value.code == 401
    refused.value.close()
    done = submit(
        head.url, head.stranger(tmp_path), "--", sys.executable, JOB, "status", "-w", tmp_path / "workspace"
    )
    assert done.returncode != 0
    assert "token" in (done.stdout + done.stderr).lower()
    assert not (tmp_path / "workspace").exists()


def test_a_driver_without_the_token_is_told_what_is_missing(head, tmp_path):
    code, said = ingest({**head.stranger(tmp_path), "RAY_ADDRESS": head.address}, tmp_path)
    assert code == 3
    assert "can't be joined" in said
    assert "RAY_AUTH_TOKEN_PATH" in said


def test_an_address_where_nothing_listens_is_named_at_once(tmp_path):
    code, said = ingest({**os.environ, "RAY_ADDRESS": f"127.0.0.1:{free_port()}"}, tmp_path)
    assert code == 3
    assert "no Ray cluster answers at 127.0.0.1" in said


def ingest(environment: dict[str, str], folder: Path) -> tuple[int, str]:
    """Exit code and error text of the shortest command that needs Ray."""
    (folder / "music").mkdir()
    soundfile.write(folder / "music" / "song.wav", tone(16_000), 16_000)
    command = [
        sys.executable,
        "-m",
        "orchestrator.cli",
        "ingest",
        folder / "music",
        "-w",
        folder / "workspace",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr
