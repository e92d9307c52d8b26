"""The shipper: a process apart from training that reads the workspace and ships what it finds there to W&B.

    python -m orchestrator.tracking.shipper --workspace URI --sweep NAME --mode online|offline --project P

It tails the sweep (sweep_shipper.py) and only reads it, so training neither waits for it nor dies of it; whatever fails
here is logged and tried again, later and later. It drains and ends on SIGTERM, when its driver (--driver PID) is gone,
and at once when it has none. With --sync it ships what is missing, however long that takes, and ends; with --songs
BATCH or --album NAME only that run of the sweep's group; with --dataset NAME instead of --sweep that dataset's.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import replace

from orchestrator.tracking.group import Group
from orchestrator.tracking.ledger import take_lock
from orchestrator.tracking.sender import Sender
from orchestrator.tracking.summary import Summary, album_summary, dataset_summary, songs_summary
from orchestrator.tracking.sweep_shipper import FLUSH_S, SweepShipper
from orchestrator.tracking.wandb_run import RunPlace
from orchestrator.trials import recorded_config
from orchestrator.workspace import Workspace
from samplernn.errors import SampleRNNError

POLL_S = {"online": 5.0, "offline": 20.0}
DRAIN_S = 45.0
REST = 20
"""A look at the sweep that took t seconds is followed by a rest of at least REST * t: at most 5 % of one core."""
TURN_S = 60.0
"""Songs, an album or a dataset wait so long for another shipper of their group; --sync, or its end, ships them then."""

log = logging.getLogger("shipper")


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
    """Run until the driver asks for the end, or is gone, or the one thing to ship is shipped."""
    arguments = _arguments()
    ending = Ending(arguments.driver)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    workspace = Workspace.open(arguments.workspace)
    group = Group("sweep", arguments.sweep) if arguments.sweep else Group("dataset", arguments.dataset)
    folder = group.folder(workspace)
    one = bool(arguments.dataset or arguments.songs or arguments.album)
    until = time.monotonic() + TURN_S
    while (lock := take_lock(folder)) is None:  # the shipper of a killed driver may still be draining
        if time.monotonic() > until if one else ending:
            log.warning("another shipper has %s", folder)
            sys.exit(3)
        time.sleep(0.5)
    with lock:
        log.info("ships %s to %s, %s; pid %d", group.name, arguments.project, arguments.mode, os.getpid())
        token = group.token(workspace, arguments.project)
        place = RunPlace(group, group.name, arguments.project, arguments.mode, folder, token)
        if one:
            _ship_one(workspace, Sender(place), arguments)
            return
        sender = Sender(place, stopped=lambda: arguments.sync and bool(ending))
        shipper = SweepShipper(workspace, arguments.sweep, sender, arguments.flush_s)
        if arguments.sync:
            shipper.look(draining=False)
            shipper.look(draining=True, unfinished=True)
            sender.close()
            return
        poll_s = arguments.poll_s or POLL_S[arguments.mode]
        while not ending:
            ending.rest(max(poll_s, REST * shipper.look(draining=False)))
        _drain(shipper, sender)


def _ship_one(workspace: Workspace, sender: Sender, arguments: argparse.Namespace) -> None:
    """Ship one run beside the trials', however long that takes, and end."""
    try:
        summary: Summary | None
        if arguments.dataset:
            summary = dataset_summary(workspace, arguments.dataset)
        else:
            config = recorded_config(workspace, arguments.sweep)
            sender.place = replace(sender.place, dataset=config.dataset)
            of = songs_summary if arguments.songs else album_summary
            summary = of(workspace, arguments.songs or arguments.album, arguments.sweep)
        made = [] if summary is None else [summary]
        behind, runs = sender.summaries(made), len(made)
    except (SampleRNNError, OSError) as error:
        log.warning("can't read what is to be shipped: %s", error)
        behind = runs = 1
    sender.tell(behind, runs=runs - behind)
    sender.close()


def _drain(shipper: SweepShipper, sender: Sender) -> None:
    """Ship everything that is settled within DRAIN_S; whatever is left then is the next shipper's."""
    watchdog = threading.Timer(DRAIN_S, _give_up)
    watchdog.daemon = True
    watchdog.start()
    shipper.look(draining=False)
    shipper.look(draining=True)
    sender.close()
    watchdog.cancel()
    log.info("ends")


def _give_up() -> None:
    log.warning("gave up after %.0f s; the next shipper of this sweep goes on", DRAIN_S)
    os._exit(3)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.tracking.shipper", description=__doc__)
    parser.add_argument("--workspace", required=True)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--sweep")
    group.add_argument("--dataset")
    parser.add_argument("--mode", required=True, choices=["online", "offline"])
    parser.add_argument("--project", required=True)
    parser.add_argument(
        "--driver", type=int, help="process id of the parent to work for; without it, ship and end"
    )
    parser.add_argument("--sync", action="store_true", help="ship all that is missing once, and end")
    parser.add_argument("--songs", metavar="BATCH", help="ship these songs of the sweep, and end")
    parser.add_argument("--album", metavar="NAME", help="ship this album of the sweep's songs, and end")
    parser.add_argument("--poll-s", type=float, help="seconds between two looks at the sweep")
    parser.add_argument(
        "--flush-s", type=float, default=FLUSH_S, help="offline: seconds between a trial's folders"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
