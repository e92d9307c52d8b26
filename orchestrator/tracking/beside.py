"""What `ingest`, `generate` and `album` made goes to W&B when they end, as a sweep's trials do while it runs.

A shipper of its own ships it, a process apart: the verb waits LEAVE_S for it and leaves it to itself. Songs and albums
stand in the group of the sweep that they come from and are tracked as that sweep's last run was; a dataset, which is
there before any sweep, is a group by itself. What is missed, `orchestrator sync` ships. With `auto` and no login there
is nothing to wait for: all of it is in the workspace.
"""

from __future__ import annotations

import json
import subprocess
import threading

from rich.console import Console

from orchestrator.config import Tracking
from orchestrator.journal import last_begin
from orchestrator.tracking.group import Group
from orchestrator.tracking.login import logged_in
from orchestrator.tracking.start import start_shipper
from orchestrator.tracking.summary import CREDITS
from orchestrator.workspace import CONFIG, SOURCES, Workspace
from samplernn import commit
from samplernn.errors import SampleRNNError

LEAVE_S = 15.0


def ship_dataset(workspace: Workspace, name: str, tracking: Tracking, console: Console) -> None:
    """Ship a dataset's card and tracks, and the dataset itself by reference."""
    _ship(workspace, Group("dataset", name), tracking, [], console)


def ship_songs(workspace: Workspace, batch: str, said: Tracking, console: Console) -> None:
    """Ship a batch of songs to the group of every sweep that it has songs of."""
    sources = commit.read_record(workspace.batch(batch), SOURCES)["sources"]
    _ship_of_sweeps(workspace, {one["sweep"] for one in sources}, said, ["--songs", batch], console)


def ship_album(workspace: Workspace, name: str, said: Tracking, console: Console) -> None:
    """Ship an album to the group of every sweep that it has songs of."""
    tracks = json.loads(workspace.album(name).read(CREDITS))["tracks"]
    _ship_of_sweeps(workspace, {one["recipe"]["sweep"] for one in tracks}, said, ["--album", name], console)


def tracked_as(workspace: Workspace, sweep: str, said: Tracking) -> Tracking:
    """How a sweep was tracked when it last ran, with what is said now on top of it.

    What was to be online is so where this machine is logged in, and offline elsewhere: nobody asked for it here. Where
    an older version ran it, it was tracked if it was ever shipped.
    """
    project = Group("sweep", sweep).first_project(workspace)
    unknown = {"wandb": "auto" if project else "off"}
    settings = dict(last_begin(workspace.sweep(sweep)).get("tracking", unknown))
    settings |= {"project": project} if project else {}
    if settings.get("wandb") == "online" and not logged_in():
        settings["wandb"] = "offline"
    return Tracking.model_validate({**settings, **said.model_dump(exclude_unset=True)})


def _ship_of_sweeps(
    workspace: Workspace, sweeps: set[str], said: Tracking, options: list[str], console: Console
) -> None:
    for sweep in sorted(sweeps):
        if workspace.sweep(sweep).exists(CONFIG):
            tracking = tracked_as(workspace, sweep, said)
            _ship(workspace, Group("sweep", sweep), tracking, options, console)


def _ship(
    workspace: Workspace, group: Group, tracking: Tracking, options: list[str], console: Console
) -> None:
    """Start the shipper, wait a little, and say how it stands. Whatever goes wrong, the work itself is done."""
    if tracking.wandb == "auto" and not logged_in():
        return
    try:
        shipping = start_shipper(workspace, group, tracking, lambda _: None, options)
    except SampleRNNError as error:
        console.print(f"W&B: {error}", style="red", markup=False, soft_wrap=True)
        return
    if shipping is None:
        return
    with console.status("W&B"):
        try:
            shipping.process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            threading.Thread(
                target=shipping.process.wait, daemon=True
            ).start()  # no zombie, should we live on
            told = (
                f"W&B: shipping goes on by itself; what is missing then, `orchestrator sync {group.name}` ships "
                f"(log: {shipping.log})"
            )
        else:
            told = shipping.ended()
    console.print(told, markup=False, highlight=False, soft_wrap=True)
