"""What a group of runs has sent and what went wrong: the ledger, the waits after failures, the word to the driver."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.tracking.history import Shipped
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.login import base_url
from orchestrator.tracking.summary import Summary
from orchestrator.tracking.wandb_run import RunPlace, abandon_all, send_summary
from samplernn.errors import SampleRNNError

BACKOFF_S = (5.0, 300.0)

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


class Sender:
    """The one way from a shipper to its ledger."""

    def __init__(self, place: RunPlace, stopped: Callable[[], bool] = lambda: False) -> None:
        self.place, self.stopped = place, stopped
        where = base_url().rstrip("/") if place.mode == "online" else "offline"
        self.ledger = Ledger(place.folder, where, place.project)
        self.backoff = Backoff()
        self.url = ""
        self.sent = 0
        self._error = ""

    @property
    def staging(self) -> RunPlace:
        """The place where runs are written before the ledger names them."""
        return replace(self.place, folder=self.ledger.staging)

    def summaries(self, made: Iterable[Summary]) -> int:
        """Send those of the summaries that are not there as they are; returns how many could not be sent."""
        due = [one for one in made if self.ledger.read(one.key).state != one.digest]
        behind = len(due)
        for summary in due:
            if self.stopped():
                break
            try:
                folder, url = send_summary(self.staging, summary)
            except SampleRNNError as error:
                self.failed(summary.key, error)
                continue
            self.url = url or self.url
            self.shipped(summary.key, Shipped(state=summary.digest), folder)
            behind -= 1
        return behind

    def shipped(self, key: str, shipped: Shipped, run: Path) -> None:
        """One run is complete so far."""
        self.ledger.write(key, shipped, run, keep=self.place.mode == "offline")
        self.sent += 1

    def failed(self, key: str, error: SampleRNNError) -> None:
        """Leave W&B for a while: what the server did not confirm is offered again when it answers."""
        self.backoff.failed()
        self._error = str(error)
        abandon_all()
        log.warning("%s: %s; next try in %.0f s", key, error, self.backoff.wait_s)

    def tell(self, behind: int, trials: int = 0, runs: int | None = None) -> None:
        """Tell the driver how far everything is."""
        self.ledger.write_status(
            runs=self.ledger.count() if runs is None else runs, behind=behind, trials=trials, sent=self.sent,
            url=self.url, error=self._error,
        )  # fmt: skip

    def close(self) -> None:
        """Leave W&B."""
        abandon_all()
        self.ledger.close()
