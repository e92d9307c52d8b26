"""`ray job submit` to a cluster with token authentication, as a person would do it."""

from __future__ import annotations

import os
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

import pytest
import yaml

from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from tests.made import tiny_experiment, wait_until, write_dataset

pytestmark = pytest.mark.cluster
RAY = Path(sys.executable).parent / "ray"
JOB = Path(__file__).parent.parent.parent / "cluster" / "job.py"
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


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """(dashboard's URL, environment with the token) of a head started for this test alone."""
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
        yield url, trusted
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def submit(url: str, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(RAY), "job", "submit", "--address", url, "--", sys.executable, str(JOB), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


def test_a_submitted_sweep_ends_with_every_trial_on_storage(head, tmp_path):
    url, trusted = head
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
    done = submit(url, trusted, "sweep", str(file), "-w", str(tmp_path / "workspace"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 done" in done.stdout
    assert [trial.state for trial in SweepView.open(workspace, "submitted").trials] == ["done", "done"]


def test_without_the_token_a_submission_is_refused(head, tmp_path):
    url, trusted = head
    stranger = {name: value for name, value in trusted.items() if not name.startswith("RAY_AUTH")}
    stranger |= {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/api/jobs/", timeout=10)
    assert refused.value.code == 401
    refused.value.close()
    done = submit(url, stranger, "status", "-w", str(tmp_path / "workspace"))
    assert done.returncode != 0
    assert "token" in (done.stdout + done.stderr).lower()
    assert not (tmp_path / "workspace").exists()
