"""The low-disk guard: nothing new is begun while the workspace's disk is nearly full, so that nothing breaks."""

from __future__ import annotations

import os

from samplernn.errors import StorageError
from samplernn.storage import Storage

_PROBE_BYTES = 2**20
GB = 1e9


def shortage(folder: Storage, free_disk_gb: float) -> str | None:
    """Why nothing more should be written now; None where there is room, and on object stores, which never fill up."""
    free = folder.free_bytes()
    if free is None or free >= free_disk_gb * GB:
        return None
    return (
        f"{free / GB:.2f} GB are free on the disk of {folder} and run.free_disk_gb is {free_disk_gb:g}; make room "
        "(orchestrator prune) or lower it"
    )


def require_room(folder: Storage, free_disk_gb: float) -> None:
    """Raises StorageError when the disk is nearly full."""
    if reason := shortage(folder, free_disk_gb):
        raise StorageError(f"no new work is begun: {reason}")


def writable(folder: Storage) -> bool:
    """Whether something can be written there now; leaves nothing behind."""
    name = f"probe-{os.getpid()}"
    try:
        folder.write(name, bytes(_PROBE_BYTES))
    except StorageError:
        return False
    finally:
        _forget(folder, name)
    return True


def _forget(folder: Storage, name: str) -> None:
    try:
        folder.delete(name)
    except StorageError:
        return
