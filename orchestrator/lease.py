"""One driver at a time: a lease that names the process holding it, and a beat that shows it is alive.

On file systems the lease is one file, created exclusively (O_EXCL). Object stores know nothing of the kind through
pyarrow, so there each driver writes a claim of its own, then looks whether there are others, and takes its claim back
if so: of two that start together at most one goes on, and where both see each other, neither. That needs a listing
which shows every write before it, as S3, GCS and MinIO give it.

A process on this machine is looked up. Of one on another machine only the beat tells, a counter that it writes every
few seconds: a lease is taken over when its beat has stood still for as long as it is watched, whatever the clocks say.
Remaining limit: a driver on another machine that is frozen or cut off from the storage for so long is taken for dead;
when it is back it finds its lease gone and ends in order, but until its next beat both can write.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil

from samplernn import commit
from samplernn.commit import Json
from samplernn.errors import BadInput, Damaged, StorageError
from samplernn.storage import Storage

LEASE = "driver.json"
BEAT = "driver-beat.json"
BEAT_S = 5.0
GONE_S = 30.0
"""Seconds without a beat after which a driver on another machine is taken for dead."""
CLAIM = "driver-claim-"
"""How the names of claims begin."""
WRITING_S = 0.5
LOOK_S = 1.0


@contextmanager
def hold(folder: Storage) -> Iterator[None]:
    """Hold a folder's lease for the length of a with block; a folder that stays empty is not left behind.

    A lease whose process is gone is taken over; where that was on another machine, it takes GONE_S. Raises BadInput
    while another driver holds it, StorageError when the folder can't be written.
    """
    me = psutil.Process()
    mine = {"id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": me.pid, "started": me.create_time()}
    name = LEASE if folder.local else f"{CLAIM}{mine['id']}.json"
    with ExitStack() as stack:
        stack.callback(_remove_empty, folder)
        _take(folder, name, mine)
        stack.callback(_give_back, folder, name, mine)
        stack.enter_context(_beating(folder, name, mine))
        yield


def _give_back(folder: Storage, name: str, mine: Json) -> None:
    if _is_mine(folder, name, mine):
        folder.delete(BEAT)
        folder.delete(name)


def is_held(folder: Storage) -> bool:
    """Whether a driver is working on the folder right now. One on another machine is believed by the time of its last
    beat, so that a clock that is far off can hide it; `hold` does not go by that."""
    holders = filter(None, (_read(folder, name) for name in _leases(folder)))
    return any(_lives(each) if _is_here(each) else _beats_lately(folder, each) for each in holders)


def _take(folder: Storage, name: str, mine: Json) -> None:
    if folder.local:
        while not folder.create(name, commit.record_bytes(mine)):
            _clear_dead(folder, None)
        return
    commit.write_record(folder, name, mine)
    try:
        _clear_dead(folder, name)
    except BaseException:
        with suppress(StorageError):
            folder.delete(name)
        raise


def _clear_dead(folder: Storage, mine: str | None) -> None:
    """Remove the other leases, whose drivers are gone. Raises BadInput when one is at work."""
    for name in _leases(folder):
        if name == mine:
            continue
        holder = _read(folder, name) or _read_again(folder, name)
        if holder and (_lives(holder) if _is_here(holder) else _beats(folder, holder)):
            raise BadInput(
                f"{folder} is in use by process {holder['pid']} on {holder['host']}; wait for it or stop it"
            )
        if _read(folder, name) == holder:  # nobody has taken it over meanwhile
            folder.delete(name)


def _leases(folder: Storage) -> list[str]:
    return [name for name in folder.names() if name == LEASE or name.startswith(CLAIM)]


def _read(folder: Storage, name: str) -> Json | None:
    try:
        return commit.read_record(folder, name)
    except (FileNotFoundError, Damaged):
        return None  # gone, or torn by a kill while it was written


def _read_again(folder: Storage, name: str) -> Json | None:
    """What looks torn may be in the middle of being written."""
    time.sleep(WRITING_S)
    return _read(folder, name)


def _is_here(holder: Json) -> bool:
    return bool(holder["host"] == socket.gethostname())


def _lives(holder: Json) -> bool:
    """Whether a process of this machine is there."""
    try:
        return bool(abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) < 1)
    except psutil.NoSuchProcess:
        return False


def _beat(folder: Storage, holder: Json) -> Json:
    """The last beat of a driver; empty without one."""
    beat = _read(folder, BEAT) or {}
    return beat if beat.get("id") == holder.get("id") else {}


def _beats_lately(folder: Storage, holder: Json) -> bool:
    return bool(abs(time.time() - _beat(folder, holder).get("time", 0.0)) < GONE_S)


def _beats(folder: Storage, holder: Json) -> bool:
    """Whether a driver of another machine is alive: watched, unless its last beat is new by this machine's clock."""
    if _beats_lately(folder, holder):
        return True
    sys.stderr.write(
        f"process {holder['pid']} on {holder['host']} was at work here; looking for {GONE_S:g} s whether it is alive\n"
    )
    last, until = _beat(folder, holder), time.monotonic() + GONE_S
    while time.monotonic() < until:
        time.sleep(LOOK_S)
        if (now := _beat(folder, holder)) and now != last:
            return True
    return False


@contextmanager
def _beating(folder: Storage, name: str, mine: Json) -> Iterator[None]:
    """Beat for the length of a with block; Ctrl-C comes to the main thread when the lease is another's."""
    ended = threading.Event()
    _write_beat(folder, mine, 0)

    def beat() -> None:
        for number in itertools.count(1):
            if ended.wait(BEAT_S):
                return
            if not _is_mine(folder, name, mine):
                sys.stderr.write(f"{folder} was taken over by another driver, so this one ends\n")
                os.kill(os.getpid(), signal.SIGINT)
                return
            _write_beat(folder, mine, number)

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _write_beat(folder: Storage, mine: Json, number: int) -> None:
    with suppress(StorageError):  # a full disk is told by those who write something that matters
        commit.write_record(folder, BEAT, {"id": mine["id"], "beat": number, "time": time.time()})


def _is_mine(folder: Storage, name: str, mine: Json) -> bool:
    """Whether the lease is still this process's, as far as the storage can be read."""
    try:
        return bool((_read(folder, name) or {}).get("id") == mine["id"])
    except StorageError:
        return True


def _remove_empty(folder: Storage) -> None:
    if folder.local:
        with suppress(OSError):  # it holds something, which is as it should be
            folder.local.rmdir()
