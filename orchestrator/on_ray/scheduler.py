"""The scheduler of a sweep: Ray's own ASHA behind a journal that is committed before anything is acted on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from orchestrator.config import Schedule
from orchestrator.journal import Journal
from samplernn.errors import Damaged

Report = dict[str, Any]


class _Named:
    """What ASHA knows of a trial: its name, which is the same in every run of the driver."""

    def __init__(self, name: str) -> None:
        self.trial_id = name


class Decisions:
    """Which trial goes on: ASHA's state, rebuilt from the journal; every report is journalled with its decision."""

    def __init__(self, schedule: Schedule, max_steps: dict[str, int], journal: Journal) -> None:
        self._journal, self._max_steps = journal, max_steps
        self._asha = None
        if schedule.type == "asha":
            self._asha = AsyncHyperBandScheduler(
                time_attr="step",
                metric="bits",
                mode="min",
                grace_period=schedule.grace_steps,
                reduction_factor=schedule.reduction_factor,
                max_t=max(max_steps.values()),
                stop_last_trials=False,
            )
        self._known: dict[str, _Named] = {}
        self._replay()

    def report(self, trial: str, attempt: int, step: int, bits: float) -> str:
        """Decide on a checkpoint's validation bits; the decision is on storage when this returns."""
        decision = self._decide(trial, step, bits)
        self._journal.add("report", trial, attempt=attempt, step=step, bits=bits, decision=decision)
        return decision

    def _decide(self, trial: str, step: int, bits: float) -> str:
        if self._asha is None or step >= self._max_steps[trial]:
            return str(TrialScheduler.CONTINUE)
        if trial not in self._known:
            self._known[trial] = _Named(trial)
            self._asha.on_trial_add(None, self._known[trial])
        # ASHA's comparisons are all false for NaN: such a trial would never be stopped.
        finite = bits if math.isfinite(bits) else 1e9
        return str(self._asha.on_trial_result(None, self._known[trial], {"step": step, "bits": finite}))

    def _replay(self) -> None:
        for entry in self._journal.entries:
            if entry["kind"] != "report" or entry["trial"] not in self._max_steps:
                continue
            decision = self._decide(entry["trial"], entry["step"], entry["bits"])
            if decision != entry["decision"]:
                raise Damaged(
                    f"journal entry {entry['seq']} says {entry['decision']} for {entry['trial']} at step "
                    f"{entry['step']} and replaying it says {decision}; the sweep's journal was altered"
                )


class JournalScheduler(FIFOScheduler):  # type: ignore[misc]
    """What Tune calls. FIFO in placing trials; results go to the journal and to Decisions."""

    def __init__(self, decisions: Decisions, journal: Journal, seen: Callable[[str, Report], None]) -> None:
        super().__init__()
        self._decisions, self._journal, self._seen = decisions, journal, seen
        self._ended: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Report) -> str:
        name, kind = trial_name(trial), result.get("kind")
        if result.get("done") or name in self._ended:  # Tune repeats the last report when a trial returns
            return str(TrialScheduler.CONTINUE)
        self._seen(name, result)
        if kind == "start":
            self._journal.add("start", name, attempt=result["attempt"], step=result["step"])
        if kind == "failed":
            # A model that diverged would do so again; what was wrong with the storage or the machine may be mended.
            self._end(name, "failed", result["reason"], final=result["reason"].startswith("diverged"))
        if kind == "saved":
            decision = self._decisions.report(name, result["attempt"], result["step"], result["bits"])
            if decision == TrialScheduler.STOP:
                self._end(name, "stopped", f"by the schedule at step {result['step']}", final=True)
            return decision
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Report) -> None:
        if trial_name(trial) not in self._ended:
            self._end(trial_name(trial), "done", "", final=True)

    def gave_up(self, trial: Trial, reason: str) -> None:
        """A trial failed more often than its retries: the same command may try it again later."""
        if trial_name(trial) not in self._ended:
            self._end(trial_name(trial), "failed", reason, final=False)

    def _end(self, name: str, state: str, reason: str, *, final: bool) -> None:
        self._journal.add("end", name, state=state, reason=reason, final=final)
        self._ended.add(name)
        self._seen(name, {"kind": "end", "state": state, "reason": reason})

    # Tune pickles its scheduler for a restore that is never used here: the journal is the state.
    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


def trial_name(trial: Trial) -> str:
    """The sweep's own name of a Tune trial."""
    return str(trial.config["job"]["trial"])
