"""`sync`: ship to W&B what is missing there, whenever and from whichever machine; what is there is not sent again."""

from __future__ import annotations

import time

from rich.console import Console
from rich.text import Text

from orchestrator.config import Tracking
from orchestrator.live import View
from orchestrator.tracking.group import Group
from orchestrator.tracking.ledger import take_lock
from orchestrator.tracking.login import INSTALL, wandb_installed
from orchestrator.tracking.start import Shipping, start_shipper
from orchestrator.workspace import CONFIG, Workspace
from samplernn.chunks import CARD
from samplernn.errors import BadInput

LEAVE_S = 5.0
"""Seconds after Ctrl-C in which the run that is being sent may come to its end."""
LOOK_S = 0.2


def sync(workspace: Workspace, name: str | None, tracking: Tracking, console: Console) -> bool:
    """Ship what is called `name`, or everything; whether all is there now. A sweep goes with its trials, its table, its
    dataset, songs and albums, a dataset by itself.

    Without a project in `tracking` each goes to the one that it was first shipped to. Raises BadInput when there is
    nothing of that name, or W&B is not installed or can't do what was asked.
    """
    if tracking.wandb == "off":
        raise BadInput("tracking.wandb is off, and sync has nothing else to do; leave it out")
    if not wandb_installed():
        raise BadInput(f"W&B is not installed; {INSTALL}")
    there = [
        Group("dataset", one) for one in workspace.names("datasets") if workspace.dataset(one).exists(CARD)
    ]
    there += [Group("sweep", one) for one in workspace.names("sweeps") if workspace.sweep(one).exists(CONFIG)]
    asked = [group for group in there if name in (None, group.name)]
    if name is not None and not asked:
        known = ", ".join(dict.fromkeys(group.name for group in there))
        raise BadInput(
            f"there is no sweep or dataset {name!r} in {workspace.storage}; there are: {known or 'none yet'}"
        )
    if not asked:
        console.print("nothing to ship: there is no sweep or dataset yet", highlight=False)
    whole = [_sync_one(workspace, group, tracking, console) for group in asked]
    return all(whole)


def _sync_one(workspace: Workspace, group: Group, tracking: Tracking, console: Console) -> bool:
    what = f"{group.kind} {group.name}"
    lock = take_lock(group.folder(workspace))
    if lock is None:
        console.print(f"{what}: another process on this machine is shipping it already", highlight=False)
        return True
    lock.close()
    if "project" not in tracking.model_fields_set:
        project = group.first_project(workspace) or tracking.project
        tracking = tracking.model_copy(update={"project": project})
    shipping = start_shipper(workspace, group, tracking, console.print, ["--sync"])
    if shipping is None:
        return False
    view = View(console, lambda: Text(_progress(what, shipping)), lambda: _progress(what, shipping))
    try:
        with view.showing():
            while shipping.process.poll() is None:
                time.sleep(LOOK_S)
                view.tick()
    except BaseException:
        view.say(f"{what}: {shipping.finish(LEAVE_S)}")
        raise
    told = shipping.told()
    whole = shipping.process.returncode == 0 and not told.get("behind", 1)
    new = f"{told.get('sent', 0)} new; " if told.get("sent") else "nothing new to ship; "
    view.say(f"{what}: {new if whole else ''}{shipping.ended()}")
    return whole


def _progress(what: str, shipping: Shipping) -> str:
    told = shipping.told()
    if not told.get("trials"):
        return f"{what}: reading"
    return f"{what}: {max(0, told['trials'] - told['behind'])} of {told['trials']} trials are in W&B"
