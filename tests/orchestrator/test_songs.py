"""The song pool on a real Ray: a killed actor loses no song, and a song is the same whoever made it."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from orchestrator.asked import songs_asked
from orchestrator.config import GenerateJob, GenerateRun, SweepConfig
from orchestrator.drift import check_same_config
from orchestrator.generate import generate
from orchestrator.journal import Journal, read_journal
from orchestrator.live import console
from orchestrator.on_ray.song_actor import SongActor
from orchestrator.on_ray.song_pool import SongPool
from orchestrator.plan import plan
from orchestrator.recipe import Recipe
from orchestrator.songs import Checkpoint, Source, choose_sources, is_made, plan_songs
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import step_name
from samplernn.checkpoint import About, save_model
from samplernn.chunks import Dataset
from samplernn.config import Experiment, GenerateConfig
from samplernn.errors import BadInput
from samplernn.model import SampleRNN
from samplernn.train import train
from tests.made import tiny_experiment, write_dataset
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


def job(name: str, songs: int = 12, **generate) -> GenerateJob:
    return GenerateJob(
        name=name, sweep="toy", generate=GenerateConfig(songs=songs, seconds=SECONDS, **generate)
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
        workspace, name, GenerateRun(**run), capacity=lambda: 2, gpus=0, agree=lambda ready: None, progress=progress,
        tick=lambda: None,
    )  # fmt: skip


def pcm(data: bytes):
    return soundfile.read(io.BytesIO(data), dtype="int16")[0]


def test_killed_actor_loses_no_song_and_changes_no_sample(workspace, ray_local):
    assert generate(workspace, job("calm"), GenerateRun(actors=2, backend="torch"), console()) == {}
    songs, killed = plan_songs(choose_sources(workspace, job("hunted"))), []

    def shoot(said):
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
    with soundfile.SoundFile(io.BytesIO(commit.read_file(folder, "song.flac"))) as audio:
        assert json.loads(audio.comment) == body["recipe"]
        assert audio.frames == round(SECONDS * audio.samplerate) == body["samples"]
    before = songs_of(workspace, "few")
    folder.delete("manifest.json")
    assert not is_made(workspace, "few", "0001")
    assert generate(workspace, wanted, GenerateRun(actors=2), console()) == {}
    assert songs_of(workspace, "few") == before
    assert "2 of 3 songs are there" in capsys.readouterr().out
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
    assert (first[:prompted] == second[:prompted]).all()
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
    asked = songs_asked(str(recipe), [])
    assert generate(workspace, asked.job, asked.run, console(), Recipe.read(str(recipe))) == {}
    (again,) = songs_of(workspace, asked.name).values()
    assert (pcm(again) == second).all()


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
    asked = songs_asked(str(recipe), [])
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


def test_prompt_that_can_not_be_leaves_nothing_behind(workspace, tmp_path):
    riff = write_sound(tmp_path / "riff.wav", seconds=2)
    for prompt, said in [
        ({"path": str(riff), "length": 0.0005}, "8 samples, less than the model's frame of 16"),
        ({"path": str(riff), "offset": 1.5, "length": 1}, "lasts 2.00 s"),
        ({"path": str(tmp_path / "no.wav"), "length": 1}, "can't be read"),
    ]:
        with pytest.raises(BadInput, match=said):
            generate(workspace, job("refused", prompt=prompt), GenerateRun(), console())
        assert not workspace.batch("refused").exists("config.json")


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
    songs = plan_songs([Source(1, section, checkpoint, None)])
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
    made = songs_of(workspace, "sections")
    assert list(made) == [f"s{s:02d}-t{t:02d}-{i:04d}" for s in (1, 2) for t in (1, 2) for i in (0, 1)]
    assert len({pcm(data).tobytes() for data in made.values()}) == len(made)
    recipes = [
        json.loads(commit.read_file(workspace.song("sections", song), "song.json"))["recipe"] for song in made
    ]
    assert [(recipe["step"], recipe["temperature"]) for recipe in recipes[::2]] == [
        (4, 0.8), (4, "0:1.0, 1s:0.5"), (12, 0.8), (12, "0:1.0, 1s:0.5"),
    ]  # fmt: skip
    loads = [e for e in read_journal(workspace.batch("sections")) if e["kind"] == "worker"]
    assert len(loads) == 1


@pytest.mark.system
def test_hung_actor_is_killed_and_its_songs_go_on(workspace, ray_local):
    assert generate(workspace, job("awake", songs=3), GenerateRun(actors=1, backend="torch"), console()) == {}
    stopped = []

    def halt(said):
        if not stopped and parts_of(workspace, "asleep"):
            stopped.append(next(iter(pool.pids.values())))
            os.kill(stopped[0], signal.SIGSTOP)

    pool = pool_of(workspace, "asleep", halt, commit_seconds=0.25, patience=3, backend="torch")
    pool.run(plan_songs(choose_sources(workspace, job("asleep", songs=3))))
    assert stopped
    assert pool.failed == {}
    calm, got = songs_of(workspace, "awake"), songs_of(workspace, "asleep")
    assert all((pcm(calm[song]) == pcm(got[song])).all() for song in calm)


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
    actor._commit = lambda one, block: making.close()
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


@pytest.mark.parametrize(
    ("text", "said"), [("{}", "not a song's"), ('{"recipe": {"sweep": "toy"}}', "lacks engine")]
)
def test_recipe_that_is_none_is_refused(tmp_path, text, said):
    (tmp_path / "song.json").write_text(text)
    with pytest.raises(BadInput, match=said):
        songs_asked(str(tmp_path / "song.json"), [])
