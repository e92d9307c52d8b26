"""The song pool on a real Ray: a killed actor loses no song, and a song is the same whoever made it."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from orchestrator.asked import songs_asked
from orchestrator.audition.room import Room
from orchestrator.config import GenerateJob, GenerateRun, SongAudio, SweepConfig
from orchestrator.drift import check_same_config
from orchestrator.event_log import EventLog
from orchestrator.generate import generate
from orchestrator.journal import Journal, read_journal
from orchestrator.lease import hold
from orchestrator.live import console
from orchestrator.node_check import code_digest
from orchestrator.on_ray.song_actor import SongActor
from orchestrator.on_ray.song_pool import SongPool
from orchestrator.picks import Mark, add_mark
from orchestrator.plan import plan
from orchestrator.recipe import Recipe
from orchestrator.song_meter import SongMeter
from orchestrator.songs import is_made, plan_songs
from orchestrator.sources import Checkpoint, Source, choose_sources
from orchestrator.trials import SweepView
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import begin_attempt, step_name
from samplernn.checkpoint import About, save_model
from samplernn.chunks import Dataset
from samplernn.config import Experiment, GenerateConfig
from samplernn.dc import CUTOFF_HZ
from samplernn.errors import BadInput
from samplernn.flac import decode_flac
from samplernn.model import SampleRNN
from samplernn.song_file import check_format
from samplernn.storage import Storage
from samplernn.train import train
from tests.made import tiny_experiment, write_dataset
from tests.orchestrator.test_cli import run
from tests.sounds import write_sound

pytestmark = pytest.mark.cluster
SECONDS = 1.5


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace with one trained trial."""
    folder = tmp_path_factory.mktemp("songs")
    workspace = Workspace.open(str(folder / "workspace"))
    write_dataset(workspace.dataset("toy"))
    train_one(workspace, "toy", tiny_experiment(clips=0), folder / "cache")
    return workspace


def train_one(workspace: Workspace, sweep: str, experiment: Experiment, cache: Path) -> None:
    config = SweepConfig(name=sweep, dataset="toy", base=experiment, schedule={"type": "none"})
    check_same_config(workspace.sweep(sweep), CONFIG, config)
    (trial,) = plan(config)
    dataset = Dataset.open(workspace.dataset("toy"), cache)
    for _ in train(trial.experiment, dataset, workspace.trial(sweep, trial.name), device=torch.device("cpu")):
        pass
    Journal(workspace.sweep(sweep)).add("end", trial.name, state="done", reason="", final=True)


def job(name: str, songs: int = 12, sweep: str = "toy", step: int | None = None, **generate) -> GenerateJob:
    return GenerateJob(
        name=name, sweep=sweep, step=step, generate=GenerateConfig(songs=songs, seconds=SECONDS, **generate)
    )


def songs_of(workspace, name):
    return {
        song: commit.read_file(workspace.song(name, song), "song.flac")
        for song in workspace.batch(name).at("songs").names()
    }


def parts_of(workspace, name):
    parts = workspace.batch(name).at("parts")
    return [f"{song}/{part}" for song in parts.names() for part in parts.at(song).names()]


def pool_of(workspace, name, progress, **run) -> SongPool:
    return SongPool(
        workspace, name, GenerateRun(**{"actors": 2, **run}), gpus=0, agree=lambda ready: None, progress=progress,
        tick=lambda: None,
    )  # fmt: skip


def pcm(data: bytes):
    return soundfile.read(io.BytesIO(data), dtype="int16")[0]


def test_killed_actor_loses_no_song_and_changes_no_sample(workspace, ray_local):
    assert generate(workspace, job("calm"), GenerateRun(actors=2, backend="torch"), console()) == {}
    songs, killed = plan_songs(choose_sources(workspace, job("hunted"))), []

    def shoot(said, node):
        alive = [pid for pid in pool.pids.values() if pid not in killed]
        if alive and len(killed) < 2 and parts_of(workspace, "hunted"):
            killed.append(alive[0])
            os.kill(alive[0], signal.SIGKILL)

    pool = pool_of(workspace, "hunted", shoot, commit_seconds=0.25, backend="torch")
    pool.run(songs)
    assert len(killed) == 2, "no two actors were killed"
    assert pool.failed == {}
    entries = read_journal(workspace.batch("hunted"))
    assert [entry["kind"] for entry in entries].count("lost") == 2
    assert sorted(entry["song"] for entry in entries if entry["kind"] == "song") == [
        song.id for song in songs
    ]
    assert not parts_of(workspace, "hunted"), "parts outlived their songs"
    calm, got = songs_of(workspace, "calm"), songs_of(workspace, "hunted")
    assert list(calm) == list(got) == [song.id for song in songs]
    assert all((pcm(calm[song]) == pcm(got[song])).all() for song in calm)


