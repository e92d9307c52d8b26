"""Which trials a run of the driver has to train, in their order; tpe's are asked for when there is room for them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.config import SweepConfig
from orchestrator.journal import Journal
from orchestrator.plan import PlannedTrial, planned, trials_of
from orchestrator.points import at_most
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.errors import BadInput

if TYPE_CHECKING:
    from orchestrator.suggest import Suggestions


def count_left(config: SweepConfig, journal: Journal) -> int:
    """How many trials are not at their end, those that are not suggested yet included; 0 is a finished sweep."""
    left = sum(not entry["final"] for entry in journal.ended().values())
    known = trials_of(config, journal.entries)
    left += sum(trial.name not in journal.ended() for trial in known)
    return left + (at_most(config) - _suggested(journal) if config.search == "tpe" else 0)


def next_trials(workspace: Workspace, config: SweepConfig, journal: Journal) -> Iterator[PlannedTrial]:
    """The trials that have not ended for good, each with its config written down; then tpe's new ones, one at a time.

    A suggestion is in the journal before it is acted on. One that can't be trained is there too, with its reason, and
    the next one follows. Raises Damaged, at once, for a journal whose suggestions are not of this sweep.
    """
    ended = journal.ended()
    unfinished = (
        trial
        for trial in trials_of(config, journal.entries)
        if not ended.get(trial.name, {}).get("final", False)
    )
    new = _suggestions(config, journal) if config.search == "tpe" else iter(())
    return (_recorded(workspace, config, trial) for trial in itertools.chain(unfinished, new))


def _suggestions(config: SweepConfig, journal: Journal) -> Iterator[PlannedTrial]:
    from orchestrator.suggest import Suggestions  # with Optuna, which no other sweep needs

    suggestions = Suggestions(config)
    suggestions.hear(journal.entries)
    return _new_trials(config, journal, suggestions, len(journal.entries))


def _new_trials(
    config: SweepConfig, journal: Journal, suggestions: Suggestions, heard: int
) -> Iterator[PlannedTrial]:
    while True:
        suggestions.hear(journal.entries[heard:])
        heard = len(journal.entries)
        if suggestions.number >= at_most(config):
            return
        number, point = suggestions.number, suggestions.next()
        if point is None:
            return
        try:
            trial = planned(config, number, point)
        except BadInput as error:
            journal.add("suggest", number=number, overrides=point, impossible=str(error))
            continue
        journal.add("suggest", trial.name, number=number, overrides=point)
        yield trial


def _suggested(journal: Journal) -> int:
    return sum(entry["kind"] == "suggest" for entry in journal.entries)


def _recorded(workspace: Workspace, config: SweepConfig, trial: PlannedTrial) -> PlannedTrial:
    """The trial, whose config is beside its output now."""
    body = {
        "name": trial.name,
        "experiment": trial.experiment.model_dump(mode="json"),
        "overrides": trial.overrides,
    }
    workspace.trial(config.name, trial.name).create(CONFIG, commit.record_bytes(body))
    return trial
