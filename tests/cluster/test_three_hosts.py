"""From laptop to cluster, as the README says it: three hosts with an sshd each, the on-prem YAML, a cable pulled out.

The lines of the README's section are read from it and run as they are written, in its order, but for the sweep, which
is a tiny one here. One sweep goes through it all: begun by `ray submit`, gone on with by `orchestrator submit` when the
laptop has been closed, stopped in order, and gone on with by `ray job submit`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest
import soundfile
import yaml

from orchestrator.budget import Meter
from orchestrator.journal import read_journal
from orchestrator.lease import LEASE
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.errors import SampleRNNError
from tests.cluster.lan import SHARED, Lan, lan, missing
from tests.made import tiny_experiment, tone, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.system]
REPOSITORY = Path(__file__).parent.parent.parent
TEMPLATE = REPOSITORY / "cluster" / "onprem" / "cluster.yaml"
PAGE = TEMPLATE.with_name("README.md")
HEAD, *OTHERS = DESKS = ("desk1", "desk2", "desk3")
CUT = OTHERS[-1]
SWEEP, TRIALS = "overnight", 60
"""More trials than the cut lasts for; the last job's budget ends the sweep."""
README_SWEEP, TINY_SWEEP = f"configs/sweeps/{SWEEP}.yaml", f"{SHARED}/{SWEEP}.yaml"
# Ray waits half a minute for a node and one for a head before it gives them up; a node's `join`, ten for a head.
IMPATIENT = (
    "RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=1000 RAY_health_check_failure_threshold=3 "
)
IMPATIENT += "RAY_gcs_rpc_server_reconnect_timeout_s=15 CLUSTER_GONE_S=3"
SMALL = "--num-cpus=1 --num-gpus=1 --object-store-memory=100000000"
# Trials that last longer than a worker takes to start: else those that end take what waits from a host that comes back.
TRAIN = {"max_steps": 2400, "checkpoint_every": 400, "clips": 0}
ASK = """python -c '
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:8265/api/jobs/").status)
except urllib.error.HTTPError as refused:
    print(refused.code)'
"""


