"""One driver at a time: a lease file, created exclusively, that names the process holding it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psutil

from samplernn import commit
from samplernn.errors import BadInput, Damaged, StorageError
from samplernn.storage import Storage

LEASE = "driver.json"


@contextmanager
def hold(folder: Storage) -> Iterator[None]:
    """Hold a folder's lease for the length of a with block; a folder that stays empty is not left behind.

    A lease whose process is gone from this machine is taken over. Raises BadInput while another driver holds it or when
    the folder can't be written, StorageError when the disk is full.
    """
    with ExitStack() as stack:
        stack.callback(_remove_empty, folder)
        try:
            _take(folder)
        except (StorageError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
                raise
            raise BadInput(f"{folder} can't be written: {cause}; choose another workspace") from error
        stack.callback(folder.delete, LEASE)
        yield


def _take(folder: Storage) -> None:
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


def _remove_empty(folder: Storage) -> None:
    if folder.local:
        with suppress(OSError):  # it holds something, which is as it should be
            folder.local.rmdir()


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
