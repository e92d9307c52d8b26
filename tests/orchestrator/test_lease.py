"""One driver at a time: who is refused, who takes over, on a disk and in a bucket."""

from __future__ import annotations

import os
import threading
import time

import pytest

from orchestrator import lease
from orchestrator.lease import BEAT, CLAIM, LEASE, hold, is_held
from samplernn import commit
from samplernn.errors import BadInput, StorageError
from samplernn.storage import Storage
from tests import gcs_server, s3_server

MS = 0.001


@pytest.fixture(params=["disk", "s3", "gs"])
def folder(request, tmp_path) -> Storage:
    if request.param == "disk":
        return Storage.open(tmp_path / "sweep")
    server = {"s3": s3_server, "gs": gcs_server}[request.param]
    endpoint = request.getfixturevalue({"s3": "s3_endpoint", "gs": "gcs_endpoint"}[request.param])
    server.bucket(endpoint, "leases")
    return Storage.open(server.uri(endpoint, f"leases/{time.monotonic_ns()}"))


@pytest.fixture
def quick(monkeypatch):
    """Everything that takes seconds takes tenths."""
    monkeypatch.setattr(lease, "BEAT_S", 50 * MS)
    monkeypatch.setattr(lease, "GONE_S", 500 * MS)
    monkeypatch.setattr(lease, "LOOK_S", 20 * MS)


def name_of(folder: Storage) -> str:
    return LEASE if folder.local else f"{CLAIM}theirs.json"


def held_elsewhere(folder: Storage, **beat) -> None:
    """A lease of another machine."""
    body = {"id": "theirs", "host": "another", "pid": os.getpid(), "started": 1.0}
    commit.write_record(folder, name_of(folder), body)
    if beat:
        commit.write_record(folder, BEAT, {"id": "theirs", **beat})


def test_a_second_is_refused_and_nothing_is_left_at_the_end(folder):
    with hold(folder):
        assert is_held(folder)
        with pytest.raises(BadInput, match=f"in use by process {os.getpid()}"), hold(folder):
            pass
        assert len([name for name in folder.names() if name != BEAT]) == 1
    assert not is_held(folder)
    assert not folder.names()


def test_of_many_that_start_together_at_most_one_holds_it(folder):
    inside, most, failed, start = [], [], [], threading.Barrier(6)

    def driver() -> None:
        start.wait()
        try:
            with hold(folder):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.2)
                inside.pop()
        except (BadInput, StorageError):  # moto may fail to send what is deleted meanwhile
            failed.append(1)

    threads = [threading.Thread(target=driver) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) + len(failed) == 6
    assert set(most) <= {1}
    with hold(folder):
        pass


def test_a_dead_process_of_this_machine_is_taken_over_at_once(folder):
    with hold(folder):
        name = next(name for name in folder.names() if name != BEAT)
        body = commit.read_record(folder, name)
    commit.write_record(folder, name, {**body, "started": 1.0})
    assert not is_held(folder)
    began = time.monotonic()
    with hold(folder):
        assert is_held(folder)
    assert time.monotonic() - began < 5


def test_a_silent_driver_of_another_machine_is_taken_over_whatever_its_clock_said(folder, quick):
    for beat in ({}, {"beat": 4, "time": time.time() - 1000}, {"beat": 4, "time": time.time() + 86_400}):
        held_elsewhere(folder, **beat)
        assert not is_held(folder)
        with hold(folder):
            assert is_held(folder)


def test_a_driver_of_another_machine_whose_clock_is_off_but_that_beats_is_refused(folder, quick):
    held_elsewhere(folder, beat=0, time=time.time() - 86_400)
    ended = threading.Event()

    def beats() -> None:
        number = 1
        while not ended.wait(50 * MS):
            commit.write_record(folder, BEAT, {"id": "theirs", "beat": number, "time": time.time() - 86_400})
            number += 1

    thread = threading.Thread(target=beats)
    thread.start()
    try:
        with pytest.raises(BadInput, match="on another"), hold(folder):
            pass
    finally:
        ended.set()
        thread.join()


def test_a_driver_whose_lease_was_taken_ends_like_ctrl_c_and_leaves_the_other_alone(folder, quick):
    def work() -> None:
        with hold(folder):
            name = next(name for name in folder.names() if name != BEAT)
            commit.write_record(folder, name, {"id": "theirs", "host": "another", "pid": 1, "started": 1.0})
            time.sleep(10)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert time.monotonic() - began < 5
    (name,) = [name for name in folder.names() if name != BEAT]
    assert commit.read_record(folder, name)["id"] == "theirs"
