"""What becomes of a trial that fails: who is tried again, how often, and what the sweep makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from orchestrator.failures import Failure, SameFailure, again
from orchestrator.journal import Journal, read_journal
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.attempts import attempts, begin_attempt, step_name
from tests.made import tiny_experiment, wait_until, write_dataset


def failed(trial: str, cause: str) -> dict[str, str]:
    return {"kind": "failure", "trial": trial, "cause": cause}


def test_a_lost_node_is_free_a_killed_worker_is_bounded_and_memory_gets_one_more_try():
    killed, oom = Failure("killed", "died"), Failure("oom", "full")
    journal: list[dict[str, str]] = []
    for _ in range(50):
        assert again(journal, "a", Failure("lost", "node"), retries=0)
        journal.append(failed("a", "lost"))
    assert not again(journal, "a", killed, retries=0)
    assert again(journal, "a", killed, retries=2)
    journal += [failed("a", "killed"), failed("b", "killed"), failed("a", "killed")]
    assert not again(journal, "a", killed, retries=2)
    assert again(journal, "b", killed, retries=2)
    assert again(journal, "a", oom, retries=2)
    assert not again([*journal, failed("a", "oom")], "a", oom, retries=2)
    assert again([*journal, {"kind": "end", "trial": "a"}], "a", killed, retries=2)
    for cause in ("diverged", "error"):
        assert not again([], "a", Failure(cause, "no"), retries=9)


def test_only_the_same_error_of_all_first_trials_stops_a_sweep():
    error = lambda text: Failure("error", text)  # noqa: E731
    same = SameFailure()
    assert [same.seen(error(f"KeyError: {n}")) for n in range(3)] == [None, None, "KeyError: 2"]
    for others in ([error("KeyError: 0"), None], [error("KeyError: 0"), error("TypeError: 0")],
                   [Failure("oom", "KeyError: 0")]):  # fmt: skip
        same = SameFailure()
        assert not any(same.seen(each) for each in [*others, *[error("KeyError: 0")] * 5])


def sweep(folder: Path, space: dict, run: dict | None = None, **train) -> tuple[Workspace, list[str]]:
    """A workspace with a dataset, and the command of a sweep in it."""
    workspace = Workspace.open(str(folder / "workspace"))
    write_dataset(workspace.dataset("toy"), samples=32_000)
    body = {
        "dataset": "toy",
        "base": tiny_experiment(**train).model_dump(mode="json", exclude_unset=True),
        "space": space,
        "schedule": {"type": "none"},
        "run": {"tracking": {"wandb": "off"}, "free_disk_gb": 0.01, **(run or {})},
    }
    file = folder / "falls.yaml"
    file.write_text(yaml.safe_dump(body))
    command = [sys.executable, "-m", "orchestrator.cli", "sweep", str(file)]
    return workspace, [*command, "-w", str(workspace.storage)]


@pytest.mark.system
@pytest.mark.cluster
def test_each_failure_is_named_and_the_other_trials_are_unaffected(tmp_path):
    space = {
        "train.batch_size": [3, 65_536],
        "train.learning_rate": {"choice": [1e-3, 1e-9], "when": {"train.batch_size": 3}},
        "train.seq_len": {"choice": [2**20], "when": {"train.batch_size": 65_536}},
    }
    workspace, command = sweep(
        tmp_path,
        space,
        {"retries": 0},
        max_steps=3000,
        checkpoint_every=1500,
        diverge_after=1,
        clips=0,
        log_every=5,
    )
    folder = workspace.sweep("falls")
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)

    def pid() -> int | None:
        """The process of the trial that trains well, once it has taken a step."""
        name = next(iter(folder.at("trials").names()), "none")
        begun = attempts(workspace.trial("falls", name))
        moved = workspace.trial("falls", name).at("metrics").names()
        return begun[1]["pid"] if moved and "dim16" in name and len(begun) == 1 else None

    wait_until(process, lambda: pid() is not None, "a step of the first trial", every=0.05)
    os.kill(pid(), signal.SIGTERM)  # a spot notice
    text = (tmp_path / "log").read_text
    assert process.wait(200) == 1, text()
    by_name = {trial.name: trial for trial in SweepView.open(workspace, "falls").trials}
    good, poor, full = by_name.values()
    assert (good.state, poor.state, full.state) == ("done", "failed", "failed")
    assert poor.reason.startswith("diverged: at step 1500")
    assert full.reason.startswith("oom: dim 16, n_rnn 2, batch_size 65536")
    assert "train.batch_size" in full.reason
    entries = read_journal(folder)
    causes = [(entry["trial"], entry["cause"]) for entry in entries if entry["kind"] == "failure"]
    assert sorted(causes) == [(good.name, "lost"), (full.name, "oom")]
    assert all(
        entry["final"] == (entry["trial"] in (good.name, poor.name))
        for entry in Journal(folder).ended().values()
    )
    went_on = attempts(workspace.trial("falls", good.name))[2]["start_step"]
    assert went_on % 1500, "the spot notice did not commit at the next step"
    first, second = attempts(workspace.trial("falls", full.name)).values()
    others = [
        attempt for one in (good, poor) for attempt in attempts(workspace.trial("falls", one.name)).values()
    ]
    assert second["pid"] not in {first["pid"], *(attempt["pid"] for attempt in others)}
    assert "Traceback" not in text()


@pytest.mark.system
@pytest.mark.cluster
def test_a_sweep_whose_first_trials_all_fail_the_same_way_is_stopped_at_once(tmp_path):
    workspace, command = sweep(tmp_path, {"train.seed": list(range(8))})
    for seed in range(8):  # every trial's only checkpoint is damaged: never silently from step 0
        trial = workspace.trial("falls", f"{seed:04d}-dim16-rnn2-f4x16-seed{seed}")
        begin_attempt(trial, 0)
        folder = trial.at("state", step_name(4, 1))
        commit.write_commit(folder, {"state.safetensors": b"whole"})
        folder.write("state.safetensors", b"other")
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the first trials all failed the same way" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    states = [trial.state for trial in SweepView.open(workspace, "falls").trials]
    assert 3 <= states.count("failed") < 8
    assert not [
        p
        for p in psutil.Process().children(recursive=True)
        if " ".join(p.cmdline()[:1]).startswith(("ray::TrialWorker", "ray::ResourceTrainable"))
    ]