def test_songs_carry_their_recipe_and_running_again_makes_only_what_is_missing(workspace, ray_local, capsys):
    wanted = job("few", songs=3, temperature=0.9, seed=7)
    assert generate(workspace, wanted, GenerateRun(actors=1), console()) == {}
    folder = workspace.song("few", "0001")
    body = json.loads(commit.read_file(folder, "song.json"))
    assert body["recipe"]["seed"] == 7
    assert body["recipe"]["temperature"] == 0.9
    assert body["recipe"]["high_pass_hz"] == CUTOFF_HZ
    assert body["versions"]["code"] == code_digest()
    assert abs(body["measures"]["dc"]) < 1e-4
    assert body["measures"].keys() >= {
        "lufs", "peak_dbfs", "silence", "flatness", "centroid_hz", "repetition", "along",
    }  # fmt: skip
    with soundfile.SoundFile(io.BytesIO(commit.read_file(folder, "song.flac"))) as audio:
        assert json.loads(audio.comment) == body["recipe"]
        assert audio.frames == round(SECONDS * audio.samplerate) == body["samples"]
    before = songs_of(workspace, "few")
    folder.delete("manifest.json")
    assert not is_made(workspace, "few", "0001")
    assert generate(workspace, wanted, GenerateRun(actors=2), console()) == {}
    assert songs_of(workspace, "few") == before
    assert "2 of 3 songs are there" in capsys.readouterr().out
    more = job("few", songs=5, temperature=0.9, seed=7)
    assert generate(workspace, more, GenerateRun(actors=2), console()) == {}
    assert "3 of 5 songs are there" in capsys.readouterr().out
    grown = songs_of(workspace, "few")
    assert list(grown) == ["0000", "0001", "0002", "0003", "0004"]
    assert {song: grown[song] for song in before} == before
    with pytest.raises(BadInput, match=r"generate\.seconds: 1\.5 -> 2"):
        generate(
            workspace,
            GenerateJob(name="few", sweep="toy", generate={"songs": 3, "seconds": 2}),
            GenerateRun(),
            console(),
        )


@pytest.mark.system
def test_the_first_worker_names_the_engine_and_another_one_is_refused(workspace, ray_local, capsys):
    wanted = job("pinned", songs=2)
    assert generate(workspace, wanted, GenerateRun(actors=1, backend="torch"), console()) == {}
    assert "engine: portable PyTorch on cpu, fp32" in capsys.readouterr().out
    workspace.song("pinned", "0001").delete("manifest.json")
    with pytest.raises(BadInput, match=r"was begun with engine torch.*run\.precision"):
        generate(workspace, wanted, GenerateRun(actors=1, backend="torch", precision="bf16"), console())
    with pytest.raises(BadInput, match="int8 weights are the native kernel's"):
        generate(workspace, job("eight", songs=1), GenerateRun(backend="torch", precision="int8"), console())


@pytest.mark.system
def test_songs_go_on_from_a_prompt_that_their_batch_keeps(workspace, ray_local, tmp_path):
    riff = write_sound(tmp_path / "riff.wav", seconds=2, rate=22_050)
    wanted = job(
        "riffs", songs=2, prompt={"path": str(riff), "offset": 0.5, "length": 0.75},
        temperature="0:1.0, 1s:0.5", top_k=20, h0="random", on_trap="restart",
    )  # fmt: skip
    assert generate(workspace, wanted, GenerateRun(actors=1), console()) == {}
    before = songs_of(workspace, "riffs")
    first, second = (pcm(data) for data in before.values())
    prompted = round(0.75 * 16_000)
    (moved,) = set((first[:prompted].astype(int) - second[:prompted]).tolist())
    assert abs(moved) < 50, "of the prompt, only the mean may differ: each song's is taken out"
    assert first[:prompted].std() > 1000
    assert (first[prompted:] != second[prompted:]).any()
    body = json.loads(commit.read_file(workspace.song("riffs", "0000"), "song.json"))
    assert body["recipe"]["temperature"] == "0:1.0, 1s:0.5"
    assert len(body["recipe"]["prompt"]["sha256"]) == 64
    assert (body["recipe"]["restarts"], body["traps"]) == (0, [])
    riff.unlink()
    workspace.song("riffs", "0001").delete("manifest.json")
    assert generate(workspace, wanted, GenerateRun(actors=1), console()) == {}
    assert songs_of(workspace, "riffs") == before
    recipe = workspace.song("riffs", "0001").local / "song.json"
    asked = songs_asked([str(recipe)])
    assert generate(workspace, asked.job, asked.run, console(), Recipe.read(str(recipe))) == {}
    (again,) = songs_of(workspace, asked.name).values()
    assert (pcm(again) == second).all()
    sidecar = json.loads(commit.read_file(workspace.song(asked.name, "0001"), "song.json"))
    assert {**sidecar["recipe"], "prompt": None} == {
        **json.loads(recipe.read_text())["recipe"],
        "prompt": None,
    }
    body["recipe"]["high_pass_hz"] = 20.0
    recipe = tmp_path / "song.json"
    recipe.write_text(json.dumps(body))
    with pytest.raises(BadInput, match=r"high_pass_hz 20\.0 and this version writes songs with 8"):
        generate(workspace, asked.job, asked.run, console(), Recipe.read(str(recipe)))


