"""The on-prem template against Ray's own schema, and how a node is kept in its cluster, with a stand-in for Ray."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from cluster.stay import knock
from tests.made import wait_until

REPOSITORY = Path(__file__).parent.parent.parent
TEMPLATE = REPOSITORY / "cluster" / "onprem" / "cluster.yaml"
PLACE = "~/samplernn-orchestrator/"


def template() -> dict:
    return yaml.safe_load(TEMPLATE.read_text())


def accept(config: dict) -> dict:
    """The config as Ray completes it. Raises what Ray's own check raises."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    completed = prepare_config(config)
    validate_config(completed)
    return completed


def test_the_on_prem_template_is_valid_by_rays_schema_with_a_node_on_every_machine():
    completed = accept(template())
    (kind,) = completed["available_node_types"].values()
    assert kind["min_workers"] == len(template()["provider"]["worker_ips"])


@pytest.mark.parametrize("broken", [{"auth": {"user": "band"}}, {"no_such": 1}])
def test_rays_schema_refuses_a_broken_template(broken):
    with pytest.raises(jsonschema.ValidationError):
        accept({**template(), **broken})


def test_what_the_template_sends_is_there_and_is_enough_for_make_setup():
    mounts = {local: there for there, local in template()["file_mounts"].items()}
    assert {there.removeprefix(PLACE) for there in mounts.values()} == set(mounts)
    assert not [file for file in mounts if not (REPOSITORY / file).exists()]
    makefile = (REPOSITORY / "Makefile").read_text()
    needed = re.search(r"^\.venv/\.set-up: (.*)$", makefile, re.MULTILINE)
    assert needed
    files = [word for word in needed[1].split() if not word.startswith("$")]
    assert not [file for file in files if file not in mounts and file.partition("/")[0] not in mounts]
    for word in re.findall(
        r'"([A-Z][\w./-]+)"', (REPOSITORY / "pyproject.toml").read_text().split("[tool")[0]
    ):
        assert word in mounts or word.startswith("Apache")


def test_the_template_starts_ray_with_a_token_and_nowhere_else():
    starts = template()["head_start_ray_commands"] + template()["worker_start_ray_commands"]
    assert [command for command in starts if "cluster.start" not in command] == ["ray stop", "ray stop"]
    assert "dashboard-host" not in TEMPLATE.read_text()


def test_a_door_is_open_refused_or_silent():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert knock(address) == "refused"
        listener.listen()
        assert knock(address) == "open"
    assert knock("no-such-host.invalid:1") == "silent"


# `ray start --block` as cluster.stay sees it: a process with a child called raylet, which waits on when that has ended.
STAND_IN = """
printf x >> starts
{folder}/raylet 600 &
echo $! > raylet.pid
{after}
mkfifo never; exec 3<>never; read -u 3
"""
STAY = """
import sys
from cluster import stay
stay.AGAIN_S, stay.GONE_S, stay._LOOK_S, stay._STOPPED_LOOKS = 0.1, 1.0, 0.05, 20
try:
    stay.stay(sys.argv[1], ["bash", "stand-in.sh"], {"PATH": "/usr/bin:/bin"})
except stay.Unreachable as error:
    sys.exit(str(error))
"""


@pytest.fixture
def head():
    """Something that listens where a head would."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener


def kept(folder: Path, head: socket.socket, after: str = "") -> subprocess.Popen[str]:
    """A process that keeps the stand-in running; `after` is what the stand-in does with its raylet."""
    shutil.copy(shutil.which("sleep") or "/bin/sleep", folder / "raylet")
    (folder / "stand-in.sh").write_text(STAND_IN.format(folder=folder, after=after))
    return subprocess.Popen(
        [sys.executable, "-c", STAY, f"127.0.0.1:{head.getsockname()[1]}"],
        cwd=folder, env={"PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text()) if (folder / "starts").exists() else 0


def raylet(folder: Path) -> int:
    """The stand-in's raylet, once it runs."""
    text = (folder / "raylet.pid").read_text() if (folder / "raylet.pid").exists() else ""
    return int(text) if text.strip() else 0


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_ray_that_ends_is_started_again_until_sigterm_ends_all_of_it(tmp_path, head):
    with kept(tmp_path, head, after="sleep 0.3; kill $!; exit 1") as process:
        wait_until(process, lambda: starts(tmp_path) >= 3, "a third start", 30)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Ray has ended here (code 1); joining again" in told
    assert not alive(raylet(tmp_path))


def test_ray_stop_ends_the_keeping(tmp_path, head):
    with kept(tmp_path, head) as process:
        wait_until(process, lambda: alive(raylet(tmp_path)), "a raylet", 30)
        time.sleep(0.3)  # it is seen
        subprocess.run(["kill", str(raylet(tmp_path))], check=True)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert starts(tmp_path) == 1


def test_a_head_that_is_gone_from_a_machine_that_answers_ends_the_keeping(tmp_path, head):
    with kept(tmp_path, head, after="sleep 0.3; kill $!; exit 1") as process:
        wait_until(process, lambda: starts(tmp_path) >= 1, "a start", 30)
        head.close()
        _, told = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "although its machine answers: this node ends, too" in told
