"""YAML and overrides into one config: what is read, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import IngestConfig, SweepConfig
from orchestrator.merge import build, flatten, load_yaml, parse_overrides, set_dotted
from samplernn.config import Experiment
from samplernn.errors import BadInput


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(error: pytest.ExceptionInfo[BadInput]) -> list[str]:
    return str(error.value).splitlines()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("6.02E+23", 6.02e23),
        ("-.5", -0.5),
        ("100_000", 100_000),
        ("+3", 3),
        ("0", 0),
        ("true", True),
        ("null", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("0042", "0042"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ('"3"', "3"),
        ("[2, 8]", [2, 8]),
    ],
)
def test_load_yaml_reads_scalars_as_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    got = load_yaml(written(tmp_path, f"key: {text}\n"))["key"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb:\n  c: 2\n  c: 3\n", ["line 4", "'c'", "twice", "line 3"]),
        ("a: !!python/object/apply:os.system [ls]\n", ["line 1", "tag", "python/object/apply:os.system"]),
        ("a: !env HOME\n", ["line 1", "tag !env"]),
        ("a: 1\nb: &x [1]\n", ["line 2", "anchors"]),
        ("a: *x\n", ["line 1", "aliases"]),
        ("a: " + "[" * 5000, ["nested more than 32 deep"]),
        ("a: [1\n", ["line 2", "not valid YAML"]),
        ("\ta: 1\n", ["line 1", "not valid YAML"]),
        ("a: \x01\n", ["not valid YAML"]),
        ("a: 1\n---\nb: 2\n", ["line 2", "not valid YAML"]),
        ("1: a\n", ["line 1", "key 1 is not text"]),
        ("[a]: b\n", ["line 1", "is not text"]),
        ("", ["empty"]),
        ("# all of it a comment\n", ["empty"]),
        ("- a\n- b\n", ["['a', 'b']", "key: value"]),
        ("a\n", ["'a'", "key: value"]),
        (b"\xff\xfea", ["UTF-8"]),
        ("a: " + "x" * (1 << 20), ["larger than 1 MiB"]),
    ],
)
def test_load_yaml_bad_file_is_refused_in_one_line(
    tmp_path: Path, text: str | bytes, words: list[str]
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadInput) as error:
        load_yaml(path)
    assert len(lines(error)) == 1
    assert str(error.value).startswith(f"{path}: ")
    for word in words:
        assert word in str(error.value)


def test_load_yaml_alias_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(BadInput, match="anchors and aliases"):
        load_yaml(written(tmp_path, "\n".join(rows)))


def test_load_yaml_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nope\.yaml: there is no such file"):
        load_yaml(tmp_path / "nope.yaml")
    with pytest.raises(BadInput, match="can't be read"):
        load_yaml(tmp_path)


def test_load_yaml_byte_order_mark_is_not_part_of_the_key(tmp_path: Path) -> None:
    assert load_yaml(written(tmp_path, b"\xef\xbb\xbfname: x\n")) == {"name": "x"}


def test_parse_overrides_reads_values_as_a_shell_user_means_them() -> None:
    pairs = [
        "model.dim=512",
        "train.learning_rate=1e-3",
        "model.frame_sizes=[2, 8]",
        "source=~/Music/a: b # c",
        "title=@home",
        "trial=null",
        "learn=true",
        "name='7'",
        "query=a=b",
        "space={model.dim: [1, 2]}",
    ]
    assert parse_overrides(pairs) == {
        "model.dim": 512,
        "train.learning_rate": 1e-3,
        "model.frame_sizes": [2, 8],
        "source": "~/Music/a: b # c",
        "title": "@home",
        "trial": None,
        "learn": True,
        "name": "7",
        "query": "a=b",
        "space": {"model.dim": [1, 2]},
    }


def test_parse_overrides_reports_every_bad_pair() -> None:
    with pytest.raises(BadInput) as error:
        parse_overrides(["model.dim", "=3", "a=", "b=[1", "c=1", "c=2", "--d=3"])
    said = lines(error)
    assert len(said) == 6
    assert "'model.dim' is not of the form dotted.key=value" in said[0]
    assert "a= has no value; write a=null" in said[2]
    assert "b=[1" in said[3]
    assert "c is given twice" in said[4]


def test_build_overrides_win_and_the_data_stays_as_it_was() -> None:
    data: dict[str, Any] = {"model": {"dim": 64, "n_rnn": 2}, "train": None}
    got = build(Experiment, data, {"model.dim": 128, "train.batch_size": 4})
    assert (got.model.dim, got.model.n_rnn, got.train.batch_size) == (128, 2, 4)
    assert data == {"model": {"dim": 64, "n_rnn": 2}, "train": None}


def test_build_override_below_a_free_mapping_is_one_key() -> None:
    data = {"name": "a", "dataset": "b", "space": {"model.n_rnn": [1, 2]}}
    got = build(SweepConfig, data, {"space.model.dim": [64, 128]})
    assert got.model_dump()["space"] == {"model.n_rnn": [1, 2], "model.dim": [64, 128]}


def test_build_lists_every_problem_with_its_dotted_name() -> None:
    data = {
        "model": {"dims": 3, "dim": "abc", "n_rnn": 0, "rnn_type": "LTSM", "frame_sizes": 3},
        "train": {"learning_rate": float("nan"), "max_steps": 1.5, "seed": None},
        "dim": 3,
    }
    with pytest.raises(BadInput) as error:
        build(Experiment, data)
    assert sorted(lines(error)) == [
        "model.dim 'abc' must be a whole number",
        "model.frame_sizes 3 must be a list, such as [1, 2]",
        "model.n_rnn 0 must be at least 1",
        "model.rnn_type 'LTSM' must be 'LSTM', 'GRU' or 'GRU-torch'",
        "train.learning_rate nan must be a finite number",
        "train.max_steps 1.5 must be a whole number",
        "train.seed is empty; give a value or leave the line out",
        "unknown key dim; did you mean model.dim?",
        "unknown key model.dims; did you mean model.dim?",
    ]


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("base.model.frame_size", "did you mean base.model.frame_sizes?"),
        ("batch_size", "did you mean base.train.batch_size?"),
        ("base.dim", "did you mean base.model.dim?"),
        ("schedule.tipe", "did you mean schedule.type?"),
        ("schedule.zzz", "valid here: type, grace_steps, reduction_factor"),
    ],
)
def test_build_unknown_key_names_the_nearest(key: str, suggestion: str) -> None:
    with pytest.raises(BadInput) as error:
        build(SweepConfig, {"name": "a", "dataset": "b"}, {key: 1})
    assert lines(error) == [f"unknown key {key}; {suggestion}"]


def test_build_missing_name_says_what_it_is_for() -> None:
    with pytest.raises(BadInput) as error:
        build(SweepConfig, {"dataset": "band"})
    assert lines(error) == ["name is missing; give name=... (Name of the sweep)"]


def test_build_true_is_not_a_number() -> None:
    with pytest.raises(BadInput) as error:
        build(Experiment, {"model": {"dim": True, "skip_conn": False}})
    assert lines(error) == ["model.dim true must be a number, not true or false"]


def test_build_yes_and_no_are_understood_where_a_switch_is_wanted(tmp_path: Path) -> None:
    data = load_yaml(written(tmp_path, "model:\n  skip_conn: no\n  learn_h0: yes\n"))
    got = build(Experiment, data)
    assert (got.model.skip_conn, got.model.learn_h0) == (False, True)


def test_build_rule_between_fields_is_told_in_its_own_words() -> None:
    with pytest.raises(BadInput) as error:
        build(Experiment, {"model": {"frame_sizes": [16, 24]}})
    assert lines(error) == [
        "model: frame_sizes [16, 24]: each must be a larger multiple of the one before it; "
        "try [16], [2, 8] or [16, 64]"
    ]


def test_build_override_through_a_value_is_refused() -> None:
    with pytest.raises(BadInput, match=r"model\.dim\.x can't be set: model\.dim is 3, not a section"):
        build(Experiment, {"model": {"dim": 3}}, {"model.dim.x": 1})


def test_build_limits_are_read_out_with_the_value() -> None:
    with pytest.raises(BadInput) as error:
        build(IngestConfig, {"name": "a", "source": "b", "valid": 0.7, "test": 0, "sample_rate": 100})
    assert lines(error) == [
        "sample_rate 100 must be at least 4,000",
        "valid 0.7 must be below 0.5",
        "test 0 must be above 0",
    ]


def test_flatten_and_set_dotted_are_each_others_inverse() -> None:
    flat = flatten(Experiment())
    assert flat["model.frame_sizes"] == [16]
    assert flat["train.seq_len"] is None
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        set_dotted(nested, key, value)
    assert build(Experiment, nested) == Experiment()