@pytest.mark.system
def test_songs_of_a_conditioned_model_follow_a_recording(workspace, ray_local, tmp_path):
    tiny = tiny_experiment(clips=0)
    heard = tiny.model_copy(update={"model": tiny.model.model_copy(update={"features": ("onset",)})})
    train_one(workspace, "led", heard, tmp_path / "cache")
    calm = write_sound(tmp_path / "calm.wav", seconds=2)
    rng = np.random.default_rng(0)
    soundfile.write(
        tmp_path / "drums.wav", rng.normal(0, 0.3, 32_000) * (np.arange(32_000) % 4000 < 400), 16_000
    )
    songs = {}
    for name, file in (("calm", calm), ("drums", tmp_path / "drums.wav"), ("again", tmp_path / "drums.wav")):
        wanted = GenerateConfig(songs=1, seconds=SECONDS, follow={"path": str(file), "offset": 0.25})
        wanted = GenerateJob(name=f"led-{name}", sweep="led", generate=wanted)
        assert generate(workspace, wanted, GenerateRun(actors=1, backend="torch"), console()) == {}
        songs[name] = pcm(songs_of(workspace, f"led-{name}")["0000"])
    assert (songs["drums"] == songs["again"]).all()
    assert (songs["drums"] != songs["calm"]).any()
    (tmp_path / "drums.wav").unlink()
    recipe = workspace.song("led-drums", "0000").local / "song.json"
    asked = songs_asked([str(recipe)])
    assert generate(workspace, asked.job, asked.run, console(), Recipe.read(str(recipe))) == {}
    (made_again,) = songs_of(workspace, asked.name).values()
    assert (pcm(made_again) == songs["drums"]).all()
    for sweep, follow, said in [
        ("led", None, "is conditioned on onset; name a recording"),
        ("toy", {"path": str(calm)}, "is conditioned on nothing; leave follow out"),
        ("led", {"path": str(calm), "offset": 1.0}, "lasts 2.00 s, and 1.5 s from 1 s on end"),
    ]:
        wanted = GenerateConfig(songs=1, seconds=SECONDS, follow=follow)
        with pytest.raises(BadInput, match=said):
            generate(
                workspace, GenerateJob(name="no", sweep=sweep, generate=wanted), GenerateRun(), console()
            )


@pytest.mark.parametrize(
    ("file", "length", "said"),
    [
        ("text.wav", 1, "can't be used: "),
        ("empty.wav", 1, "can't be used: "),
        ("missing.wav", 1, "can't be read (No such file or directory); check the path"),
        (".", 1, "can't be read"),
        ("riff.wav", 0.0005, "8 samples, less than the model's frame of 16; take more of it"),
        ("riff.wav", 2.5, "lasts 2.00 s, and 2.5 s from 0 s on end beyond it; lower offset or seconds"),
        ("slow.wav", 2.5, "lasts 2.00 s"),
    ],
)
def test_prompt_that_can_not_be_is_one_clear_error_before_anything_starts(
    workspace, tmp_path, monkeypatch, capsys, file, length, said
):
    write_sound(tmp_path / "riff.wav", seconds=2)
    write_sound(tmp_path / "slow.wav", seconds=2, rate=8_000)
    (tmp_path / "text.wav").write_text("la la la, this is no audio\n" * 100)
    (tmp_path / "empty.wav").touch()
    before = set(workspace.storage.local.rglob("*"))
    code, _, error = run(
        monkeypatch, capsys, "generate", "toy", "name=refused", f"prompt.path={tmp_path / file}",
        f"prompt.length={length}", "-w", str(workspace.storage),
    )  # fmt: skip
    assert code == 2
    assert error.startswith("error: ")
    assert said in error
    assert len(error.splitlines()) == 1
    assert set(workspace.storage.local.rglob("*")) == before


def test_song_begun_anew_says_so_in_its_recipe_and_names_its_traps(tmp_path, ray_local):
    """A model that says one loud level and nothing else, at 1 kHz: every take is DC."""
    workspace = Workspace.open(str(tmp_path))
    experiment = tiny_experiment()
    model = SampleRNN.seeded(experiment.model, 0)
    with torch.no_grad():
        out = model.sample_tier.out
        out.v.mul_(0.0).add_(1e-3)
        out.offset.copy_(-50.0 * (torch.arange(32) != 28))
    trial = workspace.trial("stuck", "0000")
    save_model(trial, 1, model, About(experiment, "toy", "0" * 64, 1_000, 7, 1.0, 5.0))
    checkpoint = Checkpoint("stuck", "0000", 7, trial.at("model", step_name(7, 1)), 5.0, 1.0)
    wanted = GenerateConfig(songs=1, seconds=8, on_trap="restart", max_restarts=2)
    section = GenerateJob(name="stuck", sweep="stuck", generate=wanted)
    songs = plan_songs([Source(1, section, checkpoint, {})])
    threads = torch.get_num_threads()
    actor = SongActor(workspace, "stuck", GenerateRun(commit_seconds=3))
    assert actor.load(checkpoint).slots >= 1
    torch.set_num_threads(threads)
    assert [said.finished for said in actor.make(songs) if said.finished] == ["0000"]
    body = json.loads(commit.read_file(workspace.song("stuck", "0000"), "song.json"))
    assert body["recipe"]["restarts"] == 2
    assert body["samples"] == 8_000
    assert {trap["kind"] for trap in body["traps"]} == {"dc"}
    assert [trap["kind"] for trap in body["restarted_for"]] == ["dc", "dc"]


