"""Which checkpoints stay: retention while training goes on, prune, pins, and going back to an earlier one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orchestrator.config import Retention, RollbackConfig, SweepConfig
from orchestrator.journal import Journal
from orchestrator.lease import hold
from orchestrator.picks import Mark, add_mark
from orchestrator.plan import plan
from orchestrator.retention import kept, leftovers, pins, remove, retain, superseded
from orchestrator.rollback import carry_out, rollback
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, SOURCES, Workspace
from samplernn import commit
from samplernn.attempts import begin_attempt, list_commits, list_folders, read_metrics, step_name
from samplernn.checkpoint import load_model, save_model
from samplernn.chunks import Dataset
from samplernn.errors import BadInput
from samplernn.train import Saved, Started, train
from tests.made import tiny_experiment, write_dataset

CPU = torch.device("cpu")
STEPS = [4, 8, 12, 16, 20, 24]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """A workspace with a dataset and a sweep of one trial that was not begun."""
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_dataset(workspace.dataset("toy"))
    config = SweepConfig(
        name="one", dataset="toy", base=tiny_experiment(max_steps=24), schedule={"type": "none"}
    )
    commit.write_record(workspace.sweep("one"), CONFIG, config.model_dump(mode="json"))
    return workspace


def trial_of(workspace: Workspace) -> tuple[str, object]:
    (planned,) = plan(SweepView.open(workspace, "one").config)
    return planned.name, planned.experiment


def train_trial(workspace: Workspace, retention: Retention | None = None) -> str:
    """Train the trial as a worker does, with the journal as the driver keeps it."""
    name, experiment = trial_of(workspace)
    journal = Journal(workspace.sweep("one"))
    dataset = Dataset.open(workspace.dataset("toy"), Path(workspace.storage.root) / "cache")
    for event in train(experiment, dataset, workspace.trial("one", name), device=CPU):
        match event:
            case Started(attempt, step):
                journal.add("start", name, attempt=attempt, step=step)
            case Saved(step, bits):
                if retention is not None:
                    retain(workspace, "one", name, retention)
                journal.add("report", name, attempt=attempt, step=step, bits=bits, decision="CONTINUE")
    journal.add("end", name, state="done", reason="", final=True)
    return name


def steps_of(workspace: Workspace, name: str, kind: str = "model") -> list[int]:
    folder = workspace.trial("one", name)
    return [
        step
        for step, attempt in list_commits(folder, kind)
        if commit.is_committed(folder.at(kind, step_name(step, attempt)))
    ]


def command(workspace: Workspace, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "orchestrator.cli", *words, "-w", str(workspace.storage)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("retention", "stay"),
    [
        (Retention(best=None), set(STEPS)),
        (Retention(best=1, newest=1), {8, 24}),
        (Retention(best=2, newest=2), {8, 12, 20, 24}),
        (Retention(best=1, newest=1, every=8), {8, 16, 24}),
    ],
)
def test_the_best_the_newest_and_every_nth_are_kept(retention, stay):
    bits = dict(zip(STEPS, (5.0, 3.0, 3.5, 4.0, 4.5, 4.8), strict=True))
    assert kept(bits, retention) == stay
    assert kept({**bits, 10: None}, retention) >= stay | {10}


def test_training_removes_models_as_it_goes_and_keeps_picks_clips_and_what_it_goes_on_from(workspace):
    name, _ = trial_of(workspace)
    add_mark(workspace, "ann", "sweeps", "one", (name, 8, 0), Mark(verdict="pick"))
    train_trial(workspace, Retention(best=1, newest=1))
    rows = {
        row["step"]: row["valid_bits"]
        for row in read_metrics(workspace.trial("one", name))
        if row["kind"] == "eval"
    }
    best = min(rows, key=lambda step: rows[step])
    assert steps_of(workspace, name) == sorted({8, best, 20, 24})
    assert steps_of(workspace, name, "state") == [20, 24]
    assert steps_of(workspace, name, "clips") == STEPS


def test_prune_shows_first_and_removes_then_but_never_a_pick_nor_a_songs_source(workspace):
    name = train_trial(workspace)
    add_mark(workspace, "ann", "sweeps", "one", (name, 4), Mark(verdict="pick"))
    sources = [{"sweep": "one", "trial": name, "step": 8, "prompt_sha256": None}]
    commit.write_record(workspace.batch("songs"), SOURCES, {"sources": sources})
    assert pins(workspace, "one") == {(name, 4), (name, 8)}
    dry = command(workspace, "prune", "one", "best=1", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "12, 16" in dry.stdout
    assert "2 folders" in dry.stdout
    assert steps_of(workspace, name) == STEPS
    with hold(workspace.sweep("one")):
        refused = command(workspace, "prune", "one", "best=1")
    assert (refused.returncode, steps_of(workspace, name)) == (2, STEPS)
    assert "in use by process" in refused.stderr
    assert command(workspace, "prune", "one", "best=1").returncode == 0
    assert steps_of(workspace, name) == [4, 8, 20, 24]
    assert steps_of(workspace, name, "clips") == STEPS
    assert "0 folders" in command(workspace, "prune", "one", "best=1").stdout


def test_prune_keeps_what_the_sweeps_own_last_run_keeps_unless_told_otherwise(workspace):
    name = train_trial(workspace)
    retention = Retention(best=1, newest=1, every=8).model_dump(mode="json")
    Journal(workspace.sweep("one")).add("begin", gpus=0.0, budget={}, retention=retention)
    assert "12" in command(workspace, "prune", "one", "--dry-run").stdout
    assert command(workspace, "prune", "one", "newest=2").returncode == 0
    assert set(steps_of(workspace, name)) >= {8, 16, 20, 24}
    assert 12 not in steps_of(workspace, name)


def test_prune_finishes_a_removal_that_was_cut_short_and_clears_what_is_void(workspace):
    name = train_trial(workspace)
    folder = workspace.trial("one", name)
    model, about = load_model(folder.at("model", step_name(4, 1)))
    folder.at("model", step_name(8, 1)).delete(commit.MANIFEST)  # killed after the first step of a removal
    begin_attempt(folder, 20)
    save_model(
        folder, 1, model, type(about)(**{**about.__dict__, "step": 40})
    )  # a worker thought dead writes late
    found = {(each.kind, each.step): each for each in leftovers(folder, name)}
    assert set(found) == {("model", 8), ("model", 24), ("state", 24), ("model", 40)}
    assert all(each.bytes > 1000 for each in found.values())
    for each in found.values():
        remove(workspace, "one", each)
    assert [step for step, _ in list_folders(folder, "model")] == [4, 12, 16, 20]
    assert steps_of(workspace, name, "state") == [20]
    assert not superseded(folder, name, Retention(best=None), set())


def weights(workspace: Workspace, name: str, step: int) -> dict[str, torch.Tensor]:
    folder = workspace.trial("one", name)
    attempt = max(attempt for at, attempt in list_commits(folder, "model") if at == step)
    return load_model(folder.at("model", step_name(step, attempt)))[0].state_dict()


def test_rollback_to_a_checkpoint_with_its_state_trains_the_same_again(workspace):
    name = train_trial(workspace)
    before = weights(workspace, name, 24)
    told = command(workspace, "rollback", "one", "trial=0000", "step=20")
    assert told.returncode == 0, told.stderr
    assert "goes on from step 20" in told.stdout
    assert SweepView.open(workspace, "one").trials[0].state == "waiting"
    assert steps_of(workspace, name) == STEPS[:-1]
    assert max(row["step"] for row in read_metrics(workspace.trial("one", name))) == 20
    train_trial(workspace)
    after = weights(workspace, name, 24)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert SweepView.open(workspace, "one").trials[0].state == "done"


def test_rollback_to_an_old_checkpoint_goes_on_from_its_weights_with_a_fresh_optimiser(workspace):
    name = train_trial(workspace)
    rollback(workspace, "one", RollbackConfig(trial=name, step=8))
    _, experiment = trial_of(workspace)
    dataset = Dataset.open(workspace.dataset("toy"), Path(workspace.storage.root) / "cache")
    first = next(iter(train(experiment, dataset, workspace.trial("one", name), device=CPU)))
    assert isinstance(first, Started)
    assert first.step == 8
    assert steps_of(workspace, name) == [4, 8]
    train_trial(workspace)
    assert steps_of(workspace, name) == STEPS
    rows = [(row["step"], row["kind"]) for row in read_metrics(workspace.trial("one", name))]
    assert len(rows) == len(set(rows))


def test_a_rollback_cut_short_is_carried_out_by_the_next_run(workspace):
    name = train_trial(workspace)
    journal = Journal(workspace.sweep("one"))
    journal.add("rollback", name, step=12, attempt=1)  # killed right after
    assert "one" not in journal.ended()
    for _ in range(2):
        carry_out(workspace, "one", Journal(workspace.sweep("one")))
    assert workspace.trial("one", name).at("attempts").names() == ["0001.json", "0002.json"]
    assert steps_of(workspace, name) == [4, 8, 12]


def test_rollback_to_what_is_not_there_is_refused(workspace):
    name = train_trial(workspace)
    for words in ({"trial": name, "step": 7}, {"trial": "0009", "step": 8}):
        with pytest.raises(BadInput, match=r"there are: \[4|it has: 0000"):
            rollback(workspace, "one", RollbackConfig(**words))
    assert SweepView.open(workspace, "one").trials[0].state == "done"
