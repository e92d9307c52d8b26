"""The plan of a sweep: sizes, speeds between measured ones, disk as retention keeps it, and what importance says."""

from __future__ import annotations

import io
from dataclasses import asdict

import pytest
import torch
from rich.console import Console

from orchestrator.calibration import Calibration, Speed, between, calibrate, size_of, spread, work
from orchestrator.config import Retention, SweepFile
from orchestrator.forecast import disk, forecast, trials_to_plan
from orchestrator.importance import importances
from orchestrator.merge import build
from orchestrator.sweep_plan import make_plan, shown
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn.attempts import step_name
from samplernn.chunks import Dataset
from samplernn.config import Experiment, ModelConfig, TrainConfig
from samplernn.storage import Storage
from samplernn.train import train
from tests.made import tiny_experiment, write_dataset
from tests.orchestrator.made_sweep import write_sweep

PLACE = {"device": "cpu", "threads": 1, "cpu_capability": "AVX2", "torch": "2"}
SPEED = Speed(0.01, 4.0, 1e-6, 0.1, 0.2, 1e-6, 1e6, 2e6, 2.0)


def experiment(dim: int = 64, **train) -> Experiment:
    return Experiment(model=ModelConfig(dim=dim, n_rnn=2), train=TrainConfig(**train))


def test_sizes_differ_by_what_a_step_costs_and_not_by_what_it_learns():
    assert size_of(experiment(learning_rate=0.1)) == size_of(experiment(max_steps=5, seed=9))
    assert len({size_of(experiment(64)), size_of(experiment(128)), size_of(experiment(batch_size=4))}) == 3
    assert size_of(experiment(seq_len=1024)) == size_of(experiment())


def test_calibration_is_measured_once_and_kept(tmp_path):
    workspace, asked = Workspace.open(str(tmp_path)), []

    def measure(missing):
        asked.append([e.model.dim for e in missing])
        for each in missing:
            yield each, Speed(**{**asdict(SPEED), "step_s": each.model.dim / 1000})

    experiments = [experiment(dim, seed=seed) for dim in (64, 128) for seed in (1, 2)]
    first = calibrate(workspace, experiments, PLACE, measure)
    again = calibrate(workspace, [*experiments, experiment(256)], PLACE, measure)
    elsewhere = calibrate(workspace, experiments[:1], {**PLACE, "device": "another"}, measure)
    assert asked == [[64, 128], [256], [64]]
    assert first.speeds[size_of(experiments[0])].step_s == 0.064
    assert again.sources == {**dict.fromkeys(first.speeds, "kept"), size_of(experiment(256)): "measured"}
    assert set(elsewhere.sources.values()) == {"measured"}


def test_many_sizes_are_spread_over_their_work_and_the_others_lie_between(tmp_path):
    experiments = [experiment(dim) for dim in range(16, 336, 16)]
    chosen = spread(experiments, 4)
    assert [e.model.dim for e in chosen][::3] == [16, 320]
    assert spread([], -3) == []
    assert spread(experiments, 0) == experiments[:1]
    known = [(work(e), Speed(**{**asdict(SPEED), "step_s": work(e) * 1e-9})) for e in chosen]
    for each in [*experiments, experiment(640)]:  # a time in proportion to the work comes out exactly
        assert between(work(each), known).step_s == pytest.approx(work(each) * 1e-9)


def test_disk_follows_retention_and_counts_every_clip():
    trial = experiment(max_steps=1000, checkpoint_every=100, clips=2, clip_seconds=1.0)
    clips = 10 * 2 * 16_000 * 2.0
    assert disk(trial, 1000, SPEED, Retention(best=None), 16_000) == 10 * 1e6 + 2 * 2e6 + clips
    # The best three are the newest three while it learns; every 500th adds one.
    assert (
        disk(trial, 1000, SPEED, Retention(best=3, newest=2, every=500), 16_000) == 4 * 1e6 + 2 * 2e6 + clips
    )
    assert disk(trial, 0, SPEED, Retention(), 16_000) == 0


def sweep(**more) -> SweepFile:
    train = {"max_steps": 900, "checkpoint_every": 100, "clips": 0, "eval_seconds": 1.0}
    body = {"name": "s", "dataset": "d", "base": {"model": {"dim": 64, "n_rnn": 2}, "train": train}}
    return build(SweepFile, {**body, "space": {"model.dim": [32, 64], "train.seed": list(range(10))}, **more})


def forecast_of(asked: SweepFile, slots: int, ended: set[str] = frozenset()):
    trials = trials_to_plan(asked.sweep)
    speeds = {size_of(trial.experiment): SPEED for trial in trials}
    calibration = Calibration(speeds, dict.fromkeys(speeds, "kept"), PLACE)
    how = {"sample_rate": 16_000, "held_out": {"valid": 10.0, "test": 10.0}, "free_bytes": None}
    return forecast(asked, trials, ended, calibration, slots, 0.5, **how)


def test_forecast_of_a_full_sweep_is_what_one_counts_by_hand():
    plan = forecast_of(sweep(schedule={"type": "none"}, budget={"gpu_hour_price": 2.0}), 4)
    one = 900 * 0.01 + 9 * (0.1 + 1e-6 * 2 * 16_000)
    assert plan.whole.steps == (18_000, 18_000)
    assert plan.whole.makespan_s == pytest.approx((5 * (4 + one),) * 2)
    assert plan.whole.hours == pytest.approx((20 * (4 + one) / 3600,) * 2)
    assert plan.to_json()["money"] == pytest.approx([20 * (4 + one) / 3600 * 0.5 * 2.0] * 2)
    assert [row["trials"] for row in plan.sizes] == [10, 10]