@pytest.mark.system
def test_sections_and_temperatures_make_songs_of_several_checkpoints(workspace, ray_local):
    steps, few = [4, 12], {"songs": 2, "seconds": 0.5}
    wanted = GenerateJob(
        name="sections", sweep="toy",
        sections=[
            {"sweep": "toy", "step": step, "temperatures": [0.8, "0:1.0, 1s:0.5"], "generate": few} for step in steps
        ],
    )  # fmt: skip
    assert generate(workspace, wanted, GenerateRun(actors=1), console()) == {}
    check_same_config(workspace.batch("sections"), CONFIG, wanted)
    made = songs_of(workspace, "sections")
    assert list(made) == [f"s{s:02d}-t{t:02d}-{i:04d}" for s in (1, 2) for t in (1, 2) for i in (0, 1)]
    assert len({pcm(data).tobytes() for data in made.values()}) == len(made)
    recipes = [
        json.loads(commit.read_file(workspace.song("sections", song), "song.json"))["recipe"] for song in made
    ]
    assert [(recipe["step"], recipe["temperature"]) for recipe in recipes[::2]] == [
        (4, 0.8), (4, "0:1.0, 1s:0.5"), (12, 0.8), (12, "0:1.0, 1s:0.5"),
    ]  # fmt: skip
    workers = [e for e in read_journal(workspace.batch("sections")) if e["kind"] == "worker"]
    assert len(workers) == 1


def test_three_checkpoints_on_two_workers_are_loaded_as_rarely_as_can_be(workspace, ray_local):
    """Once each, the last of them perhaps by both: a worker that would be idle shares the songs that are left."""
    steps, name, drawn = (4, 8, 12), "loads", {"songs": 4, "seconds": 0.5}
    wanted = GenerateJob(
        name=name, sweep="toy", sections=[{"sweep": "toy", "step": step, "generate": drawn} for step in steps]
    )
    how = GenerateRun(actors=2, slots=1, page=False, measures=False)
    assert generate(workspace, wanted, how, console()) == {}
    assert len(songs_of(workspace, name)) == 12
    loads = [(e["worker"], e["step"]) for e in read_journal(workspace.batch(name)) if e["kind"] == "load"]
    assert {step for _, step in loads[:2]} < set(steps)
    assert len({step for _, step in loads[:2]}) == len({worker for worker, _ in loads[:2]}) == 2
    assert {step for _, step in loads} == set(steps)
    assert len(set(loads)) == len(loads) <= len(steps) + 1


def test_workers_without_a_place_hold_no_songs_back(workspace, ray_local):
    """Ray has two cores: two of four workers wait, and the others share all songs."""
    side_by_side, waiting = [], []

    def look(said, node):
        side_by_side.append(len(said.at) if said.finished is None else 0)
        waiting.append((pool.alive, pool.waiting))

    pool = pool_of(workspace, "crowded", look, actors=4, slots=6, backend="torch", measures=False)
    wanted = GenerateJob(name="crowded", sweep="toy", generate=GenerateConfig(songs=12, seconds=4))
    pool.run(plan_songs(choose_sources(workspace, wanted)))
    assert pool.failed == {}
    assert max(side_by_side) == 6
    assert waiting[-1] == (2, 2)
    kinds = [entry["kind"] for entry in read_journal(workspace.batch("crowded"))]
    assert (kinds.count("worker"), kinds.count("lost"), kinds.count("song")) == (2, 0, 12)


def test_pool_waits_for_a_place_says_so_and_goes_on_when_there_is_one(
    workspace, ray_local, monkeypatch, tmp_path
):
    monkeypatch.setattr("orchestrator.on_ray.song_pool.STARTING_S", 0.0)
    songs, lines = plan_songs(choose_sources(workspace, job("patient", songs=2))), []
    other = ray_local.remote(num_cpus=2)(Counter).remote()
    ray_local.get(other.__ray_ready__.remote())
    with EventLog(Storage.open(str(tmp_path))) as log:
        meter = SongMeter("patient", songs, log)

        def look():
            lines.append(meter.line())
            if "waits for a place" in lines[-1]:
                ray_local.kill(other)

        meter.pool = pool = SongPool(
            workspace, "patient", GenerateRun(actors=1, measures=False), gpus=0, agree=lambda ready: None,
            progress=meter.add, tick=look,
        )  # fmt: skip
        pool.run(songs)
    assert any(line.endswith("0 of 2; 1 waits for a place") for line in lines)
    assert "2 of 2; 1 worker, " in lines[-1]
    assert pool.failed == {}


