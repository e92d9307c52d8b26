"""Why a trial fell over, and whether it is tried again. Knows no Ray, so that a simulated sweep decides the same.

lost       its node is gone, or was about to be      again, however often
killed     its worker died or hung                   again, `retries` times
oom        it did not fit into memory                once more, in a fresh process
diverged   it has come to nothing                    never again
error      the code, the config or the data          not by this run: the same command tries again, once it is mended
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Cause = Literal["lost", "killed", "oom", "diverged", "error"]
OOM_RETRIES = 1
SAME_FAILURES = 3
"""So many first trials that all end with the same error stop the sweep."""


class Preempted(Exception):
    """A worker was asked to end (a spot notice); its trial is committed and goes on elsewhere."""


@dataclass(frozen=True)
class Failure:
    """What happened to a trial's worker."""

    cause: Cause
    reason: str
    """One line for a person."""

    @property
    def final(self) -> bool:
        """Whether no later run of the sweep could mend it either."""
        return self.cause == "diverged"

    def __str__(self) -> str:
        return f"{self.cause}: {self.reason}"


def again(journal: Iterable[dict[str, Any]], trial: str, failure: Failure, retries: int) -> bool:
    """Whether the trial is tried again, from what the journal says of it so far.

    What happened before its last `end` doesn't count: a person has run the sweep again since.
    """
    if failure.cause == "lost":
        return True
    allowed = {"killed": retries, "oom": OOM_RETRIES}.get(failure.cause, 0)
    happened = 0
    for entry in journal:
        if entry.get("trial") == trial:
            if entry["kind"] == "end":
                happened = 0
            elif entry["kind"] == "failure" and entry["cause"] == failure.cause:
                happened += 1
    return happened < allowed


class SameFailure:
    """Notices that nothing works: the first trials to end have all failed with one and the same error."""

    def __init__(self) -> None:
        self._reasons: list[str] | None = []

    def seen(self, failure: Failure | None) -> str | None:
        """Take in how a trial ended (None: well); returns the error once the sweep is to be stopped."""
        if self._reasons is None:
            return None
        if failure is None or failure.cause != "error":
            self._reasons = None
            return None
        self._reasons.append(failure.reason)
        if len({_kind(reason) for reason in self._reasons}) > 1:
            self._reasons = None
            return None
        return failure.reason if len(self._reasons) == SAME_FAILURES else None


def _kind(reason: str) -> str:
    """The error's class where it is named, else the whole reason without its numbers."""
    head, colon, _ = reason.partition(":")
    return head if colon and head.isidentifier() else "".join(c for c in reason if not c.isdigit())
