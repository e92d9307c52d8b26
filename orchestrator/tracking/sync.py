"""`sync`: ship to W&B what is missing there, whenever and from whichever machine; what is there is not sent again."""

from __future__ import annotations

import time

from rich.console import Console
from rich.text import Text

from orchestrator.config import Tracking
from orchestrator.live import View
from orchestrator.tracking.ledger import take_lock, tracking_folder
from orchestrator.tracking.login import INSTALL, wandb_installed
from orchestrator.tracking.start import Shipping, start_shipper
from orchestrator.workspace import BORN, CONFIG, Workspace
from samplernn import commit
from samplernn.errors import BadInput, Damaged

LEAVE_S = 5.0
"""Seconds after Ctrl-C in which the run that is being sent may come to its end."""
LOOK_S = 0.2


def sync(workspace: Workspace, sweep: str | None, tracking: Tracking, console: Console) -> bool:
    """Ship a sweep, or all of them: trials, the sweep's table, its dataset, songs and albums. Whether all is there now.

    Without a project in `tracking` each goes to the one that it was first shipped to. Raises BadInput when there is no
    such sweep, or W&B is not installed or can't do what was asked.
    """
    if tracking.wandb == "off":
        raise BadInput("tracking.wandb is off, and sync has nothing else to do; leave it out")
    if not wandb_installed():
        raise BadInput(f"W&B is not installed; {INSTALL}")
    known = [name for name in workspace.names("sweeps") if workspace.sweep(name).exists(CONFIG)]
    if sweep is not None and sweep not in known:
        raise BadInput(
            f"there is no sweep {sweep!r} in {workspace.storage}; there are: {', '.join(known) or 'none yet'}"
        )
    if not known:
        console.print("nothing to ship: there is no sweep yet", highlight=False)
    whole = [_sync_one(workspace, name, tracking, console) for name in ([sweep] if sweep else known)]
    return all(whole)


def _sync_one(workspace: Workspace, sweep: str, tracking: Tracking, console: Console) -> bool:
    lock = take_lock(tracking_folder(workspace, sweep))
    if lock is None:
        console.print(f"{sweep}: another process on this machine is shipping it already", highlight=False)
        return True
    lock.close()
    if "project" not in tracking.model_fields_set:
        tracking = tracking.model_copy(update={"project": _project(workspace, sweep) or tracking.project})
    shipping = start_shipper(workspace, sweep, tracking, console.print, ["--sync"])
    if shipping is None:
        return False
    view = View(console, lambda: Text(_progress(sweep, shipping)), lambda: _progress(sweep, shipping))
    try:
        with view.showing():
            while shipping.process.poll() is None:
                time.sleep(LOOK_S)
                view.tick()
    except BaseException:
        view.say(f"{sweep}: {shipping.finish(LEAVE_S)}")
        raise
    told = shipping.told()
    whole = shipping.process.returncode == 0 and not told.get("behind", 1)
    new = f"{told.get('sent', 0)} new; " if told.get("sent") else "nothing new to ship; "
    view.say(f"{sweep}: {new if whole else ''}{shipping.ended()}")
    return whole


def _progress(sweep: str, shipping: Shipping) -> str:
    told = shipping.told()
    if "trials" not in told:
        return f"{sweep}: reading"
    return f"{sweep}: {max(0, told['trials'] - told['behind'])} of {told['trials']} trials are in W&B"


def _project(workspace: Workspace, sweep: str) -> str | None:
    """The project that a sweep was first shipped to."""
    try:
        return commit.read_record(workspace.sweep(sweep), BORN).get("project")
    except (FileNotFoundError, Damaged):
        return None
