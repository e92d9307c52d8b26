"""The shipper: a process apart from training that tails a sweep on storage and ships it to W&B.

    python -m orchestrator.tracking.shipper --workspace URI --sweep NAME --mode online|offline --project P

Beside the trials' runs it writes those of summary.py: the sweep's own when all trials have ended, and with --sync all.

It only reads the sweep, so training neither waits for it nor dies of it; whatever fails here is logged and tried
again, later and later. It drains and ends on SIGTERM, when its driver (--driver PID) is gone, and at once when it has
none; with --sync it ships what is missing, however long that takes, and ends. Online, a trial's run stays open while
the trial goes on. Offline, what is new becomes a finished W&B run folder when the trial ends, every FLUSH_S, and when
the shipper ends; `wandb sync` joins the folders of one run.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.tracking.history import Shipped, last_step, unshipped
from orchestrator.tracking.ledger import Ledger, take_lock, tracking_folder
from orchestrator.tracking.summary import summaries, sweep_summary
from orchestrator.tracking.wandb_run import RunPlace, TrialRun, WandbFailed, abandon_all, send_summary
from orchestrator.trials import ENDED, SweepView, TrialView
from orchestrator.workspace import BORN, Workspace
from samplernn import commit
from samplernn.errors import SampleRNNError

POLL_S = {"online": 5.0, "offline": 20.0}
FLUSH_S = 600.0
BACKOFF_S = (5.0, 300.0)
DRAIN_S = 45.0
REST = 20
"""A look at the sweep that took t seconds is followed by a rest of at least REST * t: at most 5 % of one core."""

log = logging.getLogger("shipper")


@dataclass
class Backoff:
    """When to try again after failures: later and later, until something works."""

    wait_s: float = 0.0
    until: float = 0.0

    def failed(self) -> None:
        """One more failure."""
        self.wait_s = min(max(BACKOFF_S[0], 2 * self.wait_s), BACKOFF_S[1])
        self.until = time.monotonic() + self.wait_s


class Shipper:
    """Everything that one sweep has sent and has still to send."""

    def __init__(
        self,
        workspace: Workspace,
        sweep: str,
        place: RunPlace,
        flush_s: float = FLUSH_S,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._workspace, self._sweep, self._place, self._flush_s = workspace, sweep, place, flush_s
        self._stopped = stopped
        self._ledger = Ledger(place.folder, place.mode, place.project)
        self._seen: dict[str, tuple[int, str]] = {}
        self._open: dict[str, tuple[TrialRun, Shipped]] = {}
        self._flushed: dict[str, float] = {}
        self._backoff = Backoff()
        self._url, self._error = "", ""
        self._sent = 0

    def look(self, draining: bool, beside: bool = False) -> float:
        """Read the sweep once and ship what was settled at the look before. Returns the seconds that reading took.

        `draining` ships also what is not due yet, and the sweep's own run when every trial has ended; `beside` its
        dataset, songs and albums as well.
        """
        started = time.monotonic()
        try:
            view = SweepView.open(self._workspace, self._sweep)
        except (SampleRNNError, OSError) as error:
            log.warning("can't read the sweep: %s", error)
            return time.monotonic() - started
        took = time.monotonic() - started
        self._place = replace(self._place, dataset=view.config.dataset, varied=tuple(view.config.space))
        if draining:
            self._backoff = Backoff()
        behind = len(view.trials)
        for trial in view.trials:
            if self._stopped():
                break
            before, sent = self._seen.get(trial.name), self._sent
            self._seen[trial.name] = (last_step(trial), trial.state)
            behind -= before is not None and self._ship(trial, before, draining)
            if self._sent != sent:
                self._tell(behind, len(view.trials))
        if draining and not behind and (beside or all(trial.state in ENDED for trial in view.trials)):
            behind += self._ship_summaries(view, beside)
        self._tell(behind, len(view.trials))
        return took

    def close(self) -> None:
        """Leave W&B."""
        abandon_all()
        self._ledger.close()

    def _tell(self, behind: int, trials: int) -> None:
        self._ledger.write_status(
            runs=self._ledger.count(), behind=behind, trials=trials, sent=self._sent,
            url=self._url, error=self._error,
        )  # fmt: skip

    def _ship_summaries(self, view: SweepView, beside: bool) -> int:
        """Ship the sweep's own run, and those beside it; returns how many are due and could not be shipped."""
        try:
            whole = summaries(self._workspace, view) if beside else [sweep_summary(self._workspace, view)]
            due = [one for one in whole if self._ledger.read(one.key).state != one.digest]
        except (SampleRNNError, OSError) as error:
            log.warning("can't read what is beside the sweep: %s", error)
            return 1
        behind = len(due)
        for summary in due:
            if self._stopped():
                break
            try:
                folder, url = send_summary(replace(self._place, folder=self._ledger.staging), summary)
            except SampleRNNError as error:
                self._fail(summary.key, error)
                continue
            self._url = url or self._url
            self._shipped(summary.key, Shipped(state=summary.digest), folder)
            behind -= 1
        return behind

    def _shipped(self, key: str, shipped: Shipped, run: Path) -> None:
        self._ledger.write(key, shipped, run, keep=self._place.mode == "offline")
        self._sent += 1

    def _ship(self, trial: TrialView, before: tuple[int, str], draining: bool) -> bool:
        """Ship one trial as far as it is due; False when something is due and could not be shipped."""
        ended = trial.state in ENDED and before[1] == trial.state
        below = None if ended else before[0]
        run, shipped = self._open.get(trial.name, (None, self._ledger.read(trial.name)))
        finish = draining or ended or self._place.mode == "offline"
        tell_end = ended and shipped.state != trial.state
        if not (unshipped(trial, shipped, below) or tell_end or (run is not None and finish)):
            return True
        if not (tell_end or draining or self._due(trial.name)):
            return True
        if time.monotonic() < self._backoff.until:
            return False
        try:
            self._send(trial, below, finish)
        except WandbFailed as error:
            self._fail(trial.name, error)
            return False
        self._backoff = Backoff()
        return True

    def _due(self, trial: str) -> bool:
        """Online at once; offline when FLUSH_S have passed since the trial's last run folder or first look."""
        now = time.monotonic()
        return self._place.mode == "online" or now - self._flushed.setdefault(trial, now) >= self._flush_s

    def _send(self, trial: TrialView, below: int | None, finish: bool) -> None:
        """Send a trial's rows; with `finish` close its run and, once W&B has everything, note that in the ledger."""
        run, shipped = self._open.get(trial.name, (None, self._ledger.read(trial.name)))
        if run is None:
            run = TrialRun(replace(self._place, folder=self._ledger.staging), trial)
            self._url = run.project_url or self._url
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
        self._shipped(trial.name, replace(shipped, state=state), run.folder)
        self._flushed[trial.name] = time.monotonic()
        log.info("%s: shipped to step %d %s", trial.name, shipped.step, state)

    def _fail(self, trial: str, error: SampleRNNError) -> None:
        """Forget the open runs: what the server did not confirm is offered again when it answers."""
        self._backoff.failed()
        self._error = str(error)
        self._open.clear()
        abandon_all()
        log.warning("%s: %s; next try in %.0f s", trial, error, self._backoff.wait_s)