@pytest.mark.system
def test_hung_actor_is_killed_and_its_songs_go_on(workspace, ray_local):
    assert generate(workspace, job("awake", songs=3), GenerateRun(actors=1, backend="torch"), console()) == {}
    stopped = []

    def halt(said, node):
        if not stopped and parts_of(workspace, "asleep"):
            stopped.append(next(iter(pool.pids.values())))
            os.kill(stopped[0], signal.SIGSTOP)

    pool = pool_of(workspace, "asleep", halt, commit_seconds=0.25, patience=10, backend="torch")
    pool.run(plan_songs(choose_sources(workspace, job("asleep", songs=3))))
    assert stopped
    assert pool.failed == {}
    calm, got = songs_of(workspace, "awake"), songs_of(workspace, "asleep")
    assert all((pcm(calm[song]) == pcm(got[song])).all() for song in calm)


def test_picks_become_sections_and_stay_as_they_were_when_the_batch_began(
    workspace, ray_local, monkeypatch, capsys
):
    (trial,) = workspace.sweep("toy").at("trials").names()
    with pytest.raises(BadInput, match="nothing is picked in toy yet"):
        choose_sources(workspace, songs_asked(["toy", "picks=true"]).job)
    add_mark(workspace, "anna", "sweeps", "toy", (trial, 4, 0), Mark(verdict="pick"))
    add_mark(workspace, "ben", "sweeps", "toy", (trial, 12), Mark(verdict="pick"))
    add_mark(workspace, "ben", "sweeps", "toy", (trial, 8), Mark(verdict="reject"))
    asked = songs_asked(["toy", "picks=true", "songs=2", "seconds=0.5", "run.actors=1"])
    assert asked.name == "toy-picks"
    assert generate(workspace, asked.job, asked.run, console()) == {}
    made = songs_of(workspace, "toy-picks")
    assert list(made) == ["s01-0000", "s01-0001", "s02-0000", "s02-0001"]
    add_mark(workspace, "anna", "sweeps", "toy", (trial, 8), Mark(verdict="pick"))
    assert [one.checkpoint.step for one in choose_sources(workspace, asked.job)] == [4, 12]
    hers = songs_asked(["toy", "picks=anna", "name=hers"]).job
    assert [one.checkpoint.step for one in choose_sources(workspace, hers)] == [4, 8]
    room = Room(workspace, "toy")
    room.look()
    program, *words = shlex.split(room.generate_line())
    assert program == "orchestrator"
    smaller = {"songs=20": "songs=1", "seconds=120": "seconds=0.5"}
    assert smaller.keys() <= set(words)
    code, _, error = run(monkeypatch, capsys, *(smaller.get(word, word) for word in words))
    assert code == 0, error
    assert list(songs_of(workspace, "toy-picks-2")) == ["s01-0000", "s02-0000", "s03-0000"]
    with pytest.raises(BadInput, match="carl picked nothing in toy"):
        choose_sources(workspace, songs_asked(["toy", "picks=carl", "name=his"]).job)
    with pytest.raises(BadInput, match="leave trial and step out"):
        songs_asked(["toy", "picks=true", "step=4"])


def test_checkpoint_that_can_not_be_used_is_named_or_passed_over_aloud(tmp_path, capsys):
    workspace, model = Workspace.open(str(tmp_path)), SampleRNN.seeded(tiny_experiment().model, 0)
    check_same_config(
        workspace.sweep("old"), CONFIG, SweepConfig(name="old", dataset="toy", base=tiny_experiment())
    )
    trial = workspace.sweep("old").at("trials", plan(SweepView.open(workspace, "old").config)[0].name)
    begin_attempt(trial, 0)
    with pytest.raises(BadInput, match="has no checkpoint yet"):
        choose_sources(workspace, job("none", sweep="old"))
    for step, bits in ((4, 3.0), (8, 2.0), (12, 1.0), (16, 0.5)):
        save_model(trial, 1, model, About(tiny_experiment(), "toy", "0" * 64, 16_000, step, 1.0, bits))
    folders = {step: trial.at("model", step_name(step, 1)).local for step in (4, 8, 12, 16)}
    weights = folders[8] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    commit.write_record(
        trial.at("model", step_name(12, 1)), "manifest.json", {"schema": 2, "files": {}, "about": {}}
    )
    (folders[16] / "manifest.json").unlink()
    (source,) = choose_sources(workspace, job("best", sweep="old"))
    assert source.checkpoint.step == 4
    text = "\n".join(source.checkpoint.left_out)
    assert "has schema 2 and this version reads 1" in text
    assert "does not match its SHA-256" in text
    for step, said in (
        (8, "does not match its SHA-256"),
        (12, "use the version"),
        (16, "no checkpoint at step 16"),
    ):
        with pytest.raises(BadInput, match=said):
            choose_sources(workspace, job("named", sweep="old", step=step))


