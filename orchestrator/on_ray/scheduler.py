"""The scheduler of a sweep: Ray's own ASHA behind a journal that is committed before anything is acted on."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.tune import PlacementGroupFactory
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from cluster.connect import alive_nodes, node_answers
from orchestrator.config import Schedule
from orchestrator.failures import Failure, Preempted, SameFailure, again
from orchestrator.journal import Journal
from samplernn.errors import Damaged, Diverged, OutOfMemory, SampleRNNError, StorageError

Report = dict[str, Any]
DYING_S = 3.0
"""Seconds within which all processes of a node that is being lost are gone."""


COMMIT_S = 60.0
"""Seconds that trials have, after Ctrl-C, to commit a checkpoint; cluster/jobs.py waits a little longer for the job."""


class _Named:
    """What ASHA knows of a trial: its name, which is the same in every run of the driver."""

    def __init__(self, name: str) -> None:
        self.trial_id = name


class Decisions:
    """Which trial goes on: ASHA's state, rebuilt from the journal; every report is journalled with its decision."""

    def __init__(
        self, schedule: Schedule, max_steps: dict[str, int], journal: Journal, longest: int | None = None
    ) -> None:
        """`max_steps` by trial may grow while the sweep runs; `longest` is then the most that any trial will take."""
        self._journal, self._max_steps = journal, max_steps
        self._asha = None
        if schedule.type == "asha":
            self._asha = AsyncHyperBandScheduler(
                time_attr="step",
                metric="bits",
                mode="min",
                grace_period=schedule.grace_steps,
                reduction_factor=schedule.reduction_factor,
                max_t=longest or max(max_steps.values()),
                stop_last_trials=False,
            )
        self._known: dict[str, _Named] = {}
        self._replay()

    def report(self, trial: str, attempt: int, step: int, bits: float) -> str:
        """Decide on a checkpoint's validation bits; the decision is on storage when this returns."""
        decision = self._decide(trial, step, bits)
        self._journal.add("report", trial, attempt=attempt, step=step, bits=bits, decision=decision)
        return decision

    def at_end(self, trial: str, step: int) -> bool:
        """Whether a trial has taken all its steps."""
        return step >= self._max_steps[trial]

    def _decide(self, trial: str, step: int, bits: float) -> str:
        if self._asha is None or self.at_end(trial, step):
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
    """What Tune calls. FIFO in placing trials; results go to the journal and to Decisions, failures to failures.py.

    Tune itself is told to try every failed trial again; one that may not be is taken from it when it is queued.
    """

    def __init__(
        self,
        decisions: Decisions,
        journal: Journal,
        retries: int,
        seen: Callable[[str, Report], None],
        used_up: Callable[[], str | None] = lambda: None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._decisions, self._journal, self._retries, self._seen = decisions, journal, retries, seen
        self._used_up, self._interrupted = used_up, interrupted
        self._wait_until = math.inf
        self._told: set[str] = set()
        self._ended: set[str] = set()
        self._left: set[str] = set()
        """Trials that this run leaves where they are."""
        self._hung: dict[str, float] = {}
        self.fresh: PlacementGroupFactory | None = None
        """The same place as another request: Tune gives a trial that asks for it no worker that trained before."""
        self._node: dict[str, str] = {}
        self._nodes: set[str] = set()
        self._same = SameFailure()
        self.hopeless: str | None = None
        """The error that every trial so far has failed with, once that is certain."""
        self.broke: StorageError | None = None
        """What stopped the journal; Tune wraps it in a stack of its own."""

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Report) -> str:
        name, kind = trial_name(trial), result.get("kind")
        self._seen(name, result)
        if kind == "start":
            self._node[name] = result["node"]
            self._nodes = {node.id for node in alive_nodes()}
            self._add("start", name, attempt=result["attempt"], step=result["step"])
        if kind == "saved":
            with self._storage():
                decision = self._decisions.report(name, result["attempt"], result["step"], result["bits"])
            if decision == TrialScheduler.STOP:
                self._end(name, **_stopped(result["step"]))
                return decision
        if self._interrupted() and kind in ("start", "saved", "paused") and not self._at_end(name, result):
            self._left.add(name)
            return str(TrialScheduler.STOP)
        return self._within_budget(tune_controller, trial, result)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Called at each turn of Tune's loop."""
        if self._interrupted():
            self._wind_up(tune_controller)
        return super().choose_trial_to_run(tune_controller)

    def _wind_up(self, tune_controller: Any) -> None:
        """After Ctrl-C: nothing starts, and what runs commits a checkpoint and ends, unless that takes too long."""
        self._stop_waiting(tune_controller)
        running = [trial for trial in tune_controller.get_trials() if trial.status == Trial.RUNNING]
        for trial in running:
            self._ask_to_end(trial)
        self._wait_until = min(self._wait_until, time.monotonic() + COMMIT_S)
        if not running or time.monotonic() > self._wait_until:
            tune_controller.request_stop_experiment()

    def _stop_waiting(self, tune_controller: Any) -> None:
        for waiting in [trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING]:
            tune_controller.stop_trial(waiting)

    def _ask_to_end(self, trial: Trial) -> None:
        """Its next step is to commit a checkpoint, and is the last."""
        if trial_name(trial) not in self._told:
            self._told.add(trial_name(trial))
            trial.temporary_state.ray_actor.end_soon.remote()

    def _at_end(self, name: str, result: Report) -> bool:
        return "step" in result and self._decisions.at_end(name, result["step"])

    def _within_budget(self, tune_controller: Any, trial: Trial, result: Report) -> str:
        """Once the budget is used up: nothing new starts, and what runs ends with its next checkpoint, made at once."""
        reason = self._used_up()
        if reason is None:
            return str(TrialScheduler.CONTINUE)
        self._stop_waiting(tune_controller)
        name = trial_name(trial)
        if result["kind"] == "saved" and not self._at_end(name, result):
            self._end(name, "stopped", f"budget: {reason}", final=False)
            return str(TrialScheduler.STOP)
        self._ask_to_end(trial)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Report) -> None:
        if trial_name(trial) not in self._ended | self._left:
            self._end(trial_name(trial), "done", "", final=True)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Its worker failed: journal what comes of it."""
        name, failure = trial_name(trial), classify(_error_of(trial), self._nodes_of(trial))
        if name in self._hung:
            failure = Failure("killed", f"no sign of progress for {self._hung.pop(name):g} s")
        if again(self._journal.entries, name, failure, self._retries):
            self._add("failure", name, cause=failure.cause, reason=failure.reason)
            self._seen(name, {"kind": "failure", "reason": f"{failure}; it is tried again"})
            if failure.cause == "oom":
                trial.placement_group_factory = self.fresh or trial.placement_group_factory
            return
        self._end(name, "failed", str(failure), final=failure.final, failure=failure)
        if self.hopeless:
            tune_controller.request_stop_experiment()

    def _nodes_of(self, trial: Trial) -> set[str]:
        """The node that its worker was on; any of them where it had not said so yet."""
        node = self._node.pop(trial_name(trial), None)
        return self._nodes if node is None else {node}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Tune queues every failed trial again."""
        if trial_name(trial) in self._ended or self._used_up() or self._interrupted():
            tune_controller.stop_trial(trial)

    def hung(self, trial: Trial, seconds: float) -> None:
        """Its worker has said nothing for so long, and is being killed."""
        self._hung[trial_name(trial)] = seconds

    def _end(
        self, name: str, state: str, reason: str, *, final: bool, failure: Failure | None = None
    ) -> None:
        self._add("end", name, state=state, reason=reason, final=final)
        self._ended.add(name)
        self._seen(name, {"kind": "end", "state": state, "reason": reason})
        self.hopeless = self.hopeless or self._same.seen(failure)

    def _add(self, kind: str, name: str, **what: Any) -> None:
        with self._storage():
            self._journal.add(kind, name, **what)

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            self.broke = error
            raise

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