class Ending:
    """Whether it is time to end: asked by a signal, or the driver is gone."""

    def __init__(self, driver: int | None) -> None:
        self._driver, self._asked = driver, False
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._ask)
        signal.pthread_sigmask(
            signal.SIG_UNBLOCK, [signal.SIGTERM]
        )  # start_shipper keeps an early one for us

    def _ask(self, *_: object) -> None:
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked or self._driver is None or os.getppid() != self._driver

    def rest(self, seconds: float) -> None:
        """Sleep, but not past the end."""
        until = time.monotonic() + seconds
        while not self and (left := until - time.monotonic()) > 0:
            time.sleep(min(0.5, left))


def main() -> None:
    """Run until the driver asks for the end, or is gone."""
    arguments = _arguments()
    ending = Ending(arguments.driver)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    workspace = Workspace.open(arguments.workspace)
    folder = tracking_folder(workspace, arguments.sweep)
    while (lock := take_lock(folder)) is None:  # the shipper of a killed driver may still be draining
        if ending:
            log.warning("another shipper has %s", folder)
            return
        ending.rest(1.0)
    with lock:
        log.info(
            "ships %s to %s, %s; pid %d", arguments.sweep, arguments.project, arguments.mode, os.getpid()
        )
        token = _token(workspace, arguments.sweep, arguments.project)
        place = RunPlace(arguments.sweep, "", arguments.project, arguments.mode, folder, token)
        if arguments.sync:
            _sync(Shipper(workspace, arguments.sweep, place, stopped=lambda: bool(ending)))
            return
        shipper = Shipper(workspace, arguments.sweep, place, arguments.flush_s)
        poll_s = arguments.poll_s or POLL_S[arguments.mode]
        while not ending:
            ending.rest(max(poll_s, REST * shipper.look(draining=False)))
        _drain(shipper)


def _token(workspace: Workspace, sweep: str, project: str) -> str:
    """The sweep's own random token, made when it is shipped for the first time; the project is kept with it."""
    folder = workspace.sweep(sweep)
    folder.create(BORN, commit.record_bytes({"token": secrets.token_hex(4), "project": project}))
    return str(commit.read_record(folder, BORN)["token"])


def _sync(shipper: Shipper) -> None:
    """Ship all that is missing, however long it takes; between two runs a signal ends it."""
    shipper.look(draining=False)
    shipper.look(draining=True, beside=True)
    shipper.close()


def _drain(shipper: Shipper) -> None:
    """Ship everything that is settled within DRAIN_S; whatever is left then is the next shipper's."""
    watchdog = threading.Timer(DRAIN_S, _give_up)
    watchdog.daemon = True
    watchdog.start()
    shipper.look(draining=False)
    shipper.look(draining=True)
    shipper.close()
    watchdog.cancel()
    log.info("ends")


def _give_up() -> None:
    log.warning("gave up after %.0f s; the next shipper of this sweep goes on", DRAIN_S)
    os._exit(3)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.tracking.shipper", description=__doc__)
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--sweep", required=True)
    parser.add_argument("--mode", required=True, choices=["online", "offline"])
    parser.add_argument("--project", required=True)
    parser.add_argument(
        "--driver", type=int, help="process id of the parent to work for; without it, ship and end"
    )
    parser.add_argument("--sync", action="store_true", help="ship all that is missing once, and end")
    parser.add_argument("--poll-s", type=float, help="seconds between two looks at the sweep")
    parser.add_argument(
        "--flush-s", type=float, default=FLUSH_S, help="offline: seconds between a trial's folders"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
