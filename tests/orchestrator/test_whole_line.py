"""From real music to an album through the command line, small: every verb, and songs that a trained model made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.audio import decode_flac
from samplernn.chunks import CARD, Dataset
from samplernn.config import ModelConfig
from samplernn.folding import fold
from samplernn.generate.backends import choose_backend
from samplernn.generate.engine import Engine, generate_whole
from samplernn.generate.song import Song
from samplernn.measures import measure
from samplernn.model import SampleRNN
from tests.orchestrator.wandb_ends import wait_for

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parent.parent.parent
WHITE_NOISE = 0.56
MODEL = {"frame_sizes": [8], "dim": 96, "n_rnn": 1, "skip_conn": False, "weight_norm": False, "emb_size": 32}


def orchestrator(workspace: Path, *words: str) -> str:
    command = [sys.executable, "-m", "orchestrator.cli", *words, "-w", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def sounds_like_music(audio: np.ndarray) -> bool:
    """Neither silence nor clipping nor white noise, by measurement."""
    found = measure(audio)
    return (
        0 < found["flatness"] < WHITE_NOISE / 2
        and found["silence"] < 0.5
        and found["clipped"] < 0.01
        and found["rms_dbfs"] > -50
    )


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Ingest, sweep, generate and album, and what they printed."""
    folder = tmp_path_factory.mktemp("line")
    workspace = folder / "workspace"
    train = {
        "max_steps": 300, "batch_size": 16, "seq_len": 256, "chunk_seconds": 0.5, "learning_rate": 0.004,
        "checkpoint_every": 150, "log_every": 50, "clips": 1, "clip_seconds": 0.5,
    }  # fmt: skip
    file = folder / "line.yaml"
    body = {"dataset": "music", "base": {"model": MODEL, "train": train}, "space": {"model.dim": [64, 96]}}
    file.write_text(yaml.safe_dump({**body, "schedule": {"grace_steps": 150, "reduction_factor": 2}}))
    said = [
        orchestrator(workspace, "ingest", str(ROOT / "demo" / "music"), "name=music", "wandb=offline"),
        orchestrator(workspace, "sweep", str(file)),
        orchestrator(
            workspace,
            "generate",
            "line",
            "name=songs",
            "songs=3",
            "seconds=1.5",
            "run.actors=2",
            "wandb=offline",
        ),
        orchestrator(workspace, "album", "songs", "title=A Line", "wandb=offline"),
        orchestrator(workspace, "status", "line", "--json"),
    ]
    return Workspace.open(str(workspace)), said


def test_the_line_leaves_an_album_of_songs_that_are_no_noise(line):
    workspace, said = line
    status = json.loads(said[-1])
    assert {trial["state"] for trial in status["trials"]} <= {"done", "stopped"}
    songs = workspace.batch("songs").at("songs").names()
    assert len(songs) == 3
    for song in songs:
        pcm, rate = decode_flac(commit.read_file(workspace.song("songs", song), "song.flac"))
        assert rate == 16_000
        assert sounds_like_music(pcm.astype(np.float32) / 32768)
    album = Path(workspace.album("songs").root)
    assert len(list(album.glob("*.flac"))) == len(list(album.glob("0*.png"))) == 3
    assert (album / "cover.png").exists()
    page = (album / "index.html").read_text()
    assert "A Line" in page
    assert "expect texture, not riffs" in page
    assert "W&B: 4 runs offline" in said[1]  # two trials, the sweep with its table, its dataset
    assert all("W&B: " in said[verb] for verb in (0, 2, 3))
    for group, runs in ((workspace.sweep("line"), 6), (workspace.dataset("music"), 1)):
        wait_for(lambda at=Path(group.root), n=runs: len(list(at.glob("wandb/offline-run-*"))) >= n, 60)


def test_an_untrained_model_is_white_noise_to_the_same_measure():
    model = SampleRNN.seeded(ModelConfig.model_validate(MODEL), 0)
    folded = fold(model)
    backend, _ = choose_backend(folded, torch.device("cpu"))
    (made,) = generate_whole(Engine(folded, backend, 16_000), [Song(1, 0, 16_000)])
    assert not sounds_like_music(made.pcm.astype(np.float32) / 32768)


def test_the_splits_of_the_music_share_no_sample(line, tmp_path):
    workspace, _ = line
    card = commit.read_record(workspace.dataset("music"), CARD)
    dataset = Dataset.open(workspace.dataset("music"), tmp_path)
    for number, track in enumerate(card["tracks"]):
        owner = np.zeros(track["samples"], dtype=np.uint8)
        for bit, split in enumerate(("train", "valid", "test")):
            for length, count in ((32_000, 800), (32_000, None)):
                for at, start, stop in dataset.chunks(split, length, count):
                    if at == number:
                        owner[start:stop] |= 1 << bit
        assert set(np.unique(owner)) <= {0, 1, 2, 4}
        assert {1, 2, 4} <= set(np.unique(owner))