class Starved(SongActor):
    """An actor on a device whose memory holds three songs side by side, which shows in the middle of the fourth."""

    def make(self, songs):
        for said in super().make(songs):
            at_work = self._workspace.batch(self._batch).at("parts").names()
            if self._engine.slots > 3 and at_work:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            yield said


@pytest.mark.system
def test_worker_out_of_memory_gets_half_the_places_and_its_songs_go_on(workspace, ray_local, monkeypatch):
    assert generate(workspace, job("roomy", songs=8), GenerateRun(actors=1), console()) == {}
    monkeypatch.setattr("orchestrator.on_ray.song_pool.SongActor", Starved)
    monkeypatch.setattr("orchestrator.on_ray.song_actor.REPORT_EVERY_S", 0.0)
    pool = SongPool(
        workspace, "tight", GenerateRun(actors=1, slots=12, commit_seconds=0.25, retries=0), gpus=0,
        agree=lambda ready: None, progress=lambda said, node: None, tick=lambda: None,
    )  # fmt: skip
    pool.run(plan_songs(choose_sources(workspace, job("tight", songs=8))))
    assert pool.failed == {}
    entries = read_journal(workspace.batch("tight"))
    assert [entry["places"] for entry in entries if entry["kind"] == "halved"] == [6, 3]
    assert [entry["slots"] for entry in entries if entry["kind"] == "load"] == [12, 6, 3]
    assert any(entry["resumed"] for entry in entries if entry["kind"] == "song")
    roomy, tight = songs_of(workspace, "roomy"), songs_of(workspace, "tight")
    assert all((pcm(roomy[song]) == pcm(tight[song])).all() for song in roomy)


@pytest.mark.system
def test_out_of_memory_fails_songs_whose_samples_depend_on_the_places(workspace, ray_local, monkeypatch):
    monkeypatch.setattr("orchestrator.on_ray.song_pool.SongActor", Starved)
    pool = SongPool(
        workspace, "fixed", GenerateRun(actors=1, slots=4, commit_seconds=0.25, retries=0, backend="torch"),
        gpus=0, agree=lambda ready: None, progress=lambda said, node: None, tick=lambda: None,
    )  # fmt: skip
    pool.run(plan_songs(choose_sources(workspace, job("fixed", songs=2))))
    assert list(pool.failed) == ["0000", "0001"]
    assert "out of memory with 4 songs side by side" in pool.failed["0000"]
    assert "another name with run.slots=2" in pool.failed["0000"]


class Stillborn(SongActor):
    """An actor that dies when it is to load a model."""

    def load(self, checkpoint):
        os._exit(1)


class NeverBorn(SongActor):
    """An actor that dies while it is made."""

    def __init__(self, workspace, batch, run):
        os._exit(1)


class Rivals(SongActor):
    """Actors of which one alone can load a model: as if the other's machine were at fault."""

    def load(self, checkpoint):
        if not self._workspace.batch(self._batch).create("first", b""):
            os._exit(1)
        return super().load(checkpoint)


class ShortLived(SongActor):
    """An actor that dies with its first songs in hand."""

    def make(self, songs):
        yield os._exit(1)


@pytest.mark.parametrize("dying", [Stillborn, NeverBorn])
def test_workers_that_all_die_at_their_start_end_the_command_with_the_reason(
    workspace, ray_local, monkeypatch, capsys, dying
):
    monkeypatch.setattr("orchestrator.on_ray.song_pool.SongActor", dying)
    name = f"all-{dying.__name__}"
    code, said, error = run(
        monkeypatch, capsys, "generate", "toy", f"name={name}", "songs=9", f"seconds={SECONDS}", "run.actors=2",
        "run.retries=2",
        "-w", str(workspace.storage),
    )  # fmt: skip
    assert code == 3, said + error
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert re.search(r"\d workers died before they made anything, the last of: .*doctor says", line), line
    assert "Traceback" not in error
    lost = [entry for entry in read_journal(workspace.batch(name)) if entry["kind"] == "lost"]
    assert 3 <= len(lost) <= 4
    assert not any(entry["songs"] for entry in lost)
    monkeypatch.undo()
    assert generate(workspace, job(name, songs=9), GenerateRun(page=False, measures=False), console()) == {}


def test_worker_that_works_makes_all_songs_where_others_die_at_their_start(workspace, ray_local, monkeypatch):
    monkeypatch.setattr("orchestrator.on_ray.song_pool.SongActor", Rivals)
    monkeypatch.setattr("orchestrator.on_ray.song_pool.GROW_EVERY_S", 0.0)
    pool = pool_of(workspace, "rivals", lambda said, node: None, retries=2, slots=1, measures=False)
    pool.run(plan_songs(choose_sources(workspace, job("rivals", songs=12))))
    assert pool.failed == {}
    kinds = Counter(entry["kind"] for entry in read_journal(workspace.batch("rivals")))
    assert (kinds["worker"], kinds["song"]) == (1, 12)
    assert 1 <= kinds["lost"] <= 3


