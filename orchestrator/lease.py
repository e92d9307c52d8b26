"""One driver at a time: a lease file, created exclusively, that names the process holding it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from samplernn import commit
from samplernn.errors import BadInput, Damaged
from samplernn.storage import Storage

LEASE = "driver.json"


@contextmanager
def hold(folder: Storage) -> Iterator[None]:
    """Hold a folder's lease for the length of a with block.

    A lease whose process is gone from this machine is taken over. Raises BadInput while another driver holds it.
    """
    me = psutil.Process()
    body = {"host": socket.gethostname(), "pid": me.pid, "started": me.create_time()}
    while not folder.create(LEASE, commit.record_bytes(body)):
        holder = _read(folder)
        if holder is not None and _alive(holder):
            raise BadInput(
                f"{folder} is in use by process {holder['pid']} on {holder['host']}; wait for it or stop it "
                f"(if that machine is gone, delete {LEASE} there)"
            )
        folder.delete(LEASE)
    try:
        yield
    finally:
        folder.delete(LEASE)


def is_held(folder: Storage) -> bool:
    """Whether a driver is working on the folder right now, as far as this machine can tell."""
    holder = _read(folder)
    return holder is not None and _alive(holder)


def _read(folder: Storage) -> dict[str, Any] | None:
    try:
        return commit.read_record(folder, LEASE)
    except (FileNotFoundError, Damaged):
        return None  # gone, or torn by a kill while it was written


def _alive(holder: dict[str, Any]) -> bool:
    if holder["host"] != socket.gethostname():
        return True
    try:
        return bool(abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) < 1)
    except psutil.NoSuchProcess:
        return False
