"""Sweeps on a real Ray: killed drivers and workers, resumed by the same command, to the same weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from orchestrator.config import Schedule, SweepConfig
from orchestrator.drift import check_same_config
from orchestrator.journal import Journal, read_journal
from orchestrator.merge import build, load_yaml
from orchestrator.on_ray.scheduler import Decisions
from orchestrator.plan import plan
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import attempts, list_commits, read_lineage, step_name
from samplernn.checkpoint import load_model
from samplernn.chunks import Dataset
from samplernn.errors import Damaged
from samplernn.storage import Storage
from samplernn.train import train
from tests.made import tiny_experiment, wait_until, write_dataset

pytestmark = pytest.mark.cluster
DEADLINE_S = 180


def made_workspace(folder: Path) -> Workspace:
    workspace = Workspace.open(str(folder))
    write_dataset(workspace.dataset("toy"), samples=32_000)
    return workspace


def sweep_file(folder: Path, **train) -> Path:
    experiment = tiny_experiment(**{"max_steps": 160, "checkpoint_every": 40, "log_every": 10, **train})
    body = {
        "dataset": "toy",
        "base": experiment.model_dump(mode="json", exclude_unset=True),
        "space": {"model.dim": [8, 12, 16]},
        "schedule": {"type": "none"},
        "run": {"tracking": {"wandb": "off"}},
    }
    path = folder / "kills.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def start(workspace: Workspace, file: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "orchestrator.cli", "sweep", str(file), "-w", str(workspace.storage)]
    environment = {**os.environ, "ORCHESTRATOR_WORKSPACE": ""}
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.wait(DEADLINE_S) == 0, log.read_text()


def states(workspace: Workspace) -> set[str]:
    return {trial.state for trial in SweepView.open(workspace, "kills").trials}


def final_weights(workspace: Workspace) -> dict[str, dict[str, torch.Tensor]]:
    weights = {}
    for trial in SweepView.open(workspace, "kills").trials:
        folder = workspace.trial("kills", trial.name)
        step, attempt = list_commits(folder, "model")[-1]
        assert step == trial.experiment.train.max_steps
        weights[trial.name] = load_model(folder.at("model", step_name(step, attempt)))[0].state_dict()
    return weights


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The same trials, trained one after the other without Ray by a loop that nobody stops."""
    folder = tmp_path_factory.mktemp("undisturbed")
    workspace = made_workspace(folder / "workspace")
    data = load_yaml(sweep_file(folder))
    data.pop("run")
    config = build(SweepConfig, {"name": "kills", **data})
    check_same_config(workspace.sweep("kills"), CONFIG, config)
    dataset = Dataset.open(workspace.dataset("toy"), folder / "cache")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for trial in plan(config):
        for _ in train(
            trial.experiment, dataset, workspace.trial("kills", trial.name), device=torch.device("cpu")
        ):
            pass
    torch.set_num_threads(threads)
    return workspace


def check_equal_to(undisturbed: Workspace, workspace: Workspace) -> None:
    assert states(workspace) == {"done"}
    expected, got = final_weights(undisturbed), final_weights(workspace)
    assert list(expected) == list(got)
    for name, weights in expected.items():
        assert all(torch.equal(weights[key], got[name][key]) for key in weights), name
    for view, other in zip(
        SweepView.open(undisturbed, "kills").trials, SweepView.open(workspace, "kills").trials, strict=True
    ):
        keys = [(row["kind"], row["step"], row.get("train_bits"), row.get("valid_bits")) for row in view.rows]
        assert keys == [(r["kind"], r["step"], r.get("train_bits"), r.get("valid_bits")) for r in other.rows]
        assert [clip.step for clip in view.clips] == [clip.step for clip in other.clips]
        for clip in other.clips:
            assert commit.read_commit(clip.folder)


def test_killed_driver_and_the_same_command_again_equal_an_undisturbed_sweep(tmp_path, undisturbed):
    workspace, log = made_workspace(tmp_path / "workspace"), tmp_path / "log"
    file = sweep_file(tmp_path)
    first = start(workspace, file, log)
    sweep = workspace.sweep("kills")

    def one_done_one_under_way() -> bool:
        entries = read_journal(sweep)
        done = {entry["trial"] for entry in entries if entry["kind"] == "end"}
        return any(entry["kind"] == "report" and entry["trial"] not in done for entry in entries) and bool(
            done
        )

    wait_until(first, one_done_one_under_way, "a finished trial beside one with a checkpoint")
    # Ray's two agents first try for 60 s to tell the dead server that its raylet is dead; they hold nothing.
    family = [p for p in psutil.Process(first.pid).children(recursive=True) if "Agent" not in p.name()]
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    done = set(Journal(sweep).ended())
    psutil.wait_procs(family, timeout=60)
    assert not [process for process in family if process.is_running()], "Ray outlived its driver"

    finish(start(workspace, file, log), log)
    check_equal_to(undisturbed, workspace)
    for name in done:
        assert len(read_lineage(workspace.trial("kills", name)).starts) == 1, "a finished trial ran again"
    starts = [
        read_lineage(workspace.trial("kills", t.name)).starts
        for t in SweepView.open(workspace, "kills").trials
    ]
    assert any(len(each) == 2 and each[2] >= 40 for each in starts), "no trial went on from its checkpoint"


def test_a_worker_trains_trial_after_trial_as_a_fresh_one_would(tmp_path, undisturbed):
    workspace, file, log = made_workspace(tmp_path / "workspace"), sweep_file(tmp_path), tmp_path / "log"
    body = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**body, "run": {**body["run"], "max_concurrent": 1}}))
    finish(start(workspace, file, log), log)
    check_equal_to(undisturbed, workspace)
    trials = SweepView.open(workspace, "kills").trials
    workers = {attempts(workspace.trial("kills", trial.name))[1]["pid"] for trial in trials}
    assert len(trials) == 3
    assert len(workers) == 1


def test_asha_is_replayed_from_the_journal_and_an_altered_one_is_refused(tmp_path):
    steps = dict.fromkeys("abcdef", 90)
    schedule = Schedule(type="asha", grace_steps=10, reduction_factor=3)
    folder = Storage.open(tmp_path)
    whole = Decisions(schedule, steps, Journal(folder))
    reports = [(n, s, 6 + 0.1 * i - 0.01 * s) for s in (10, 20, 30) for i, n in enumerate("fbcade")]
    for name, step, bits in reports[:9]:
        whole.report(name, 1, step, bits)
    resumed = Decisions(schedule, steps, Journal(folder))
    fresh = Storage.open(tmp_path / "fresh")
    straight = Decisions(schedule, steps, Journal(fresh))
    expected = [straight.report(name, 1, step, bits) for name, step, bits in reports]
    assert [entry["decision"] for entry in read_journal(folder)] == expected[:9]
    assert [resumed.report(name, 1, step, bits) for name, step, bits in reports[9:]] == expected[9:]
    assert {"STOP", "CONTINUE"} == set(expected)
    stopped = next(entry for entry in read_journal(folder) if entry["decision"] == "STOP")
    commit.write_record(
        folder.at("journal"), f"{stopped['seq']:08d}.json", {**stopped, "decision": "CONTINUE"}
    )
    with pytest.raises(Damaged, match="altered"):
        Decisions(schedule, steps, Journal(folder))
