"""From what a person names to what there is: the sweep behind an album or a batch, and the picks of a sweep."""

from __future__ import annotations

import yaml

from orchestrator.config import PickConfig
from orchestrator.picks import PICK, Mark, Marks, add_mark
from orchestrator.trials import SweepView, trial_named
from orchestrator.workspace import CONFIG, Workspace, check_name
from samplernn import commit
from samplernn.attempts import list_commits
from samplernn.errors import BadInput, Damaged


def find_sweep(workspace: Workspace, name: str) -> str:
    """The sweep of that name, or the one that an album's or a batch's songs came from. Raises BadInput."""
    if workspace.sweep(name).exists(CONFIG):
        return name
    batch = _batch_of_album(workspace, name) or name
    try:
        config = commit.read_record(workspace.batch(batch), CONFIG)
        return check_name((config.get("sections") or [config])[0]["sweep"])
    except (FileNotFoundError, Damaged) as error:
        known = ", ".join(workspace.names("sweeps")) or "none yet"
        raise BadInput(
            f"there is no sweep {name!r} in {workspace.storage}, no album and no batch of songs of that name; "
            f"the sweeps: {known}"
        ) from error


def _batch_of_album(workspace: Workspace, name: str) -> str | None:
    try:
        body = yaml.safe_load(workspace.album(name).read("album.yaml"))
        return check_name(body["songs"])
    except (FileNotFoundError, yaml.YAMLError, KeyError, TypeError):
        return None


def choose(
    workspace: Workspace, sweep: str, config: PickConfig, listener: str, drop: bool
) -> set[tuple[str, int]]:
    """Pick or drop the checkpoint that is named, if one is; returns all that are picked. Raises BadInput."""
    names = [trial.name for trial in SweepView.open(workspace, sweep).trials]
    if config.trial is not None and config.step is not None:
        trial = trial_named(names, config.trial, sweep)
        steps = sorted({step for step, _ in list_commits(workspace.trial(sweep, trial), "model")})
        if config.step not in steps and not drop:
            raise BadInput(f"{trial} has no checkpoint at step {config.step}; there are: {steps[:20]}")
        mark = Mark(verdict=None if drop else "pick")
        add_mark(workspace, listener, "sweeps", sweep, (trial, config.step), mark)
    marks = Marks(workspace, "sweeps", sweep)
    marks.refresh()
    return marks.picked()


def picks_text(workspace: Workspace, sweep: str) -> str:
    """A line a pick: what was picked, by whom."""
    marks = Marks(workspace, "sweeps", sweep)
    marks.refresh()
    lines = []
    for item in sorted(marks.by_item, key=lambda item: tuple(map(str, item))):
        who = sorted(name for name, said in marks.by_item[item].items() if said.get("verdict") == PICK)
        if who:
            clip = f" clip {int(item[2]) + 1}" if len(item) > 2 else ""
            lines.append(f"{item[0]} step {int(item[1]):,}{clip}  picked by {', '.join(who)}")
    return "\n".join(lines) or f"nothing is picked in {sweep} yet; listen: orchestrator audition {sweep}"