def end_stopped(journal: Journal) -> None:
    """End every trial that the schedule has stopped, where a kill came between its decision and its end."""
    last: dict[str, dict[str, Any]] = {}
    for entry in journal.entries:
        if "trial" in entry:
            last[entry["trial"]] = entry
    for trial, entry in last.items():
        if entry["kind"] == "report" and entry["decision"] == TrialScheduler.STOP:
            journal.add("end", trial, **_stopped(entry["step"]))


def _stopped(step: int) -> dict[str, Any]:
    return {"state": "stopped", "reason": f"by the schedule at step {step}", "final": True}


def _error_of(trial: Trial) -> Exception | None:
    """The exception that Tune has just written into this process's own scratch folder."""
    if trial.pickled_error_file is None:
        return None
    error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
    return error if isinstance(error, Exception) else None


def classify(error: Exception | None, nodes: set[str]) -> Failure:
    """What a worker's end means, from the exception that Ray hands over and the nodes that it may have been on."""
    if isinstance(error, RayActorError):
        told = " ".join(str(error).split())
        if error.preempted or "node has died" in told or _died(nodes, error):
            return Failure("lost", "its node is gone")
        if "low on memory" in told:
            return Failure("oom", "Ray's memory monitor killed the worker: the node ran low on memory")
        return Failure("killed", told[-300:])
    cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else error
    if isinstance(cause, Preempted):
        return Failure("lost", "its worker was asked to end")
    if isinstance(cause, OutOfMemory):
        return Failure("oom", str(cause))
    if isinstance(cause, Diverged):
        return Failure("diverged", str(cause))
    if isinstance(cause, SampleRNNError):
        return Failure("error", str(cause))
    last = str(error).strip().splitlines()[-1:] or ["the worker died"]
    return Failure("error", f"{type(cause).__name__}: {cause}" if cause else last[0])


def _died(nodes: set[str], error: RayActorError) -> bool:
    """Whether one of the nodes is gone, too. Where a connection broke, its processes may still be dying one by one."""
    until = time.monotonic() + (DYING_S if isinstance(error, ActorUnavailableError) else 0.0)
    while all(node_answers(node) for node in nodes):
        if time.monotonic() >= until:
            return False
        time.sleep(0.2)
    return True
