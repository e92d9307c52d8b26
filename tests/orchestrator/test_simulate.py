"""The simulator: the sweep's own scheduler on a virtual clock, with failures that lose nothing and reverse nothing."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config import Schedule
from orchestrator.journal import Journal
from orchestrator.occupancy import Span, idleness
from orchestrator.on_ray.scheduler import Decisions
from orchestrator.simulate import Cluster, Course, Faults, Outcome, power_law, simulate

ASHA = Schedule(type="asha", grace_steps=100, reduction_factor=3)
NONE = Schedule(type="none")


def courses(count: int, seed: int = 0) -> list[Course]:
    """Trials of 900 steps, a tenth of a second each."""
    return [
        Course(f"{number:04d}", 900, 100, 0.1, 2.0, power_law(seed * 1000 + number, 900))
        for number in range(count)
    ]


def decided(outcome: Outcome) -> list[tuple[str, int, str]]:
    return [(e["trial"], e["step"], e["decision"]) for e in outcome.entries if e["kind"] == "report"]


FAULTS = st.builds(
    Faults,
    workers_per_hour=st.sampled_from([0.0, 20.0, 200.0]),
    nodes_per_hour=st.sampled_from([0.0, 20.0]),
    node_back_s=st.sampled_from([1.0, 60.0]),
    drivers_per_hour=st.sampled_from([0.0, 20.0]),
    driver_back_s=st.sampled_from([1.0, 60.0]),
    retries=st.just(10_000),
    seed=st.integers(0, 10_000),
)


@settings(max_examples=60, deadline=None)
@given(faults=FAULTS, nodes=st.integers(1, 4), slots=st.integers(1, 3), seed=st.integers(0, 50))
def test_faults_lose_no_trial_and_reverse_no_decision(faults, nodes, slots, seed):
    outcome = simulate(courses(12, seed), Cluster(nodes, slots, 3.0), ASHA, faults)
    assert set(outcome.states.values()) <= {"done", "stopped"}
    ends, stopped = defaultdict(int), set()
    for entry in outcome.entries:
        assert entry["trial"] not in stopped or entry["kind"] == "end", "a stopped trial went on"
        ends[entry["trial"]] += entry["kind"] == "end"
        if entry.get("decision") == "STOP":
            stopped.add(entry["trial"])
    assert set(ends.values()) == {1}
    assert {name for name, state in outcome.states.items() if state == "stopped"} == stopped
    steps = defaultdict(list)
    for name, step, _ in decided(outcome):
        steps[name].append(step)
    for reached in steps.values():
        assert reached == list(range(100, reached[-1] + 1, 100)), "a checkpoint was made twice or left out"


@settings(max_examples=40, deadline=None)
@given(faults=FAULTS, seed=st.integers(0, 50))
def test_each_decision_follows_from_its_prefix_of_the_journal(faults, seed):
    outcome = simulate(courses(9, seed), Cluster(2, 2, 3.0), ASHA, faults)
    steps = {course.name: course.max_steps for course in courses(9)}
    reports = [entry for entry in outcome.entries if entry["kind"] == "report"]
    for cut in (0, len(reports) // 2, len(reports) - 1):
        journal = Journal(None)
        journal.entries = reports[:cut]
        again = Decisions(ASHA, steps, journal)
        entry = reports[cut]
        assert again.report(entry["trial"], 1, entry["step"], entry["bits"]) == entry["decision"]


@settings(max_examples=40, deadline=None)
@given(faults=FAULTS, seed=st.integers(0, 50))
def test_one_trial_at_a_time_with_faults_decides_as_an_undisturbed_run(faults, seed):
    alone = Cluster(1, 1, 3.0)
    undisturbed = simulate(courses(9, seed), alone, ASHA)
    assert decided(simulate(courses(9, seed), alone, ASHA, faults)) == decided(undisturbed)


@settings(max_examples=40, deadline=None)
@given(drivers=st.sampled_from([10.0, 100.0, 1000.0]), seed=st.integers(0, 1000))
def test_killed_drivers_on_a_clock_that_waits_change_nothing(drivers, seed):
    undisturbed = simulate(courses(12, seed), Cluster(2, 3, 3.0), ASHA)
    faults = Faults(drivers_per_hour=drivers, clock_waits=True, seed=seed)
    disturbed = simulate(courses(12, seed), Cluster(2, 3, 3.0), ASHA, faults)
    assert disturbed.entries == undisturbed.entries
    assert disturbed.makespan_s == undisturbed.makespan_s


@settings(max_examples=30, deadline=None)
@given(faults=FAULTS)
def test_without_a_schedule_every_trial_is_trained_whatever_fails(faults):
    outcome = simulate(courses(8), Cluster(2, 2, 3.0), NONE, faults)
    assert set(outcome.steps.values()) == {900}
    at_least = simulate(courses(8), Cluster(2, 2, 3.0), NONE).makespan_s
    assert outcome.makespan_s >= at_least - 1e-9


def test_makespan_of_equal_trials_is_what_one_counts_by_hand():
    outcome = simulate(courses(5), Cluster(1, 2, 3.0, 10.0), NONE)
    # Three turns on two slots: 3 s of start, 900 steps of 0.1 s and nine checkpoints of 2 s each.
    assert outcome.makespan_s == pytest.approx(10 + 3 * (3 + 90 + 18))
    assert outcome.slot_s == pytest.approx(5 * 108)


def test_worker_that_dies_too_often_fails_its_trial_and_no_other_waits_for_it():
    outcome = simulate(
        courses(4), Cluster(1, 2, 3.0), NONE, Faults(workers_per_hour=600.0, retries=1, seed=3)
    )
    assert "failed" in outcome.states.values()
    assert "waiting" not in outcome.states.values()
    assert "running" not in outcome.states.values()


def test_lost_node_costs_no_retry_and_at_most_a_checkpoint_interval_each():
    faults = Faults(nodes_per_hour=60.0, node_back_s=30.0, retries=0, seed=1)
    outcome = simulate(courses(6), Cluster(2, 1, 3.0), NONE, faults)
    assert set(outcome.states.values()) == {"done"}
    lost = sum(entry["kind"] == "start" for entry in outcome.entries) - 6
    assert lost
    assert outcome.redone_s <= lost * 12.0


def test_idleness_counts_gaps_of_a_slot_and_the_wait_for_the_last():
    spans = [Span("a", "1", 0, 10), Span("a", "2", 12, 20), Span("b", "3", 0, 8), Span("b", "4", 9, 18)]
    idle = idleness(spans)
    assert idle.between == [1, 2]
    assert idle.share == pytest.approx(3 / 38)
    assert idle.tail == pytest.approx(2 / 40)
    shared = [Span("a", "1", 0, 10), Span("a", "2", 5, 20), Span("a", "3", 21, 30)]
    assert idleness(shared).between == [1]
