"""A saved view of a sweep in its W&B project: curves of the group, what matters, and each checkpoint's clips by step.

    python -m orchestrator.tracking.dashboard SWEEP [-w WORKSPACE] [--project ENTITY/PROJECT]

Made through wandb-workspaces, a library of W&B (pip install 'samplernn-orchestrator[dashboard]'). It needs a login and
the entity (the user or team) that the project is of. Run again it makes another view; the old one stays.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from orchestrator.config import SweepConfig
from orchestrator.tracking.history import CLIPS_MAX, axes
from orchestrator.workspace import BORN, CONFIG, Workspace
from samplernn import commit
from samplernn.errors import BadInput, SampleRNNError

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws

BITS = "best_valid_bits"
CURVES = {
    "Validation": ["valid_bits"],
    "Training": ["train_bits"],
    "Gradient norm": ["grad_norm"],
    "Learning rate": ["learning_rate"],
    "Samples a second": ["samples_per_s"],
    "GPU memory in GB": ["gpu_memory_gb"],
    "Clips in a trap": ["clips/trapped"],
    "Clips' repetition, flatness, silence": ["clips/repetition", "clips/flatness", "clips/silence"],
}
"""Titles, and what is drawn over the trial's own step."""


def dashboard(config: SweepConfig, entity: str, project: str) -> ws.Workspace:
    """The view, not saved yet. Raises BadInput when wandb-workspaces is not installed."""
    if find_spec("wandb_workspaces") is None:
        raise BadInput("wandb-workspaces is not installed; pip install 'samplernn-orchestrator[dashboard]'")
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    measured = [*map(wr.Config, axes(config.space)), wr.SummaryMetric(BITS)]
    columns = [wr.ParallelCoordinatesPlotColumn(metric=one) for one in measured]
    curves = [wr.LinePlot(title=title, x="step", y=keys) for title, keys in CURVES.items()]
    clips = [
        wr.MediaBrowser(title=f"Clip {n}", media_keys=[f"clip/{n}", f"spectrogram/{n}"], num_columns=2)
        for n in range(min(config.base.train.clips, CLIPS_MAX))
    ]
    matters = [wr.ParameterImportancePlot(with_respect_to=BITS), wr.ParallelCoordinatesPlot(columns=columns)]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Sweep {config.name}",
        sections=[
            ws.Section(name="Curves", panels=curves, is_open=True),
            ws.Section(name="What matters", panels=matters, is_open=True),
            ws.Section(name="Clips by step", panels=clips, is_open=True),
        ],
        settings=ws.WorkspaceSettings(x_axis="step"),
        runset_settings=ws.RunsetSettings(filters=[ws.Metric("Group") == config.name]),
    )


def main() -> None:
    """Save the view and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.tracking.dashboard", description=__doc__)
    parser.add_argument("sweep")
    parser.add_argument("-w", "--workspace")
    parser.add_argument("--project", help="ENTITY/PROJECT; without it where the sweep was first shipped to")
    arguments = parser.parse_args()
    try:
        folder = Workspace.open(arguments.workspace).sweep(arguments.sweep)
        config = SweepConfig.model_validate(commit.read_record(folder, CONFIG))
        place = arguments.project or commit.read_record(folder, BORN).get("project", "")
        entity, _, project = place.rpartition("/")
        if not (entity and project):
            raise BadInput(f"{place!r} names no entity; say --project ENTITY/PROJECT")
        print(dashboard(config, entity, project).save().url)
    except FileNotFoundError:
        sys.exit(f"there is no sweep {arguments.sweep!r} that was ever shipped")
    except SampleRNNError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
