"""The song pool on a real Ray: a killed actor loses no song, and a song is the same whoever made it."""

from __future__ import annotations

import io
import json
import os
import signal

import pytest
import soundfile
import torch

from orchestrator.config import GenerateJob, GenerateRun
from orchestrator.drift import check_same_config
from orchestrator.generate import generate
from orchestrator.journal import Journal
from orchestrator.live import console
from orchestrator.on_ray.song_actor import SongActor
from orchestrator.on_ray.song_pool import SongPool
from orchestrator.songs import Checkpoint, choose_checkpoint, is_made, plan_songs
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.attempts import step_name
from samplernn.checkpoint import About, save_model
from samplernn.chunks import Dataset
from samplernn.config import GenerateConfig
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
    from orchestrator.config import SweepConfig
    from orchestrator.plan import plan

    folder = tmp_path_factory.mktemp("songs")
    workspace = Workspace.open(str(folder / "workspace"))
    write_dataset(workspace.dataset("toy"))
    config = SweepConfig(name="toy", dataset="toy", base=tiny_experiment(clips=0), schedule={"type": "none"})
    check_same_config(workspace.sweep("toy"), CONFIG, config)
    (trial,) = plan(config)
    dataset = Dataset.open(workspace.dataset("toy"), folder / "cache")
    for _ in train(trial.experiment, dataset, workspace.trial("toy", trial.name), device=torch.device("cpu")):
        pass
    Journal(workspace.sweep("toy")).add("end", trial.name, state="done", reason="", final=True)
    return workspace


def job(name: str, songs: int = 12, **generate) -> GenerateJob:
    return GenerateJob(
        name=name, sweep="toy", generate=GenerateConfig(songs=songs, seconds=SECONDS, **generate)
    )


def songs_of(workspace, name):
    return {
        song: commit.read_file(workspace.song(name, song), "song.flac")
        for song in workspace.batch(name).at("songs").names()
    }


def pcm(data: bytes):
    return soundfile.read(io.BytesIO(data), dtype="int16")[0]


def test_killed_actor_loses_no_song_and_changes_no_sample(workspace, ray_local):
    assert generate(workspace, job("calm"), GenerateRun(actors=2), console()) == {}
    hunted = job("hunted")
    checkpoint = choose_checkpoint(workspace, hunted)
    songs, killed = plan_songs(hunted, checkpoint), []

    def shoot(said):
        if not killed and said.finished is None:
            killed.append(next(iter(pool.pids.values())))
            os.kill(killed[0], signal.SIGKILL)

    pool = SongPool(
        workspace, "hunted", checkpoint, GenerateRun(), size=2, gpus=0, agree=lambda ready: None, progress=shoot,
        tick=lambda: None,
    )  # fmt: skip
    pool.run(songs)
    assert killed, "no actor was killed"
    assert pool.failed == {}
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


def test_the_first_worker_names_the_engine_and_another_one_is_refused(workspace, ray_local, capsys):
    wanted = job("pinned", songs=2)
    assert generate(workspace, wanted, GenerateRun(actors=1, backend="torch"), console()) == {}
    assert "engine: portable PyTorch on cpu, fp32" in capsys.readouterr().out
    workspace.song("pinned", "0001").delete("manifest.json")
    with pytest.raises(BadInput, match=r"was begun with engine torch.*run\.precision"):
        generate(workspace, wanted, GenerateRun(actors=1, backend="torch", precision="bf16"), console())
    with pytest.raises(BadInput, match="int8 weights are the native kernel's"):
        generate(workspace, job("eight", songs=1), GenerateRun(backend="torch", precision="int8"), console())


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
    songs = plan_songs(GenerateJob(name="stuck", sweep="stuck", generate=wanted), checkpoint)
    threads = torch.get_num_threads()
    actor = SongActor(workspace, "stuck", checkpoint, GenerateRun())
    assert actor.ready().slots >= 1
    torch.set_num_threads(threads)
    assert [said.finished for said in actor.make(songs) if said.finished] == ["0000"]
    body = json.loads(commit.read_file(workspace.song("stuck", "0000"), "song.json"))
    assert body["recipe"]["restarts"] == 2
    assert body["samples"] == 8_000
    assert {trap["kind"] for trap in body["traps"]} == {"dc"}
    assert [trap["kind"] for trap in body["restarted_for"]] == ["dc", "dc"]