def test_workers_that_die_with_their_songs_end_with_every_song_named(
    workspace, ray_local, monkeypatch, capsys
):
    monkeypatch.setattr("orchestrator.on_ray.song_pool.SongActor", ShortLived)
    code, said, error = run(
        monkeypatch, capsys, "generate", "toy", "name=doomed", "songs=3", "run.actors=1", "run.retries=1",
        "-w", str(workspace.storage),
    )  # fmt: skip
    assert code == 1, said + error
    named = [line for line in said.splitlines() if re.match(r"song 000\d failed: failed after 1 retr", line)]
    assert len(named) == 3, said
    assert "3 songs failed; the same command tries again" in said
    lost = [entry for entry in read_journal(workspace.batch("doomed")) if entry["kind"] == "lost"]
    assert len(lost) == 2


@pytest.mark.parametrize("begun", [True, False])
def test_songs_that_are_asked_back_go_on_elsewhere_to_the_same_samples(
    workspace, ray_local, monkeypatch, begun
):
    """Of three songs two are asked back; with one place they are not begun, with four they are in the middle."""
    monkeypatch.setattr("orchestrator.on_ray.song_actor.REPORT_EVERY_S", 0.0)
    name, run = f"back-{begun}", GenerateRun(slots=4 if begun else 1, measures=False)
    songs = plan_songs(choose_sources(workspace, job(name, songs=3)))
    one = SongActor(workspace, name, run)
    one.load(songs[0].checkpoint)
    making = one.make(songs)
    next(making)
    one.take_back(["0000", "0002"] if begun else ["0001", "0002"])
    told = list(making)
    back = [said.returned for said in told if said.returned]
    assert sorted(back) == (["0000", "0002"] if begun else ["0001", "0002"])
    assert [said.finished for said in told if said.finished] == (["0001"] if begun else ["0000"])
    other = SongActor(workspace, name, run)
    other.load(songs[0].checkpoint)
    resumed = [said.resumed for said in other.make([s for s in songs if s.id in back]) if said.finished]
    assert len(resumed) == 2
    assert all((at > 0) == begun for at in resumed)
    undisturbed = SongActor(workspace, f"calm-{begun}", run)
    undisturbed.load(songs[0].checkpoint)
    list(undisturbed.make(songs))
    calm, got = songs_of(workspace, f"calm-{begun}"), songs_of(workspace, name)
    assert list(calm) == list(got)
    assert all((pcm(calm[song]) == pcm(got[song])).all() for song in calm)


@pytest.mark.system
@pytest.mark.parametrize(("form", "bits"), [("flac", 24), ("mp3", 16), ("wav", 24)])
def test_songs_become_other_formats_beside_the_flac(workspace, ray_local, form, bits):
    wanted = job(f"as-{form}", songs=1).model_copy(update={"file": SongAudio(format=form, bits=bits)})
    assert generate(workspace, wanted, GenerateRun(actors=1), console()) == {}
    folder = workspace.song(f"as-{form}", "0000")
    made, rate = decode_flac(commit.read_file(folder, "song.flac"))
    with soundfile.SoundFile(io.BytesIO(commit.read_file(folder, f"song.{form}"))) as file:
        assert file.subtype == {"flac": "PCM_24", "wav": "PCM_24", "mp3": "MPEG_LAYER_III"}[form]
        body = json.loads(commit.read_file(folder, "song.json"))
        assert json.loads(file.comment) == body["recipe"]
        heard = file.read(dtype="int16")
    assert rate == body["sample_rate"]
    assert len(heard) == len(made) == body["samples"]
    assert form == "mp3" or (heard == made).all()


def test_format_that_can_not_be_is_refused_and_leaves_nothing(workspace):
    wanted = job("odd").model_copy(update={"file": SongAudio(format="exe")})
    with pytest.raises(BadInput, match=r"none that soundfile writes; there are: .*flac"):
        generate(workspace, wanted, GenerateRun(), console())
    assert not workspace.batch("odd").exists("config.json")
    with pytest.raises(BadInput, match="can't be written at 11,025 Hz"):
        check_format("opus", 16, 11_025)