def test_forecast_with_asha_takes_less_and_what_has_ended_is_left_out():
    asked = sweep(schedule={"type": "asha", "grace_steps": 100})
    plan = forecast_of(asked, 4)
    assert plan.planned.steps[1] < plan.whole.steps[0] * 0.7
    assert plan.planned.steps[0] < plan.planned.steps[1], "the curves are drawn several times"
    names = {trial.name for trial in trials_to_plan(asked.sweep)[:15]}
    rest = forecast_of(asked, 4, names)
    assert (rest.finished, rest.whole.steps[0]) == (15, 5 * 900)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"steps": 6_000}, "of budget.steps 6,000"),
        ({"seconds": 25.0}, "of budget.seconds 25"),
        ({"gpu_hours": 0.01}, "of budget.gpu_hours 0.01"),
        ({"money": 0.02, "gpu_hour_price": 2.0}, "of budget.money 0.02"),
    ],
    ids=str,
)
def test_forecast_ends_with_the_budget_and_says_so(budget, said):
    asked = sweep(schedule={"type": "none"}, budget=budget)
    plan = forecast_of(asked, 4)
    assert said in plan.used_up
    assert plan.planned.steps[0] < plan.whole.steps[0]
    # A checkpoint of each trial at work; and the workers' starts, which a plan counts and a budget doesn't.
    most = 1.5 if {"gpu_hours", "money"} & set(budget) else 1.1
    limit = {
        "steps": plan.planned.steps[0] / 6_000,
        "seconds": plan.planned.makespan_s[0] / 25,
        "gpu_hours": plan.planned.hours[0] * 0.5 / 0.01,
        "money": plan.planned.hours[0] * 0.5 * 2 / 0.02,
    }[next(iter(budget))]
    assert 0.95 <= limit <= most
    shows = Console(file=io.StringIO(), width=140)
    shows.print(shown(plan))
    assert "within the budget" in shows.file.getvalue()


def test_a_budget_that_suffices_or_a_price_alone_changes_no_forecast():
    whole = {"type": "none"}
    free = forecast_of(sweep(schedule=whole), 4)
    for budget in ({"steps": 10**6}, {"gpu_hour_price": 2.0}):
        plan = forecast_of(sweep(schedule=whole, budget=budget), 4)
        assert (plan.planned, plan.used_up) == (free.planned, None)


def test_tpe_is_planned_with_stand_ins_of_its_space():
    space = {"model.dim": {"int": [32, 64]}, "train.learning_rate": {"loguniform": [1e-4, 1e-2]}}
    asked = sweep(space=space, search="tpe", num_samples=7, schedule={"type": "none"})
    assert len(trials_to_plan(asked.sweep)) == 7
    assert forecast_of(asked, 2).trials == 7


def test_importance_names_the_setting_that_decides_and_none_for_few_trials(tmp_path):
    workspace = Workspace.open(str(tmp_path))
    # In a made sweep bits fall with the trial's number, of which model.dim is the highest digit.
    write_sweep(workspace, space={"model.dim": [64, 96, 128], "train.seed": list(range(8))}, clips=0)
    found = importances(SweepView.open(workspace, "toy-sweep"))
    assert (found.trials, found.step) == (24, 200)
    assert [each.name for each in found.found] == ["model.dim", "train.seed"]
    assert found.found[0].share > 0.8
    assert found.found[1].share < 0.05
    write_sweep(workspace, "few", space={"model.dim": [64, 96]}, clips=0)
    assert importances(SweepView.open(workspace, "few")) is None


@pytest.mark.system
@pytest.mark.cluster
def test_plan_measures_a_size_on_a_worker_once_and_sizes_are_those_of_real_checkpoints(ray_local, tmp_path):
    workspace = Workspace.open(str(tmp_path))
    write_dataset(workspace.dataset("toy"), samples=32_000)
    body = {
        "name": "p",
        "dataset": "toy",
        "base": tiny_experiment().model_dump(mode="json", exclude_unset=True),
    }
    asked = build(SweepFile, {**body, "space": {"train.seed": [1, 2, 3]}, "schedule": {"type": "none"}})
    said = Console(file=io.StringIO(), width=140)
    first = make_plan(workspace, asked, None, said)
    again = make_plan(workspace, asked, 6, said)
    assert [row["source"] for row in first.sizes + again.sizes] == ["measured", "kept"]
    assert "measuring how fast" in said.file.getvalue()
    assert (first.slots, again.slots) == (2, 6)
    assert again.whole.makespan_s[0] < first.whole.makespan_s[0]
    dataset = Dataset.open(workspace.dataset("toy"), tmp_path / "cache")
    trial = Storage.open(tmp_path / "trial")
    for _ in train(tiny_experiment(), dataset, trial, device=torch.device("cpu")):
        pass
    real = sum(size for _, size in trial.at("model", step_name(12, 1)).walk())
    assert first.sizes[0]["model_bytes"] == pytest.approx(real, rel=0.02)
    assert not workspace.names("sweeps"), "a plan starts nothing"
