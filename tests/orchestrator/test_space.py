"""The space of a sweep: what a person may write, which trials it makes, and what is refused all at once."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import SweepConfig, SweepFile
from orchestrator.merge import build
from orchestrator.plan import plan
from orchestrator.points import at_most, points
from samplernn.errors import BadInput

Settings = dict[str, Any]


def config(**settings: Any) -> SweepConfig:
    return build(SweepFile, {"name": "a", "dataset": "b", **settings}).sweep


def tried(**settings: Any) -> list[Settings]:
    return list(points(config(**settings)))


def test_grid_is_every_combination_in_an_order_that_the_file_does_not_change():
    space = {"model.n_rnn": [2, 3], "model.dim": {"int": [64, 192], "step": 64}}
    expected = [{"model.dim": dim, "model.n_rnn": n} for dim in (64, 128, 192) for n in (2, 3)]
    assert tried(space=space) == expected
    assert tried(space=dict(reversed(space.items()))) == expected
    assert at_most(config(space=space)) == 6


def test_conditional_setting_is_there_only_where_its_condition_holds():
    space = {
        "model.n_rnn": [1, 2, 3],
        "model.skip_conn": {"choice": [False], "when": {"model.n_rnn": 1}},
        "model.dropout": {"choice": [0.1, 0.2], "when": {"model.n_rnn": [2, 3]}},
    }
    got = tried(space=space)
    assert got == [
        {"model.n_rnn": 1, "model.skip_conn": False},
        {"model.n_rnn": 2, "model.dropout": 0.1}, {"model.n_rnn": 2, "model.dropout": 0.2},
        {"model.n_rnn": 3, "model.dropout": 0.1}, {"model.n_rnn": 3, "model.dropout": 0.2},
    ]  # fmt: skip
    assert at_most(config(space=space)) == len(got)
    assert len(plan(config(space=space))) == 5


def test_condition_on_a_setting_that_is_not_set_does_not_hold():
    space = {
        "model.n_rnn": [2, 3],
        "model.dim": {"choice": [64], "when": {"model.n_rnn": 3}},
        "model.dropout": {"choice": [0.1], "when": {"model.dim": 64}},
    }
    assert tried(space=space) == [
        {"model.n_rnn": 2},
        {"model.n_rnn": 3, "model.dim": 64, "model.dropout": 0.1},
    ]


RANGES = {
    "train.learning_rate": {"loguniform": [1e-4, 1e-2]},
    "model.dropout": {"uniform": [0.0, 0.5]},
    "model.dim": {"int": [64, 512], "log": True},
    "model.n_rnn": {"int": [2, 5]},
}


def test_random_draws_stay_in_their_ranges_never_repeat_and_follow_the_seed():
    got = tried(space=RANGES, search="random", num_samples=400)
    assert len(got) == 400
    assert len({str(point) for point in got}) == 400
    rates = [point["train.learning_rate"] for point in got]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 150 < sum(rate < 1e-3 for rate in rates) < 250, "each factor of ten is as likely as the next"
    dims = [point["model.dim"] for point in got]
    assert all(isinstance(dim, int) and 64 <= dim <= 512 for dim in dims)
    assert 150 < sum(dim < 181 for dim in dims) < 250  # the middle of 64 and 512 on a logarithmic scale
    assert {point["model.n_rnn"] for point in got} == {2, 3, 4, 5}
    assert tried(space=RANGES, search="random", num_samples=10) == got[:10]
    other = config(space=RANGES, search="random", num_samples=10, base={"train": {"seed": 1}})
    assert list(points(other)) != got[:10]


def test_random_draw_is_tried_beside_every_value_of_a_grid():
    space = {"train.learning_rate": {"loguniform": [1e-4, 1e-2]}, "model.n_rnn": {"grid": [2, 3, 4]}}
    got = tried(space=space, search="random", num_samples=5)
    assert [point["model.n_rnn"] for point in got] == [2, 3, 4] * 5
    assert len({point["train.learning_rate"] for point in got}) == 5
    assert at_most(config(space=space, search="random", num_samples=5)) == 15


def test_random_search_of_a_small_space_ends_when_all_of_it_was_drawn():
    space = {"model.n_rnn": [2, 3], "model.dim": {"choice": [64, 128], "when": {"model.n_rnn": 3}}}
    got = tried(space=space, search="random", num_samples=50)
    assert sorted(map(str, got)) == sorted(map(str, tried(space=space)))


def test_space_survives_being_recorded():
    asked = config(space={**RANGES, "model.q_type": ["linear", "mu-law"]}, search="random", num_samples=3)
    assert SweepConfig.model_validate(asked.model_dump(mode="json")) == asked
    assert asked.model_dump(mode="json")["space"]["model.q_type"] == ["linear", "mu-law"]


def test_names_of_trials_are_short_whatever_was_drawn():
    names = [trial.name for trial in plan(config(space=RANGES, search="random", num_samples=3))]
    assert [name[:5] for name in names] == ["0000-", "0001-", "0002-"]
    assert all(len(name) <= 64 and name.count(".") <= 3 for name in names)


DIM = {"model.dim": [64, 128]}
REFUSED = {
    "range in a grid": ({"space": {"train.learning_rate": {"uniform": [0.1, 0.2]}}}, "use search: random"),
    "logarithmic int in a grid": ({"space": {"model.dim": {"int": [1, 9], "log": True}}}, "use search: random"),
    "grid in tpe": ({"space": {"model.dim": {"grid": [64]}}, "search": "tpe", "num_samples": 3}, "write choice"),
    "no values": ({"space": {"model.dim": []}}, "must have at least 1 entry"),
    "a value alone": ({"space": {"model.dim": 64}}, "must be a list of values"),
    "two kinds": ({"space": {"model.dim": {"choice": [64], "grid": [64]}}}, "choice and grid given; give one"),
    "a kind misspelt": ({"space": {"model.dim": {"chioce": [64]}}}, "did you mean space.model.dim.choice?"),
    "ends swapped": ({"space": {"model.dim": {"int": [9, 1]}}}, "swap them"),
    "log of zero": ({"space": {"model.dropout": {"loguniform": [0, 1]}}}, "must be above 0"),
    "not a number": ({"space": {"model.dropout": {"uniform": ["x", 1]}}}, "'x' must be a number"),
    "infinite": ({"space": {"model.dropout": {"uniform": [0, float("inf")]}}}, "must be a finite number"),
    "step of a choice": ({"space": {"model.dim": {"choice": [64], "step": 2}}}, "belong to int"),
    "value twice": ({"space": {"model.dim": [64, 64]}}, "has 64 twice"),
    "condition on nothing": (
        {"space": {"model.dim": {"choice": [64], "when": {"model.n_rnn": 3}}}}, "which is not in the space"),
    "conditions in a circle": (
        {"space": {"model.dim": {"choice": [64], "when": {"model.n_rnn": 3}},
                   "model.n_rnn": {"choice": [3], "when": {"model.dim": 64}}}}, "depend on each other"),
    "random without a number": ({"space": DIM, "search": "random"}, "num_samples"),
    "grid with a number": ({"space": DIM, "num_samples": 3}, "num_samples belongs to"),
    "nothing to draw from": ({"space": {}, "search": "tpe", "num_samples": 3}, "space is empty"),
    "unknown search": ({"space": DIM, "search": "bayes"}, "must be 'grid', 'random' or 'tpe'"),
    "unknown metric": ({"space": DIM, "metric": "loss"}, "metric 'loss' must be 'valid_bits'"),
    "grace above maximum": (
        {"space": DIM, "schedule": {"grace_steps": 2000}, "base": {"train": {"max_steps": 1000}}},
        "grace_steps 2000 is above train.max_steps 1000"),
    "grace above every maximum of the space": (
        {"space": {"train.max_steps": [100, 1500]}, "schedule": {"grace_steps": 2000},
         "base": {"train": {"max_steps": 1000}}}, "grace_steps 2000 is above train.max_steps 1500"),
    "money without a price": ({"space": DIM, "budget": {"money": 100}}, "set budget.gpu_hour_price"),
    "no budget at all": ({"space": DIM, "budget": {"steps": 0}}, "budget.steps 0 must be at least 1"),
    "more than one GPU": ({"space": DIM, "resources": {"gpus": 2}}, "resources.gpus 2 must be at most 1"),
    "resources in their old place": ({"space": DIM, "run": {"resources": {}}}, "did you mean resources?"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_impossible_space_is_refused_with_its_remedy(settings: Settings, said: str):
    with pytest.raises(BadInput, match=said.replace("?", r"\?")):
        config(**settings)


def test_largest_maximum_of_the_space_may_be_above_grace():
    assert config(space={"train.max_steps": [1000, 3000]}, schedule={"grace_steps": 2000}).longest == 100_000


def refusal(**settings: Any) -> str:
    with pytest.raises(BadInput) as error:
        plan(config(**settings))
    return str(error.value)


def test_every_unknown_name_is_told_at_once_with_the_nearest():
    said = refusal(space={"modle.dim": [64], "train.lerning_rate": [0.1], "model.dim": [64]})
    assert "unknown key space.modle.dim; did you mean model.dim?" in said
    assert "unknown key space.train.lerning_rate; did you mean train.learning_rate?" in said


def test_every_impossible_combination_is_told_at_once():
    said = refusal(space={"model.frame_sizes": [[2, 8], [3, 8], [24]], "model.dim": [64, 0]})
    assert said.startswith("5 of 6 trials can't be trained:")
    assert "with model.dim=64, model.frame_sizes=[3, 8]" in said
    assert "each must be a larger multiple of the one before it" in said
    assert "seq_len 1024 is not a multiple of the largest frame size 24; use 1008" in said
    assert "model.dim 0 must be at least 1" in said


def test_very_many_impossible_combinations_are_counted():
    said = refusal(space={"model.n_rnn": [1], "model.dim": {"int": [1, 400]}})
    assert said.startswith("400 of 400 trials can't be trained:")
    assert "and 392 more" in said
    assert len(said.splitlines()) == 2


def test_tpe_is_refused_where_any_part_of_its_space_is_impossible():
    said = refusal(
        space={"model.n_rnn": [1, 2], "model.dim": {"int": [64, 128]}}, search="tpe", num_samples=5
    )
    assert "65 of 130 points of the space" in said
    wide = {"model.n_rnn": [2, 3], "train.learning_rate": {"uniform": [0.001, 1.5]}}
    assert "train.learning_rate 1.5 must be at most 1" in refusal(space=wide, search="tpe", num_samples=5)
    assert plan(config(space=RANGES, search="tpe", num_samples=5)) == []


def test_budget_and_the_like_do_not_identify_a_sweep():
    plain, rich = {"space": DIM}, {"space": DIM, "budget": {"steps": 5}, "resources": {"gpus": 0.5}}
    assert config(**plain) == config(**{**rich, "retention": {"best": 1}, "run": {"retries": 7}})
