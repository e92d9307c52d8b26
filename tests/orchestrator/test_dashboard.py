"""The saved view of a sweep, made with W&B's own library where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.config import SweepConfig
from orchestrator.tracking.dashboard import dashboard
from orchestrator.tracking.history import axes
from orchestrator.trials import SweepView
from orchestrator.workspace import BORN, Workspace
from samplernn import commit
from samplernn.errors import BadInput
from tests.orchestrator.made_sweep import write_sweep
from tests.orchestrator.wandb_ends import serving

SWEEP = "toy-sweep"


@pytest.fixture
def config(tmp_path: Path) -> SweepConfig:
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_sweep(workspace)
    commit.write_record(workspace.sweep(SWEEP), BORN, {"token": "0a1b2c3d", "project": "band/riffs"})
    return SweepView.open(workspace, SWEEP).config


def test_dashboard_without_its_library_says_what_to_install(
    config: SweepConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.tracking.dashboard.find_spec", lambda _: None)
    with pytest.raises(BadInput, match="pip install"):
        dashboard(config, "band", "riffs")


def test_dashboard_is_saved_with_curves_of_the_group_importance_and_clips(
    config: SweepConfig, tmp_path: Path
) -> None:
    pytest.importorskip("wandb_workspaces", reason="pip install 'samplernn-orchestrator[dashboard]'")
    with serving() as server:
        environment = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "k" * 40, "HOME": str(tmp_path)}
        command = [sys.executable, "-m", "orchestrator.tracking.dashboard", SWEEP]
        command += ["-w", str(tmp_path / "workspace")]
        made = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        (view,) = server.views
    assert (view["entityName"], view["projectName"]) == ("band", "riffs")
    spec = view["spec"]
    for shown in (
        SWEEP,
        "valid_bits",
        "clip/0",
        "spectrogram/0",
        "Parameter Importance",
        "Parallel Coordinates",
        *(f"config:{axis}.value" for axis in axes(config.space)),
    ):
        assert shown in spec


def test_axes_have_no_dots_and_stay_apart() -> None:
    assert axes(["model.dim", "train.seed"]) == {"dim": "model.dim", "seed": "train.seed"}
    twice = ["model.size", "train.size", "model.dataset"]
    assert axes(twice) == {name.replace(".", "_"): name for name in twice}
