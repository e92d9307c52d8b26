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

import psutil
import pytest
import soundfile
import yaml

from orchestrator.lease import LEASE
from orchestrator.submit import check_words
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput, SampleRNNError
from tests.made import tiny_experiment, tone, wait_until, write_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.system]
RAY = Path(sys.executable).parent / "ray"
REPOSITORY = Path(__file__).parent.parent.parent
JOB = REPOSITORY / "cluster" / "job.py"
START_S = 90
CANARY = f"canary-{secrets.token_hex(12)}"
"""A secret in the environment of the head and of whoever submits: it must be found nowhere else."""


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
    """Environment with the token's place, and secrets."""
    token: Path
    log: Path
    """What `cluster.start head` said."""
    scratch: Path
    """Ray's session files."""

    def stranger(self, home: Path) -> dict[str, str]:
        """An environment without the token, nor one in its home."""
        kept = {name: value for name, value in self.trusted.items() if not name.startswith("RAY_AUTH")}
        return {**kept, "HOME": str(home), "RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head started for this file's tests alone."""
    folder = tmp_path_factory.mktemp("token")
    token = folder / "auth_token"
    trusted = {
        **os.environ,
        "RAY_AUTH_TOKEN_PATH": str(token),
        "AWS_SECRET_ACCESS_KEY": CANARY,
        "WANDB_API_KEY": CANARY,
    }
    trusted.pop("RAY_ADDRESS", None)
    trusted.pop("RAY_AUTH_MODE", None)
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's sockets need a short path
    dashboard = free_port()
    ports = {"port": free_port(), "dashboard-port": dashboard, "ray-client-server-port": free_port()}
    ports |= {"dashboard-agent-listen-port": free_port(), "dashboard-agent-grpc-port": free_port()}
    command = [sys.executable, "-m", "cluster.start", "head", "--block", "--num-cpus=2"]
    command += [f"--temp-dir={scratch}", "--object-store-memory=100000000"]
    command += [f"--{name}={number}" for name, number in ports.items()]
    log = folder / "head.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=trusted, stdout=out, stderr=out, start_new_session=True)
    url = f"http://127.0.0.1:{dashboard}"
    try:
        wait_until(process, lambda: answers(url), f"an answer at {url} (log: {log})", START_S)
        yield Head(url, f"127.0.0.1:{ports['port']}", trusted, token, log, Path(scratch))
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
    with_token = {"RAY_AUTH_MODE": "token", **environment}
    return subprocess.run(command, env=with_token, capture_output=True, text=True, timeout=200)


def orchestrator_submit(
    head: Head, *words: str | Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`orchestrator submit` to the head, as its user does it."""
    command = [sys.executable, "-m", "orchestrator.cli", "submit", "--address", head.url, *words]
    return subprocess.run(
        command, env=environment or head.trusted, capture_output=True, text=True, timeout=200
    )


def sweep_file(folder: Path, name: str, **train: object) -> Path:
    """A sweep of two trials over the dataset toy, in a YAML of its own."""
    body = {
        "dataset": "toy",
        "base": tiny_experiment(**train).model_dump(mode="json", exclude_unset=True),
        "space": {"model.dim": [8, 16]},
        "schedule": {"type": "none"},
        "run": {"tracking": {"wandb": "offline"}},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(body))
    return file


@pytest.mark.parametrize(
    "entry",
    [("--", sys.executable, JOB), ("--working-dir", REPOSITORY, "--", sys.executable, "cluster/job.py")],
    ids=["the code on the nodes", "the code uploaded"],
)
def test_a_submitted_sweep_ends_with_every_trial_on_storage(head, tmp_path, entry):
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_dataset(workspace.dataset("toy"))
    file = sweep_file(tmp_path, "submitted")
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


def test_a_head_is_started_with_a_token_of_its_own_and_tells_how_it_is_reached(head):
    assert head.token.stat().st_mode & 0o777 == 0o600
    assert len(head.token.read_text()) == 64
    told = head.log.read_text()
    port = head.url.rpartition(":")[2]
    assert f"ssh -N -L {port}:127.0.0.1:{port}" in told
    assert "listen on all interfaces" in told
    assert head.token.read_text() not in told
    listening = [
        c for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == int(port)
    ]
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def test_submit_sends_code_kernels_and_the_yaml_and_no_secret_is_seen_anywhere(head, tmp_path):
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_dataset(workspace.dataset("toy"))
    file = sweep_file(tmp_path, "sent")
    command = [sys.executable, "-m", "orchestrator.cli", "submit", "--address", head.url]
    command += ["sweep", str(file), "-w", str(tmp_path / "workspace")]
    secrets_there = (CANARY, head.token.read_text())
    seen: set[str] = set()
    with (tmp_path / "said").open("w+") as said:
        with subprocess.Popen(command, env=head.trusted, stdout=said, stderr=said) as process:
            while process.poll() is None:
                seen |= {" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])}
        said.seek(0)
        told = said.read()
    assert process.returncode == 0, told
    assert "2 done" in told
    assert [trial.state for trial in SweepView.open(workspace, "sent").trials] == ["done", "done"]
    assert any("trainable" in line or "run_trial" in line or "ray::" in line for line in seen)

    for secret in secrets_there:
        assert not [line for line in seen if secret in line]
        assert secret not in told
        kept = [*files_of(head.scratch), *files_of(tmp_path), *files_of(REPOSITORY / "cluster")]
        assert len(kept) > 20
        assert not [file for file in kept if secret.encode() in file.read_bytes()]
        request = urllib.request.Request(
            f"{head.url}/api/jobs/", headers={"Authorization": f"Bearer {head.token.read_text()}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            listed = answer.read().decode()
        assert "RAY_JOB_STOP_WAIT_TIME_S" in listed
        assert secret not in listed


def files_of(folder: Path) -> list[Path]:
    """Every plain file in a folder that can be read as one."""
    return [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]


def test_submit_brings_the_kernels_that_were_built_here(head, tmp_path):
    done = orchestrator_submit(head, "doctor", "-w", tmp_path)
    told = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "doctor", "-w", tmp_path], capture_output=True, text=True
    ).stdout
    here = next(line.split() for line in told.splitlines() if " generation " in line)
    assert here in [line.split() for line in done.stdout.splitlines()]


def test_a_stopped_job_ends_in_order_and_names_the_line_that_goes_on(head, tmp_path):
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_dataset(workspace.dataset("toy"))
    file = sweep_file(tmp_path, "long", max_steps=100_000, checkpoint_every=50_000, clips=0)
    words = ("sweep", file, "-w", tmp_path / "workspace")
    begun = orchestrator_submit(head, "--detach", *words)
    job = re.search(r"submit --attach (\S+)", begun.stdout)
    assert job, begun.stdout + begun.stderr

    def steps() -> list[int]:
        try:
            return [
                trial.rows[-1]["step"] if trial.rows else 0
                for trial in SweepView.open(workspace, "long").trials
            ]
        except SampleRNNError:
            return []  # not begun

    follower = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "submit", "--address", head.url, "--attach", job[1]],
        env=head.trusted, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(follower, lambda: len(steps()) == 2 and min(steps()) > 0, "a step of both trials", 90)
    stopped = orchestrator_submit(head, "--stop", job[1])
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "this goes on where it was: orchestrator submit sweep" in stopped.stdout
    told, _ = follower.communicate(timeout=60)
    assert follower.returncode == 1
    assert not workspace.sweep("long").exists(LEASE)
    assert "was stopped; this goes on where it was" in told


def test_submit_without_the_token_says_what_is_missing(head, tmp_path):
    for environment in ({}, {"RAY_AUTH_MODE": "token"}):
        stranger = {**head.stranger(tmp_path), **environment}
        done = orchestrator_submit(head, "status", "-w", tmp_path, environment=stranger)
        assert done.returncode == 3
        assert "token" in done.stderr
        assert "auth_token" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sweep", "x.yaml"], "a job's own folder is deleted"),
        (["audition", "x", "-w", "/w"], "audition is no work for a cluster"),
        (["ingest", ".", "-w", "/w"], "submit sends no audio"),
        ([], "submit needs a verb"),
    ],
)
def test_submit_refuses_what_a_job_cannot_do_before_anything_is_sent(words, says):
    with pytest.raises(BadInput, match=says):
        check_words(words)


def test_a_head_without_a_token_is_refused(tmp_path):
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "cluster.start", "head", "--dashboard-host=0.0.0.0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr.startswith("error: RAY_AUTH_MODE=disabled: a head listens on all interfaces")


def test_a_token_that_others_can_read_is_refused(tmp_path):
    token = tmp_path / "auth_token"
    token.write_text("0" * 64)
    token.chmod(0o644)
    environment = {**os.environ, "RAY_AUTH_TOKEN_PATH": str(token)}
    command = [sys.executable, "-m", "cluster.start", "join", "127.0.0.1:1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert f"chmod 600 {token}" in done.stderr


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
