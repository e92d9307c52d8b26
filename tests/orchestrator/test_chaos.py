"""Workers, nodes and drivers are killed early, in mid-write and late, alone and together; nothing is lost.

`make test-all` runs two of these, chosen by CHAOS_SEED; `make chaos` runs all.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.orchestrator import chaos

pytestmark = pytest.mark.cluster
SEED = int(os.environ.get("CHAOS_SEED", "68"))
SCENARIOS = [
    f"{what}-{when}"
    for what in ("kill_worker", "remove_node", "kill_driver", "freeze_worker")
    for when in ("early", "in_mid_write", "late")
] + ["kill_driver-at_once", "kill_worker+kill_driver-in_mid_write", "remove_node+kill_driver-late"]
ALL = os.environ.get("CHAOS") == "all"
SAMPLE = SCENARIOS if ALL else random.Random(SEED).sample(SCENARIOS, 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return chaos.undisturbed(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def cluster():
    process = chaos.ClusterProcess()
    yield process
    process.close()


@pytest.mark.system
@pytest.mark.parametrize("scenario", SAMPLE)
def test_a_sweep_survives(scenario, tmp_path, whole, cluster, request):
    what, _, when = scenario.partition("-")
    print(f"CHAOS_SEED={SEED} reproduces {scenario}")
    # A lost node must not count against a trial's retries.
    run = chaos.Run(tmp_path, cluster, SEED, retries=0 if what == "remove_node" else 3)
    request.addfinalizer(run.close)
    run.start()
    if when == "at_once":
        run.jitter(5)
    else:
        getattr(run, when)()
    for each in what.split("+"):
        getattr(run, each)()
    run.finish()
    chaos.check(run, whole)
    assert run.failures() <= {"remove_node": {"lost"}, "kill_driver": set()}.get(what, {"lost", "killed"})
    if what in ("kill_worker", "freeze_worker"):
        assert run.failures() == {"killed"}