def section(file: Path, title: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    _, _, rest = file.read_text().partition(f"\n## {title}\n")
    assert rest, f"{file.name} has no section '{title}'"
    return rest.partition("\n## ")[0]


def lines_of(text: str) -> list[str]:
    """The command lines of a text's code blocks, without their comments."""
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    commands = (re.sub(r"\s+#.*", "", line) for line in blocks.replace("\\\n", " ").splitlines())
    return [command for command in commands if command.strip()]


@pytest.fixture
def desks(tmp_path) -> Iterator[Lan]:
    """A laptop with this checkout, and three hosts that are set up, with the laptop's key and the page's firewall."""
    if why := missing():
        pytest.skip(why)
    shared = tmp_path / "shared"
    shared.mkdir()
    (firewall,) = re.findall(r"^table .*?^}$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (shared / "firewall.nft").write_text(firewall)
    template = yaml.safe_load(TEMPLATE.read_text())
    addresses = [template["provider"]["head_ip"], *template["provider"]["worker_ips"]]
    with lan(tmp_path, shared, dict(zip(DESKS, addresses, strict=True)), REPOSITORY) as made:
        made.laptop.run(f"ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/band && cp ~/.ssh/band.pub {SHARED}")
        for host in made.hosts.values():
            host.run(f"cp {SHARED}/band.pub ~/.ssh/authorized_keys && mkdir -p samplernn-orchestrator/.venv")
            host.run(f"cd samplernn-orchestrator/.venv && ln -s {REPOSITORY}/.venv/* . && touch .set-up")
            host.run(f"nft --file {SHARED}/firewall.nft")
        yield made


class Walk:
    """The stages of the section, each by the words that its line begins with."""

    def __init__(self, desks: Lan, folder: Path) -> None:
        self.laptop, self.hosts, self.plug = desks.laptop, desks.hosts, desks.plug
        self.folder, self.shared = folder, folder / "shared"
        self.workspace = Workspace.open(str(self.shared / "workspace"))
        self.job = ""
        self.started: list[subprocess.Popen[bytes]] = []
        self.stages: dict[str, Callable[[str], None]] = {
            "cp cluster/onprem/cluster.yaml": self.addresses,
            "ray up": self.up,
            "ray submit band.yaml cluster/job.py -- ingest": self.ingest,
            "ray submit band.yaml cluster/job.py -- sweep": self.sweep_with_a_cut,
            "ray dashboard": self.dashboard,
            "mkdir -p ~/.ray && ray rsync-down": self.token,
            "orchestrator submit sweep": self.submit,
            "orchestrator submit --stop": self.stop,
            "ray down": self.down,
        }

    def take(self, line: str) -> None:
        """Run a line of the README."""
        begun = time.monotonic()
        for words, stage in self.stages.items():
            if line.startswith(words):
                stage(line.replace(README_SWEEP, TINY_SWEEP).replace("JOB", self.job))
                print(f"[{time.monotonic() - begun:5.1f} s] {line}", flush=True)
                return
        pytest.fail(f"this test does not know the README's line: {line}")

    def addresses(self, line: str) -> None:
        """The hosts have the template's addresses; what the test adds makes Ray small and impatient."""
        self.laptop.run(line)
        text = TEMPLATE.read_text()
        for begin in (
            "head --autoscaling-config=~/ray_bootstrap_config.yaml",
            "--detach",
            "python -m cluster.start",
        ):
            assert begin in text
        text = text.replace("python -m cluster.start", f"{IMPATIENT} python -m cluster.start")
        text = re.sub(r"(ray_bootstrap_config.yaml|--detach)$", rf"\1 {SMALL}", text, flags=re.MULTILINE)
        assert text.count(SMALL) == 2
        (self.shared / "small.yaml").write_text(text)
        self.laptop.run(f"cp {SHARED}/small.yaml band.yaml")

    def up(self, line: str) -> None:
        """A token for all by default, which others can't read; the dashboard on loopback; a node on each host."""
        self.laptop.run(line, 150)
        until(
            lambda: all(host.processes("raylet/raylet") for host in self.hosts.values()),
            "Ray on each host",
            90,
        )
        kept = {
            host.run("stat --format='%a ' .ray/auth_token; cat .ray/auth_token")
            for host in self.hosts.values()
        }
        assert len(kept) == 1
        assert kept.pop().startswith("600")
        listening = self.hosts[HEAD].run("ss --no-header --listening --tcp --numeric sport = :8265")
        assert [entry.split()[3] for entry in listening.splitlines()] == ["127.0.0.1:8265"]
        knocks = f"timeout 2 bash -c '</dev/tcp/{self.hosts[HEAD].address}/6379'; echo $?"
        assert self.laptop.run(knocks).strip() == "124", (
            "the firewall lets a stranger knock at Ray's own port"
        )

    def ingest(self, line: str) -> None:
        (self.shared / "music").mkdir()
        for number in range(3):
            soundfile.write(self.shared / "music" / f"{number}.wav", tone(100_000, number), 16_000)
        self.laptop.run(line, 120)

    def sweep_with_a_cut(self, line: str) -> None:
        """Trials on each host; one is cut off, the sweep goes on, and uses it again when it is back."""
        self.write_sweep()
        log = self.folder / "ray-submit.log"
        driver = self.laptop.start(line, log)
        try:
            wait_until(driver, lambda: self.used() == set(DESKS), f"a trial on each host ({log})", 120)
            before, raylet = self.attempts(), self.hosts[CUT].processes("raylet/raylet")
            self.plug(CUT, "down")
            wait_until(driver, self.lost, f"the trial of {CUT} missed ({log})", 120)
            wait_until(driver, lambda: self.used(before), f"a trial begun without {CUT} ({log})", 120)
            assert CUT not in self.used(before)
            at_plug = self.attempts()
            self.plug(CUT, "up")
            wait_until(driver, lambda: CUT in self.used(at_plug), f"{CUT} used again ({log})", 120)
            assert not any(process.is_running() for process in raylet), "it was never declared dead"
        finally:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)  # the laptop is closed
            driver.wait()
        until(lambda: not self.hosts[HEAD].processes("orchestrator.cli"), "the end of the driver", 30)

    def dashboard(self, line: str) -> None:
        """The tunnel; whoever comes through it without the token is refused and told why."""
        self.started.append(self.laptop.start(line, self.folder / "tunnel.log"))
        until(
            lambda: self.laptop.run(ASK, check=False).strip() == "401",
            "a dashboard that asks for the token",
            60,
        )
        told = self.laptop.run(f"orchestrator submit status -w {SHARED}/workspace; echo exit $?")
        assert "http://127.0.0.1:8265 wants the cluster's token (401)" in told
        assert "copy ~/.ray/auth_token from the head" in told
        assert "exit 3" in told
        told = self.laptop.run(f"{self.job_line()}; echo exit $?")
        assert "token" in told.lower()
        assert "exit 0" not in told

    def token(self, line: str) -> None:
        self.laptop.run(line)
        assert self.laptop.run("stat --format=%a ~/.ray/auth_token").strip() == "600"

    def submit(self, line: str) -> None:
        """The same line as a job goes on where `ray submit` was."""
        log, before = self.folder / "submit.log", self.attempts()
        following = self.laptop.start(line, log)
        self.started.append(following)
        wait_until(
            following, lambda: self.used(before) == set(DESKS), f"new trials on each host ({log})", 120
        )
        self.job = re.findall(r"--attach (\S+)", log.read_text())[0].rstrip(";")

    def stop(self, line: str) -> None:
        """A stopped job tells the line that goes on: it does, and so does `ray job submit`."""
        told = self.laptop.run(line, 100)
        (again,) = re.findall(rf"job {self.job} was stopped; this goes on where it was: (.+)", told)
        assert again.startswith(f"orchestrator submit sweep {TINY_SWEEP}")
        assert self.started[-1].wait(60) == 1
        assert not self.workspace.sweep(SWEEP).exists(LEASE)
        self.goes_on(again)
        assert self.goes_on(self.job_line()) == set(DESKS)

    def goes_on(self, line: str) -> set[str]:
        """Run a line that ends when the steps of one more trial are used up; returns the hosts that it used."""
        sweep, before, done = self.workspace.sweep(SWEEP), self.attempts(), self.done()
        steps = Meter(read_journal(sweep)).spent().steps
        self.write_sweep(budget={"steps": steps + TRAIN["max_steps"]})
        assert "the budget is used up" in self.laptop.run(line, 200)
        assert self.done() >= done
        assert Meter(read_journal(sweep)).spent().steps >= steps + TRAIN["max_steps"]
        return self.used(before)

    def down(self, line: str) -> None:
        """Ray ends on the head, and on the others once they see that it is gone."""
        self.laptop.run(line, 60)
        assert not self.hosts[HEAD].processes("gcs_server")
        until(lambda: not self.running("raylet", "cluster.start"), "the end of Ray on each host", 90)

    def running(self, *words: str) -> list[str]:
        """Hosts with a process that has one of the words."""
        return [name for name, host in self.hosts.items() if any(host.processes(word) for word in words)]

    def job_line(self) -> str:
        """The line of cluster/README.md that submits with Ray's own command."""
        lines = lines_of(section(REPOSITORY / "cluster" / "README.md", "Submitting"))
        (line,) = [line for line in lines if "ray job submit" in line]
        return line.replace(README_SWEEP, TINY_SWEEP)

    def view(self) -> SweepView | None:
        """The sweep as storage has it; None before it has begun."""
        try:
            return SweepView.open(self.workspace, SWEEP)
        except SampleRNNError:
            return None

    def attempts(self) -> set[tuple[str, str, str]]:
        """(trial, attempt, host) of every start of a trial so far."""
        begun = set()
        for trial in self.view().trials if self.view() else []:
            folder = self.workspace.trial(SWEEP, trial.name).at("attempts")
            for name in folder.names():
                begun.add((trial.name, name, commit.read_record(folder, name)["host"]))
        return begun

    def used(self, before: AbstractSet[tuple[str, str, str]] = frozenset()) -> set[str]:
        """Hosts on which a trial began, since then."""
        return {host for _, _, host in self.attempts() - before}

    def lost(self) -> list[str]:
        """Trials whose host was lost under them."""
        journal = read_journal(self.workspace.sweep(SWEEP))
        return [entry["trial"] for entry in journal if entry.get("cause") == "lost"]

    def heard(self) -> str:
        """What each host's own logs say, for whoever looks into a failure."""
        logs = "tail -n 30 ~/.ray/join.log /tmp/ray/session_latest/logs/monitor.*"
        return "\n".join(f"--- {name}\n{host.run(logs, check=False)}" for name, host in self.hosts.items())

    def done(self) -> set[str]:
        """Names of the trials that are at their end."""
        return {trial.name for trial in self.view().trials if trial.state == "done"}

    def write_sweep(self, **settings: object) -> None:
        """The tiny sweep that stands in for the README's."""
        body = {
            "dataset": "band",
            "base": tiny_experiment(**TRAIN).model_dump(mode="json", exclude_unset=True),
            "space": {"train.seed": list(range(TRIALS))},
            "schedule": {"type": "none"},
            "run": {"tracking": {"wandb": "off"}},
        }
        (self.shared / f"{SWEEP}.yaml").write_text(yaml.safe_dump({**body, **settings}))

    def close(self) -> None:
        """End what still runs on the laptop."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def until(condition: Callable[[], object], what: str, seconds: float) -> None:
    """Wait for what nobody here runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.2)


def test_each_line_of_the_readme_runs_as_written_from_laptop_to_cluster(desks, tmp_path):
    walk = Walk(desks, tmp_path)
    try:
        for line in lines_of(section(REPOSITORY / "README.md", "From laptop to cluster")):
            walk.take(line)
    except BaseException:
        print(walk.heard())
        raise
    finally:
        walk.close()
    assert walk.job, "the README's section does not submit"
