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
from orchestrator.on_ray.song_pool import SongPool
from orchestrator.songs import choose_checkpoint, is_made, plan_songs
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.chunks import Dataset
from samplernn.config import GenerateConfig
from samplernn.errors import BadInput
from samplernn.train import train
from tests.made import tiny_experiment, write_dataset

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
        workspace, "hunted", checkpoint, size=2, gpus=0, retries=3, agree=lambda engine: None, progress=shoot,
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
