"""What a person types: bad input is one clear text and exit code 2 with nothing written; Ctrl-C resumes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.asked import SWEEPS, sweep_asked
from orchestrator.config import SweepConfig
from orchestrator.drift import check_same_config
from orchestrator.journal import read_journal
from orchestrator.lease import hold
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import list_commits, read_lineage
from tests.made import tiny_experiment, wait_until, write_dataset
from tests.sounds import write_sound

SWEEP = """
dataset: toy
base:
  model: {frame_sizes: [4, 16], dim: 16, n_rnn: 2, emb_size: 8, q_levels: 32}
  train: {max_steps: 4000, batch_size: 3, seq_len: 64, chunk_seconds: 0.02, num_chunks: 40, checkpoint_every: 50,
          log_every: 5, clips: 1, clip_seconds: 0.05}
space: {model.dim: [8, 16]}
schedule: {type: none}
run: {tracking: {wandb: "off"}}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a workspace that has one dataset, a sweep's YAML and folders of no use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCHESTRATOR_WORKSPACE", raising=False)
    write_dataset(Workspace.open("workspace").dataset("toy"))
    (tmp_path / "good.yaml").write_text(SWEEP)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("la la la")
    (tmp_path / "texts" / "fake.wav").write_text("this is no audio")
    (tmp_path / "odd.yaml").write_text(SWEEP.replace("seq_len: 64", "seq_len: 72"))
    (tmp_path / "typo.yaml").write_text(SWEEP.replace("n_rnn: 2", "n_rnns: 2"))
    (tmp_path / "twice.yaml").write_text(SWEEP + "dataset: toy\n")
    (tmp_path / "object.yaml").write_text("dataset: !!python/object/apply:os.system [id]\n")
    (tmp_path / "nothing.yaml").write_text(SWEEP.replace("space: {model.dim: [8, 16]}", "space: {}"))
    (tmp_path / "hollow.yaml").write_text(SWEEP.replace("[8, 16]", "[]"))
    (tmp_path / "huge.yaml").write_text(
        SWEEP.replace("[8, 16]", "{int: [8, 1007]}, train.seed: {int: [1, 1000]}")
    )
    (tmp_path / "asha.yaml").write_text(SWEEP.replace("{type: none}", "{type: asha, grace_steps: 5000}"))
    (tmp_path / "card.yaml").write_text("name: band\n")
    (tmp_path / "impossible.yaml").write_text(SWEEP.replace("[8, 16]}", "[0, -1], model.n_rnn: [1]}"))
    return tmp_path


def files(folder: Path) -> set[Path]:
    return {path for path in (folder / "workspace").rglob("*") if path.is_file()}


