"""A sweep on a cluster of its own in which workers, nodes and drivers are killed for real, and what must hold after."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
import yaml

from orchestrator.config import SweepFile
from orchestrator.drift import check_same_config
from orchestrator.journal import Journal, read_journal
from orchestrator.merge import build, load_yaml
from orchestrator.on_ray.scheduler import Decisions
from orchestrator.plan import plan
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import attempts, list_commits, list_folders, read_lineage, step_name
from samplernn.checkpoint import load_model
from samplernn.chunks import Dataset
from samplernn.train import train
from tests.made import tiny_experiment, wait_until, write_dataset

NAME, STEPS, EVERY = "chaos", 360, 60
LATE = 10
DEADLINE_S = 240
PATIENCE_S = 25.0

# In a process of its own: a test process holds one Ray at a time, and nodes are added from a main thread only.
_CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
add = lambda: cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 * 2**20)
nodes = [add(), add()]
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    at = int(line)
    cluster.remove_node(nodes[at], allow_graceful=False)
    nodes[at] = add()
    print("replaced", flush=True)
cluster.shutdown()
"""


class ClusterProcess:
    """A head without cores and two nodes with one core and one fake GPU each."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONWARNINGS": "ignore",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CLUSTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self.address = self._process.stdout.readline().strip()
        assert self.address, "the cluster did not start"

    def replace_node(self, number: int) -> None:
        """Remove one of the two nodes without a word, then add another."""
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == "replaced"

    def workers(self) -> list[psutil.Process]:
        """The processes that train. Tune gives the class a name of its own, which shows while one of its calls runs."""
        return [
            p for p in self._family() if _title(p).startswith(("ray::TrialWorker", "ray::ResourceTrainable"))
        ]

    def _family(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)

    def close(self) -> None:
        """End it, and whatever it started."""
        family = self._family()
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
        for left in [p for p in family if p.is_running()]:
            left.kill()
        self._process.stdout.close()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:1])
    except psutil.Error:
        return ""


class Run:
    """One sweep in one workspace, its driver, and ways to hurt it; everything random comes from the seed."""

    def __init__(self, folder: Path, cluster: ClusterProcess, seed: int, retries: int) -> None:
        self.workspace = made_workspace(folder / "workspace")
        self.cluster, self.log = cluster, folder / "log"
        self.random = random.Random(seed)
        self._file = sweep_file(folder, retries)
        self._driver: subprocess.Popen[bytes] | None = None

    @property
    def sweep(self):
        return self.workspace.sweep(NAME)

    def start(self) -> None:
        """The command, which is always the same."""
        command = [sys.executable, "-m", "orchestrator.cli", "sweep", str(self._file)]
        command += ["-w", str(self.workspace.storage)]
        with self.log.open("ab") as out:
            self._driver = subprocess.Popen(
                command, stdout=out, stderr=out, env={**os.environ, "RAY_ADDRESS": self.cluster.address}
            )

    def finish(self) -> None:
        """Wait for its end; where the driver was killed the command is given again."""
        if self._driver.poll() is not None:
            self.start()
        assert self._driver.wait(DEADLINE_S) == 0, self.log.read_text()

    def failures(self) -> set[str]:
        """Causes of what the journal says went wrong."""
        return {entry["cause"] for entry in read_journal(self.sweep) if entry["kind"] == "failure"}

    def close(self) -> None:
        """End a driver that is left."""
        if self._driver is not None and self._driver.poll() is None:
            self.kill_driver()

    def until(self, condition: Callable[[], bool], what: str, every: float = 0.05) -> None:
        wait_until(self._driver, condition, what, DEADLINE_S, every)

    def jitter(self, most: float) -> None:
        """Let a moment pass that the seed chooses: what is hurt is hurt anywhere."""
        time.sleep(self.random.uniform(0, most))

    # When.

    def early(self) -> None:
        """The first trial has just begun."""
        self.until(lambda: any(entry["kind"] == "start" for entry in read_journal(self.sweep)), "a start")
        self.jitter(0.3)

    def in_mid_write(self) -> None:
        """A checkpoint is being written: one of its folders has no manifest yet."""
        skip = self.random.randrange(4)
        self.until(lambda: len(self._reports()) >= skip, f"{skip} checkpoints")
        self.until(self._writing, "a commit under way", every=0.002)

    def late(self) -> None:
        """Half of the checkpoints are made, or more."""
        self.until(lambda: len(self._reports()) >= LATE, "half of the checkpoints")
        self.jitter(1)

    def _reports(self) -> list[dict]:
        return [entry for entry in read_journal(self.sweep) if entry["kind"] == "report"]

    def _writing(self) -> bool:
        root = Path(self.sweep.root) / "trials"
        return any(
            not (folder / commit.MANIFEST).exists()
            for kind in ("model", "state", "clips")
            for folder in root.glob(f"*/{kind}/step-*")
        )

    # What.

    def kill_driver(self) -> None:
        self._driver.kill()
        self._driver.wait()

    def kill_worker(self) -> None:
        self._signal_worker(signal.SIGKILL)

    def freeze_worker(self) -> None:
        """Only the watchdog can help it."""
        self._signal_worker(signal.SIGSTOP)

    def remove_node(self) -> None:
        self.cluster.replace_node(self.random.randrange(2))

    def _signal_worker(self, what: signal.Signals) -> None:
        busy: list[int] = []

        def found() -> bool:
            busy[:] = self._busy()
            return bool(busy)

        self.until(found, "a worker that trains")
        os.kill(self.random.choice(busy), what)

    def _busy(self) -> list[int]:
        """Process ids of the workers of trials that have begun and not ended."""
        alive = {process.pid for process in self.cluster.workers()}
        ended = Journal(self.sweep).ended()
        found = []
        for name in self.sweep.at("trials").names():
            begun = attempts(self.workspace.trial(NAME, name))
            if begun and name not in ended and begun[max(begun)]["pid"] in alive:
                found.append(begun[max(begun)]["pid"])
        return found


def made_workspace(folder: Path) -> Workspace:
    workspace = Workspace.open(str(folder))
    write_dataset(workspace.dataset("toy"), samples=32_000)
    return workspace


def sweep_file(folder: Path, retries: int = 3) -> Path:
    experiment = tiny_experiment(max_steps=STEPS, checkpoint_every=EVERY, log_every=20)
    base = experiment.model_dump(mode="json", exclude_unset=True)
    base["model"]["dim"] = 96
    body = {
        "dataset": "toy",
        "base": base,
        "space": {"model.dim": [64, 96], "train.seed": [1, 2]},
        "schedule": {"type": "asha", "grace_steps": 180, "reduction_factor": 2},
        "run": {
            "tracking": {"wandb": "off"},
            "patience": PATIENCE_S,
            "free_disk_gb": 0.01,
            "retries": retries,
        },
    }
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def undisturbed(folder: Path) -> Workspace:
    """The same trials, each trained to its end by a loop that nobody stops, without Ray; every checkpoint stays."""
    workspace = made_workspace(folder / "workspace")
    config = build(SweepFile, {"name": NAME, **load_yaml(sweep_file(folder))}).sweep
    check_same_config(workspace.sweep(NAME), CONFIG, config)
    dataset = Dataset.open(workspace.dataset("toy"), folder / "cache")
    with one_thread():
        for trial in plan(config):
            into = workspace.trial(NAME, trial.name)
            for _ in train(trial.experiment, dataset, into, device=torch.device("cpu")):
                pass
    return workspace


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check(run: Run, whole: Workspace) -> None:
    """The oracle: everything that must hold once the same command has ended well."""
    _nothing_leaks(run)
    view = SweepView.open(run.workspace, NAME)
    planned = [trial.name for trial in SweepView.open(whole, NAME).trials]
    assert run.sweep.at("trials").names() == planned
    assert {trial.state for trial in view.trials} <= {"done", "stopped"}
    _journal_holds(run, {trial.name: trial.experiment.train.max_steps for trial in view.trials})
    for trial in view.trials:
        _trial_holds(run, whole, trial.name, trial.state)


def _nothing_leaks(run: Run) -> None:
    left = run.cluster.workers()
    psutil.wait_procs(left, timeout=30)
    assert not [process for process in left if process.is_running()], "a worker outlived the sweep"


def _journal_holds(run: Run, steps: dict[str, int]) -> None:
    """Every decision follows from what the journal says before it, and a trial that has ended stays ended."""
    config = SweepView.open(run.workspace, NAME).config
    Decisions(config.schedule, steps, Journal(run.sweep))
    ended: set[str] = set()
    decided: dict[str, str] = {}
    for entry in (entry for entry in read_journal(run.sweep) if "trial" in entry):
        name = entry.get("trial")
        assert name not in ended, f"{entry} after the trial's end"
        if entry["kind"] == "end":
            ended.add(name)
            assert (entry["state"] == "stopped") == (decided[name] == "STOP"), entry
        elif entry["kind"] == "report":
            assert decided.get(name) != "STOP", f"{entry} after the trial was stopped"
            decided[name] = entry["decision"]
    assert ended == set(steps)


def _trial_holds(run: Run, whole: Workspace, name: str, state: str) -> None:
    folder, other = run.workspace.trial(NAME, name), whole.trial(NAME, name)
    lineage = read_lineage(folder)
    rows: Counter[tuple[str, int]] = Counter()
    reached: dict[int, int] = {}
    for segment in folder.at("metrics").names():
        attempt = int(segment.partition(".")[0])
        for row in commit.read_record(folder.at("metrics"), segment)["rows"]:
            reached[attempt] = max(reached.get(attempt, 0), row["step"])
            if lineage.keeps(row["step"], attempt):
                rows[row["kind"], row["step"]] += 1
    last = max(step for _, step in rows)
    assert rows == dict.fromkeys(_planned_rows(last), 1), f"rows of {name}"
    assert state == "stopped" or last == STEPS
    for attempt, start in lineage.starts.items():
        redone = max([reached.get(earlier, 0) for earlier in lineage.starts if earlier < attempt], default=0)
        assert redone - start <= EVERY, f"{name} went on at {start} though it had reached {redone}"
    for kind in ("model", "state", "clips"):
        for at in list_folders(folder, kind):
            if folder.at(kind, step_name(*at)).exists(commit.MANIFEST):
                assert commit.read_commit(folder.at(kind, step_name(*at)))
    clips = {step for step, at in list_commits(folder, "clips") if _committed(folder, "clips", step, at)}
    assert clips == set(range(EVERY, last + 1, EVERY))
    models = [at for at in list_commits(folder, "model") if _committed(folder, "model", *at)]
    assert models[-1][0] == last
    for step, attempt in models:
        expected = load_model(other.at("model", step_name(step, 1)))[0].state_dict()
        got = load_model(folder.at("model", step_name(step, attempt)))[0].state_dict()
        assert all(torch.equal(expected[key], got[key]) for key in expected), f"{name} at step {step}"


def _planned_rows(last: int) -> Iterator[tuple[str, int]]:
    yield from (("train", step) for step in range(20, last + 1, 20))
    yield from (("eval", step) for step in range(EVERY, last + 1, EVERY))


def _committed(folder, kind: str, step: int, attempt: int) -> bool:
    return commit.is_committed(folder.at(kind, step_name(step, attempt)))
