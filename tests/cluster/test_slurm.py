"""A Slurm job: what is rendered, and a real one on Debian's Slurm with two nodes of one machine."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cluster.slurm.__main__ import written
from cluster.slurm.script import Job, render
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn.attempts import attempts
from samplernn.errors import SampleRNNError
from tests.cluster.shell import linted
from tests.made import tiny_experiment, write_dataset

PROGRAMS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
FREEZER = Path("/sys/fs/cgroup/freezer")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
ProctrackType=proctrack/cgroup
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/control.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/control.log
SlurmdLogFile={folder}/%n.log
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2 Gres=gpu:2 State=UNKNOWN
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def test_job_is_a_script_of_bash_with_its_words_quoted():
    text = render(Job(words=("sweep", "it's a $file.yaml", "-w", "/shared/w"), nodes=3, gpus=4))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    linted(text, "--shell=bash")
    assert re.findall(r"^#SBATCH (--\S+)$", text, re.MULTILINE)[:5] == [
        "--job-name=orchestrator", "--nodes=3", "--ntasks-per-node=1", "--cpus-per-task=8", "--gpus-per-node=4",
    ]  # fmt: skip
    assert text.count("--requeue") == 1
    assert "--signal=B:USR1@180" in text
    line = next(line for line in text.splitlines() if line.startswith("command="))
    echo = subprocess.run(
        ["bash", "-c", f'{line}; printf "%s\\n" "${{command[@]}}"'], capture_output=True, text=True
    )
    assert echo.stdout.splitlines() == ["sweep", "it's a $file.yaml", "-w", "/shared/w"]


@pytest.mark.parametrize(
    "option", ["--comment=two words", "partition=gpu", "--name=a#b", "--x=1\n#SBATCH --y"]
)
def test_option_that_sbatch_would_read_as_something_else_is_refused(option):
    with pytest.raises(ValueError, match="no option of sbatch"):
        render(Job(words=("sweep",), options=(option,)))


def test_workspace_that_nodes_do_not_share_is_refused(capsys, monkeypatch):
    monkeypatch.delenv("ORCHESTRATOR_WORKSPACE", raising=False)
    with pytest.raises(SystemExit) as ended:
        written(["--nodes", "2", "--", "sweep", "x.yaml", "-w", "workspace"])
    assert ended.value.code == 2
    assert "every node must see the workspace" in capsys.readouterr().err


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Slurm with two nodes on this machine, each with two cores and two GPUs that are plain files; its folder."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    lacking = [package for name, package in PROGRAMS.items() if shutil.which(name, path=path) is None]
    if lacking:
        pytest.skip(f"no Slurm: apt-get install {' '.join(lacking)}")
    if os.getuid() or not FREEZER.is_dir():
        pytest.skip(f"Slurm here needs root and {FREEZER}")
    control, first, second = free_ports(3)
    values = {
        "host": socket.gethostname(),
        "folder": tmp_path,
        "control": control,
        "first": first,
        "second": second,
    }
    for name in ("state", "spool-n0", "spool-n1", "home"):
        (tmp_path / name).mkdir()
    for name in ("gpu0", "gpu1"):
        (tmp_path / name).touch()
    (tmp_path / "slurm.conf").write_text(CONF.format(**values))
    (tmp_path / "gres.conf").write_text(f"NodeName=n[0-1] Name=gpu File={tmp_path}/gpu[0-1]\n")
    (tmp_path / "cgroup.conf").write_text(
        "CgroupPlugin=cgroup/v1\nIgnoreSystemd=yes\nCgroupMountpoint=/sys/fs/cgroup\n"
    )
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", path)
    conf = ["-f", str(tmp_path / "slurm.conf")]
    daemons = [
        subprocess.Popen([*command, "-D", *conf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in (["slurmctld", "-c"], ["slurmd", "-N", "n0"], ["slurmd", "-N", "n1"])
    ]
    try:
        wait(lambda: said("sinfo", "-h", "-t", "idle", "-o", "%D") == "2", 30, "two idle nodes")
        yield tmp_path
    finally:
        subprocess.run(["scancel", "--user=root"], capture_output=True)
        wait(lambda: said("squeue", "-h") == "", 60, "the end of all jobs")
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def wait(condition, seconds: float, what: str) -> None:
    """Until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not come within {seconds} s"
        time.sleep(0.5)


@pytest.mark.cluster
@pytest.mark.system
def test_sweep_near_its_time_limit_asks_for_another_turn_and_ends_done(slurm):
    workspace = Workspace.open(str(slurm / "workspace"))
    write_dataset(workspace.dataset("toy"))
    body = {
        "dataset": "toy",
        "base": tiny_experiment(max_steps=4000, checkpoint_every=200, clips=0).model_dump(
            mode="json", exclude_unset=True
        ),
        "space": {"model.dim": [8, 16]},
        "schedule": {"type": "none"},
        "run": {"tracking": {"wandb": "off"}},
    }
    (slurm / "long.yaml").write_text(yaml.safe_dump(body))
    log = slurm / "job.log"
    options = ["--nodes", "2", "--gpus", "2", "--cpus", "2", "--log", str(log), "--python", sys.executable]
    script = slurm / "job.sbatch"
    script.write_text(
        written([*options, "--", "sweep", str(slurm / "long.yaml"), "-w", str(slurm / "workspace")])
    )
    subprocess.run(["sbatch", "--test-only", script], check=True, capture_output=True)
    job = said("sbatch", "--parsable", str(script))

    def reached() -> int:
        try:
            return min(
                (trial.rows[-1]["step"] if trial.rows else 0)
                for trial in SweepView.open(workspace, "long").trials
            )
        except SampleRNNError:
            return 0

    wait(lambda: reached() >= 200, 150, f"a checkpoint (log: {log})")
    subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
    wait(lambda: said("squeue", "-h", "-j", job) == "", 240, f"the end of the job (log: {log})")
    told = log.read_text()
    assert "another turn is asked for" in told
    assert "start 1 on n[0-1]" in told
    assert "the command ended with code 0" in told
    assert [trial.state for trial in SweepView.open(workspace, "long").trials] == ["done", "done"]
    for trial in SweepView.open(workspace, "long").trials:
        starts = attempts(workspace.trial("long", trial.name))
        assert len(starts) == 2
        assert starts[2]["start_step"] > 0
    assert (slurm / "home" / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert not list(Path("/tmp").glob(f"r{job}*"))