@pytest.mark.system
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mount"), reason="needs root and mount for a full disk"
)
def test_full_disk_in_mid_song_is_told_and_goes_on_when_there_is_room(
    workspace, ray_local, tmp_path, monkeypatch, capsys
):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(small)], check=True)
    try:
        shutil.copytree(workspace.storage.local / "sweeps" / "toy", small / "sweeps" / "toy")
        full = Workspace.open(str(small))
        command = [
            "generate", "toy", "name=full", "songs=30", f"seconds={SECONDS}", "run.actors=1", "run.commit_seconds=0.25",
            "run.page=false", "run.measures=false", "-w", str(small),
        ]  # fmt: skip
        code, _, error = run(monkeypatch, capsys, *command)
        assert code == 3, error
        (said,) = [line for line in error.splitlines() if line.startswith("error: ")]
        assert "No space left" in said
        assert "Traceback" not in error
        assert parts_of(full, "full"), "the disk was not filled in mid-song"
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        code, _, error = run(monkeypatch, capsys, *command)
        assert code == 0, error
        assert any(e["resumed"] for e in read_journal(full.batch("full")) if e["kind"] == "song")
        got = {song: pcm(data) for song, data in songs_of(full, "full").items()}
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    assert generate(workspace, job("wide", songs=30), GenerateRun(actors=1, page=False), console()) == {}
    calm = songs_of(workspace, "wide")
    assert list(got) == list(calm)
    assert all((pcm(calm[song]) == got[song]).all() for song in calm)


def test_two_commands_on_one_batch_and_no_songs_at_all_are_refused(workspace):
    with hold(workspace.batch("busy")), pytest.raises(BadInput, match="is in use by process"):
        generate(workspace, job("busy"), GenerateRun(), console())
    with pytest.raises(BadInput, match=r"generate\.songs"):
        songs_asked(["toy", "songs=0"])
    with pytest.raises(BadInput, match=r"unknown key prompt; did you mean generate\.prompt\.path\?"):
        songs_asked(["toy", "prompt=riff.wav"])


def test_damaged_part_is_not_gone_on_from(workspace, tmp_path):
    songs = plan_songs(choose_sources(workspace, job("torn", songs=1)))
    run = GenerateRun(commit_seconds=0.25, backend="torch")
    whole = SongActor(workspace, "whole", run)
    whole.load(songs[0].checkpoint)
    list(whole.make(songs))
    actor = SongActor(workspace, "torn", run)
    actor.load(songs[0].checkpoint)
    parts = workspace.batch("torn").at("parts", "0000")
    making = actor.make(songs)
    actor._finish = lambda one, block: making.close()
    with pytest.raises(ValueError, match="already executing"):
        list(making)  # everything is made, and killed when the whole would be written
    names = parts.names()
    assert len(names) >= 4
    torn = parts.at(names[2]).local / "audio.flac"
    torn.write_bytes(torn.read_bytes()[:-10])
    again = SongActor(workspace, "torn", run)
    again.load(songs[0].checkpoint)
    made = sum(said.samples for said in again.make(songs))
    assert 0 < made < round(SECONDS * 16_000)
    assert songs_of(workspace, "torn") == songs_of(workspace, "whole")


def test_slow_model_s_songs_are_kept_by_the_clock_too(workspace, ray_local, monkeypatch):
    monkeypatch.setattr("orchestrator.on_ray.song_actor.COMMIT_EVERY_S", 0.0)
    monkeypatch.setattr("orchestrator.on_ray.song_actor.REPORT_EVERY_S", 0.0)
    songs = plan_songs(choose_sources(workspace, job("slow", songs=1)))
    actor = SongActor(workspace, "slow", GenerateRun(commit_seconds=3600, backend="torch"))
    actor.load(songs[0].checkpoint)
    making = actor.make(songs)
    told = next(making)
    assert parts_of(workspace, "slow") == [f"0000/000-{0:012d}-{told.samples:012d}"]
    making.close()
    again = SongActor(workspace, "slow", GenerateRun(backend="torch"))
    again.load(songs[0].checkpoint)
    assert [said.resumed for said in again.make(songs) if said.finished] == [told.samples]


def test_batch_with_other_sections_is_refused_by_the_setting_that_differs(tmp_path):
    folder = Workspace.open(str(tmp_path)).batch("two")
    sections = [{"sweep": "toy", "generate": {"songs": songs, "seconds": 4}} for songs in (2, 3)]
    check_same_config(folder, CONFIG, GenerateJob(name="two", sweep="toy", sections=sections), free="songs")
    sections[0]["generate"]["songs"] = 20
    check_same_config(folder, CONFIG, GenerateJob(name="two", sweep="toy", sections=sections), free="songs")
    sections[1]["generate"]["temperature"] = 0.9
    with pytest.raises(
        BadInput, match=r"another config: sections\.2\.generate\.temperature: 1\.0 -> 0\.9\. Use"
    ):
        check_same_config(
            folder, CONFIG, GenerateJob(name="two", sweep="toy", sections=sections), free="songs"
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", "not a song's"), ('{"recipe": {"sweep": "toy"}}', "lacks engine, follow, h0, high_pass_hz")],
)
def test_recipe_that_is_none_is_refused(tmp_path, text, said):
    (tmp_path / "song.json").write_text(text)
    with pytest.raises(BadInput, match=said):
        songs_asked([str(tmp_path / "song.json")])
