"""Which slot worked when, from the records of a sweep: the starts and ends in its journal, the places of its attempts.

A slot is one GPU of one node, or the node's n-th trial at a time where trials take no GPU. Times are the driver's
monotonic seconds, so a sweep that was interrupted has one occupancy for each run of its driver.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.journal import Entry, read_journal
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.errors import Damaged


@dataclass(frozen=True)
class Span:
    """One attempt of a trial at work on a slot."""

    slot: str
    trial: str
    start: float
    """Seconds when the worker was ready to train: its model was there and its dataset open."""
    end: float
    """Seconds when the driver heard that it had ended, or began elsewhere."""


@dataclass(frozen=True)
class Idleness:
    """What slots did not do."""

    between: list[float]
    """Seconds from each span's end to the next span's start on its slot, shortest first."""
    share: float
    """Share of the time between a slot's first start and its last end in which it was idle."""
    tail: float
    """Share of all slots' time until the last one ended in which slots waited for the others' last trials."""

    @property
    def median(self) -> float:
        """Of the seconds between two trials; 0 where no slot had two."""
        return self.between[len(self.between) // 2] if self.between else 0.0


def idleness(spans: Sequence[Span]) -> Idleness:
    """How long slots were idle between trials. Trials that share a slot keep it busy while any of them runs."""
    slots: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.start):
        busy = slots[span.slot]
        if busy and span.start <= busy[-1][1]:
            busy[-1] = (busy[-1][0], max(busy[-1][1], span.end))
        else:
            busy.append((span.start, span.end))
    gaps = sorted(after[0] - one[1] for busy in slots.values() for one, after in itertools.pairwise(busy))
    used = sum(busy[-1][1] - busy[0][0] for busy in slots.values())
    last = max((busy[-1][1] for busy in slots.values()), default=0.0)
    first = min((busy[0][0] for busy in slots.values()), default=0.0)
    whole = (last - first) * len(slots)
    waited = sum(last - busy[-1][1] for busy in slots.values())
    return Idleness(gaps, sum(gaps) / used if used else 0.0, waited / whole if whole else 0.0)


def recorded_spans(workspace: Workspace, sweep: str, run: int | None = None) -> list[Span]:
    """The spans of a sweep's journal, those of one run of its driver or of the last."""
    entries = read_journal(workspace.sweep(sweep))
    run = run or max((entry.get("run", 0) for entry in entries), default=0)
    starts: dict[str, Entry] = {}
    spans = []
    for entry in (entry for entry in entries if entry.get("run") == run and "trial" in entry):
        trial = entry["trial"]
        if entry["kind"] in ("start", "failure", "end") and trial in starts:
            began = starts.pop(trial)
            slot = _slot(workspace, sweep, trial, began["attempt"])
            spans.append(Span(slot, trial, began["at"], entry["at"]))
        if entry["kind"] == "start":
            starts[trial] = entry
    return _apart(spans)


def _slot(workspace: Workspace, sweep: str, trial: str, attempt: int) -> str:
    try:
        about = commit.read_record(workspace.trial(sweep, trial).at("attempts"), f"{attempt:04d}.json")
    except (FileNotFoundError, Damaged):
        return "unknown"
    gpus = "+".join(about.get("gpus", []))
    return f"{about.get('node', '')[:8]} {f'gpu {gpus}' if gpus else 'cpu'}"


def _apart(spans: list[Span]) -> list[Span]:
    """Trials without a GPU share a node: each goes to the first of its slots that is free."""
    free: dict[str, list[float]] = defaultdict(list)
    placed = []
    for span in sorted(spans, key=lambda span: span.start):
        if not span.slot.endswith("cpu"):
            placed.append(span)
            continue
        ends = free[span.slot]
        # The one that has been free the longest would hide gaps; the one freed last is what Ray gave away.
        ready = [at for at, end in enumerate(ends) if end <= span.start]
        at = max(ready, key=lambda at: ends[at]) if ready else len(ends)
        ends[at:] = [span.end, *ends[at + 1 :]]
        placed.append(Span(f"{span.slot} {at}", span.trial, span.start, span.end))
    return placed
