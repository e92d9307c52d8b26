"""A sweep as it goes to W&B: each trial's run as it grows, and when all have ended the runs beside them.

Online, a trial's run stays open while the trial goes on. Offline, what is new becomes a finished W&B run folder when
the trial ends, every FLUSH_S, and when the shipper ends; `wandb sync` joins the folders of one run.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from orchestrator.tracking.history import Shipped, last_step, unshipped
from orchestrator.tracking.sender import Backoff, Sender
from orchestrator.tracking.summary import summaries
from orchestrator.tracking.wandb_run import TrialRun, WandbFailed
from orchestrator.trials import ENDED, SweepView, TrialView
from orchestrator.workspace import Workspace
from samplernn.errors import SampleRNNError

FLUSH_S = 600.0

log = logging.getLogger("shipper")


class SweepShipper:
    """Everything that one sweep has sent and has still to send."""

    def __init__(self, workspace: Workspace, sweep: str, sender: Sender, flush_s: float = FLUSH_S) -> None:
        self._workspace, self._sweep, self._sender, self._flush_s = workspace, sweep, sender, flush_s
        self._seen: dict[str, tuple[int, str]] = {}
        self._open: dict[str, tuple[TrialRun, Shipped]] = {}
        self._flushed: dict[str, float] = {}

    def look(self, draining: bool, unfinished: bool = False) -> float:
        """Read the sweep once and ship what was settled at the look before. Returns the seconds that reading took.

        `draining` ships also what is not due yet, and when every trial has ended (or `unfinished` is asked for) the
        runs beside the trials': the sweep's own, its dataset, songs and albums.
        """
        started = time.monotonic()
        try:
            view = SweepView.open(self._workspace, self._sweep)
        except (SampleRNNError, OSError) as error:
            log.warning("can't read the sweep: %s", error)
            return time.monotonic() - started
        took = time.monotonic() - started
        sender = self._sender
        sender.place = replace(sender.place, dataset=view.config.dataset, varied=tuple(view.config.space))
        if draining:
            sender.backoff = Backoff()
        behind = len(view.trials)
        for trial in view.trials:
            if sender.stopped():
                break
            before, sent = self._seen.get(trial.name), sender.sent
            self._seen[trial.name] = (last_step(trial), trial.state)
            behind -= before is not None and self._ship(trial, before, draining)
            if sender.sent != sent:
                sender.tell(behind, len(view.trials))
        if draining and not behind and (unfinished or all(trial.state in ENDED for trial in view.trials)):
            try:
                behind += sender.summaries(summaries(self._workspace, view))
            except (SampleRNNError, OSError) as error:
                log.warning("can't read what is beside the sweep: %s", error)
                behind += 1
        sender.tell(behind, len(view.trials))
        return took

    def _ship(self, trial: TrialView, before: tuple[int, str], draining: bool) -> bool:
        """Ship one trial as far as it is due; False when something is due and could not be shipped."""
        ended = trial.state in ENDED and before[1] == trial.state
        below = None if ended else before[0]
        run, shipped = self._open.get(trial.name, (None, self._sender.ledger.read(trial.name)))
        finish = draining or ended or self._sender.place.mode == "offline"
        tell_end = ended and shipped.state != trial.state
        if not (unshipped(trial, shipped, below) or tell_end or (run is not None and finish)):
            return True
        if not (tell_end or draining or self._due(trial.name)):
            return True
        if time.monotonic() < self._sender.backoff.until:
            return False
        try:
            self._send(trial, below, finish)
        except WandbFailed as error:
            self._open.clear()
            self._sender.failed(trial.name, error)
            return False
        self._sender.backoff = Backoff()
        return True

    def _due(self, trial: str) -> bool:
        """Online at once; offline when FLUSH_S have passed since the trial's last run folder or first look."""
        now = time.monotonic()
        online = self._sender.place.mode == "online"
        return online or now - self._flushed.setdefault(trial, now) >= self._flush_s

    def _send(self, trial: TrialView, below: int | None, finish: bool) -> None:
        """Send a trial's rows; with `finish` close its run and, once W&B has everything, note that in the ledger."""
        run, shipped = self._open.get(trial.name, (None, self._sender.ledger.read(trial.name)))
        if run is None:
            run = TrialRun(self._sender.staging, trial)
            self._sender.url = run.project_url or self._sender.url
            run.upload_again(clip for clip in trial.clips if shipped.step < clip.step <= run.shipped_step)
            shipped = shipped.through(run.shipped_step, trial.clips)
        for row in unshipped(trial, shipped, below):
            run.log(row)
            shipped = shipped.after(row)
        self._open[trial.name] = (run, shipped)
        if not finish:
            return
        state = trial.state if below is None else ""
        run.close(trial, ended=below is None)
        del self._open[trial.name]
        self._sender.shipped(trial.name, replace(shipped, state=state), run.folder)
        self._flushed[trial.name] = time.monotonic()
        log.info("%s: shipped to step %d %s", trial.name, shipped.step, state)
