"""What several tests share: a workspace with a swept sweep, a browser, a window in the room; a W&B server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from orchestrator.config import SweepConfig
from orchestrator.drift import check_same_config
from orchestrator.journal import Journal
from orchestrator.plan import plan
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.chunks import Dataset
from samplernn.train import train
from tests.made import tiny_experiment, tone, write_dataset
from tests.orchestrator.browser import chromium
from tests.orchestrator.listening import ELSEWHERE, HOSTILE, Listening
from tests.orchestrator.made_sweep import RATE, write_batch
from tests.orchestrator.served import served
from tests.orchestrator.wandb_ends import KEY, Server, serving


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of a real small sweep: two models, trained, with clips of two checkpoints each, and two songs."""
    folder = tmp_path_factory.mktemp("room")
    workspace = Workspace.open(str(folder / "workspace"))
    write_dataset(workspace.dataset("toy"), samples=64_000)
    base = tiny_experiment(max_steps=40, checkpoint_every=20, clip_seconds=0.8)
    config = SweepConfig(
        name="small", dataset="toy", base=base, space={"model.dim": [8, 16]}, schedule={"type": "none"}
    )
    check_same_config(workspace.sweep("small"), CONFIG, config)
    dataset = Dataset.open(workspace.dataset("toy"), folder / "cache")
    journal = Journal(workspace.sweep("small"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model is only slowed down by more
    for trial in plan(config):
        journal.add("start", trial.name, attempt=1, step=0)
        for _ in train(
            trial.experiment, dataset, workspace.trial("small", trial.name), device=torch.device("cpu")
        ):
            pass
        if trial.name.startswith("0000"):
            journal.add("end", trial.name, state="stopped", reason=HOSTILE, final=True)
    torch.set_num_threads(threads)
    sounds = [tone(6 * RATE, 1), tone(6 * RATE, 2)]
    write_batch(workspace, sweep="small", trial="0001-dim16-rnn2-f4x16", sounds=sounds)
    commit.write_record(workspace.batch("toy-songs"), CONFIG, {"sweep": "small"})
    return folder / "workspace"


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(trained, tmp_path / "workspace")
    return Workspace.open(str(tmp_path / "workspace"))


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    program = chromium() or pytest.skip("no browser: install the Debian package chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--mute-audio", f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"]
        launched = playwright.chromium.launch(executable_path=program, args=flags)
        yield launched
        launched.close()


@pytest.fixture
def listening(workspace: Workspace, browser) -> Iterator[Listening]:
    with served(workspace, "small") as (_, address):
        window = Listening(browser, f"{address}/")
        yield window
        window.context.close()
        assert window.complaints == []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A W&B server on this machine, which is logged in to it."""
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "1")
        yield server