def run(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["orchestrator", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


BAD = {
    "empty folder": (["ingest", "empty"], "no audio"),
    "missing folder": (["ingest", "nowhere"], "there is no folder"),
    "ingest YAML without a source": (
        ["ingest", "card.yaml"],
        "source is missing; give source=... (Folder of audio",
    ),
    "ingest YAML with a typo": (["ingest", "card.yaml", "sampel_rate=8000"], "did you mean sample_rate?"),
    "ingest YAML that is not there": (["ingest", "none.yaml"], "none.yaml: there is no such file"),
    "ingest YAML and a folder": (["ingest", "card.yaml", "empty"], "'empty' is a second place"),
    "sweep that is not shipped": (
        ["sweep", "lapdog"],
        "there are dadabots-300, laptop, layers-dim-frame, overnight; or give a path to a YAML file of your own",
    ),
    "unknown key": (["sweep", "typo.yaml"], "did you mean base.model.n_rnn"),
    "unknown override": (["sweep", "good.yaml", "base.model.dimm=8"], "did you mean base.model.dim"),
    "duplicate key": (["sweep", "twice.yaml"], "dataset"),
    "python object": (["sweep", "object.yaml"], "object.yaml"),
    "frame size that does not fit": (
        ["sweep", "odd.yaml"],
        "seq_len 72 is not a multiple of the largest frame size 16",
    ),
    "every impossible trial at once": (["sweep", "impossible.yaml"], "2 of 2 trials"),
    "unknown metric": (["sweep", "good.yaml", "metric=loss"], "metric 'loss' must be 'valid_bits'"),
    "metric of another place": (["sweep", "good.yaml", "schedule.metric=loss"], "did you mean metric?"),
    "empty space": (["sweep", "nothing.yaml"], "space is empty: name settings to try"),
    "setting without values": (["sweep", "hollow.yaml"], "must have at least 1 entry"),
    "grid of a million": (["sweep", "huge.yaml"], "makes 1,000,000 trials; say --yes if that is meant"),
    "grace above maximum": (
        ["sweep", "asha.yaml"],
        "schedule.grace_steps 5000 is above train.max_steps 4000",
    ),
    "unknown setting in the space": (
        ["sweep", "good.yaml", "space.model.dimm=[8]"],
        "did you mean model.dim?",
    ),
    "budget of nothing": (["sweep", "good.yaml", "budget.steps=0"], "budget.steps 0 must be at least 1"),
    "skip_conn with one layer": (
        ["train", "dataset=toy", "n_rnn=1", "skip_conn=true"],
        "skip_conn needs n_rnn >= 2",
    ),
    "unknown dataset": (["sweep", "good.yaml", "dataset=tyo"], "there is no dataset 'tyo' (there are: toy)"),
    "no such file": (["sweep", "missing.yaml"], "missing.yaml"),
    "unknown sweep": (["generate", "nothing"], "there is no sweep 'nothing'"),
    "unknown batch": (["album", "nothing"], "nothing"),
    "unknown sweep's page": (["audition", "nothing"], "there is no sweep"),
    "negative temperature": (["generate", "toy", "temperature=-1"], "temperature"),
    "temperature that is no number": (["generate", "toy", "temperature=.nan"], "temperature"),
    "no songs": (["generate", "toy", "songs=0"], "songs"),
    "a song of a year": (["generate", "toy", "seconds=31536000"], "seconds"),
    "name that climbs out": (["train", "dataset=toy", "name=../up"], "../up"),
    "dataset that climbs out": (["train", "dataset=../up"], "../up"),
    "no equals sign": (["sweep", "good.yaml", "dim"], "dotted.key=value"),
    "unknown verb": (["swep"], "swep"),
    "workspace is a file": (["train", "dataset=toy", "-w", "good.yaml"], "good.yaml"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_clear_error_and_writes_nothing(place, monkeypatch, capsys, case):
    words, expected = case
    before = files(place)
    code, _, error = run(monkeypatch, capsys, *words)
    assert code == 2, error
    assert expected in error
    assert "Traceback" not in error
    assert files(place) == before


def test_ingest_takes_a_yaml_s_settings_and_the_command_line_s_on_top(place, monkeypatch, capsys, ray_local):
    """A relative source is meant from where the command runs, and is the same dataset as the folder's own path."""
    write_sound(place / "songs" / "one.wav", seconds=3)
    (place / "mine.yaml").write_text("source: songs\nsample_rate: 8000\nlicense: my own\n")
    code, said, error = run(monkeypatch, capsys, "ingest", "mine.yaml", "valid=0.2")
    assert code == 0, error
    assert said.endswith("next: orchestrator sweep laptop dataset=mine\n")
    config = commit.read_record(Workspace.open("workspace").dataset("mine"), CONFIG)
    assert (config["sample_rate"], config["license"], config["valid"]) == (8000, "my own", 0.2)
    assert config["source"] == str(place / "songs")
    again = ["ingest", "songs", "name=mine", "sample_rate=8000", "license=my own", "valid=0.2"]
    assert run(monkeypatch, capsys, *again)[0] == 0
    code, _, error = run(monkeypatch, capsys, "ingest", "mine.yaml")
    assert code == 2
    assert "valid: 0.2 -> 0.06" in error


def test_shipped_sweeps_are_taken_by_name_and_the_help_names_each():
    shipped = sorted(path.stem for path in SWEEPS.glob("*.yaml"))
    for name in shipped:
        asked = sweep_asked(name, ["dataset=band"], debug=False)
        assert asked.name == name
        assert asked == sweep_asked(str(SWEEPS / f"{name}.yaml"), ["dataset=band"], debug=False)
    told = re.search(r"taken by NAME:(.*)\.$", cli.sweep.__doc__, re.MULTILINE | re.DOTALL)
    assert told
    assert sorted(told[1].split(".")[0].replace(",", " ").split()) == shipped


def test_folder_of_texts_is_refused_with_each_reason(place, monkeypatch, capsys, ray_local):
    before = files(place)
    code, _, error = run(monkeypatch, capsys, "ingest", "texts")
    assert code == 2
    assert "fake.wav" in error
    assert {path for path in files(place) - before if path.name != "driver.json"} == set()


def test_more_than_the_cluster_has_is_refused_and_writes_nothing(place, monkeypatch, capsys, ray_local):
    before = files(place)
    code, _, error = run(monkeypatch, capsys, "sweep", "good.yaml", "resources.gpus=1")
    assert code == 2
    assert "a trial asks for 1 GPU and the largest node has 0; lower resources.gpus" in error
    assert files(place) == before
    assert Workspace.open("workspace").names("sweeps") == []


def test_very_many_trials_are_asked_about_and_yes_goes_on(place, monkeypatch, capsys):
    """What goes on is refused for the next reason: there is no such dataset."""
    huge = (place / "huge.yaml").read_text()
    (place / "huge.yaml").write_text(huge.replace("int: [1, 1000]", "int: [1, 11]"))
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda text, **_: asked.append(text))
    before = files(place)
    code, _, error = run(monkeypatch, capsys, "sweep", "huge.yaml", "dataset=tyo")
    assert (code, asked) == (2, ["the space of sweep huge makes 11,000 trials; is that what you mean?"])
    assert "there is no dataset 'tyo'" in error
    assert "there is no dataset" in run(monkeypatch, capsys, "sweep", "huge.yaml", "dataset=tyo", "--yes")[2]
    assert len(asked) == 1
    assert files(place) == before


def test_same_name_with_another_config_is_a_readable_difference(place, monkeypatch, capsys):
    config = SweepConfig(name="good", dataset="toy", base=tiny_experiment())
    check_same_config(Workspace.open("workspace").sweep("good"), CONFIG, config)
    code, _, error = run(monkeypatch, capsys, "sweep", "good.yaml")
    assert code == 2
    assert "base.train.max_steps: 12 -> 4000" in error


def test_a_second_driver_is_refused_before_it_writes(place, monkeypatch, capsys):
    folder = Workspace.open("workspace").sweep("good")
    with hold(folder):
        before = files(place)
        code, _, error = run(monkeypatch, capsys, "sweep", "good.yaml")
        assert code == 2
        assert f"in use by process {os.getpid()}" in error
        assert files(place) == before


def test_checkpoint_that_does_not_exist_is_named(place, monkeypatch, capsys):
    config = SweepConfig(name="good", dataset="toy", base=tiny_experiment(), schedule={"type": "none"})
    check_same_config(Workspace.open("workspace").sweep("good"), CONFIG, config)
    assert "has no trial 'x'" in run(monkeypatch, capsys, "generate", "good", "trial=x")[2]
    assert "no checkpoint yet" in run(monkeypatch, capsys, "generate", "good")[2]
    assert "no checkpoint at step 7" in run(monkeypatch, capsys, "generate", "good", "step=7")[2]


def test_help_and_the_room_need_neither_torch_nor_ray():
    read = "orchestrator.cli, orchestrator.asked, orchestrator.audition.app"
    code = f"import sys, {read}; print({{'torch', 'ray', 'wandb', 'scipy.stats'}} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
    )


@pytest.mark.cluster
@pytest.mark.parametrize("sign", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.system)])
def test_ctrl_c_commits_first_says_how_to_go_on_and_the_same_command_redoes_no_step(place, sign):
    long = {"max_steps: 4000": "max_steps: 2000", "checkpoint_every: 50": "checkpoint_every: 1900"}
    text = SWEEP.replace("log_every: 5", "log_every: 1")
    for old, new in long.items():
        text = text.replace(old, new)
    (place / "good.yaml").write_text(text)
    command = [sys.executable, "-m", "orchestrator.cli", "sweep", "good.yaml"]
    workspace = Workspace.open("workspace")
    journal = workspace.sweep("good")
    started = ["sh", "-c", "trap '' INT; exec \"$@\"", "-", *command]  # as `command &` in a script
    with subprocess.Popen(
        command if sign == signal.SIGINT else started,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as first:
        wait_until(first, lambda: any(e["kind"] == "start" for e in read_journal(journal)), "a start")
        # Ctrl-C goes to the group
        os.killpg(first.pid, sign) if sign == signal.SIGINT else os.kill(first.pid, sign)
        asked = time.monotonic()
        said, error = first.communicate(timeout=60)
    assert first.returncode == 130, said + error
    assert time.monotonic() - asked < 30
    assert "Traceback" not in said + error
    assert "every running trial commits a checkpoint first" in said
    assert error.strip().splitlines() == [
        "stopping: a few seconds, everything committed is kept (once more stops at once)",
        "stopped; this goes on where it was: orchestrator sweep good.yaml",
    ]
    reached = {
        trial.name: trial.rows[-1]["step"] for trial in SweepView.open(workspace, "good").trials if trial.rows
    }
    committed = {name: list_commits(workspace.trial("good", name), "state")[-1] for name in reached}
    assert reached
    assert {name: step for name, (step, _) in committed.items()} == reached
    assert max(reached.values()) < 1900, "it had committed by itself"
    if sign == signal.SIGTERM:
        return  # going on is the same for both
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {trial.state for trial in SweepView.open(Workspace.open("workspace"), "good").trials} == {"done"}
    for name, step in reached.items():
        assert read_lineage(workspace.trial("good", name)).starts[2] == step, "a step was taken twice"


@pytest.mark.system
@pytest.mark.cluster
def test_a_second_ctrl_c_ends_at_once(place):
    """In a trial whose checkpoint would take minutes: it makes a clip of ten of them."""
    (place / "good.yaml").write_text(SWEEP.replace("clip_seconds: 0.05", "clip_seconds: 600"))
    command = [sys.executable, "-m", "orchestrator.cli", "sweep", "good.yaml"]
    journal = Workspace.open("workspace").sweep("good")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_until(process, lambda: any(e["kind"] == "start" for e in read_journal(journal)), "a start")
        os.killpg(process.pid, signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        os.killpg(process.pid, signal.SIGINT)
        asked = time.monotonic()
        assert process.wait(10) == 130
        assert time.monotonic() - asked < 2
        assert (
            "stopped at once; this goes on where it was: orchestrator sweep good.yaml"
            in process.stderr.read()
        )
