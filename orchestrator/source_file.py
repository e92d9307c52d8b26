"""One source file: brought to this machine, hashed, and watched for changes while it is read."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.audio_folder import AudioFile
from samplernn.audio import Signal
from samplernn.errors import BadAudio, StorageError
from samplernn.storage import Storage

_BLOCK_BYTES = 2**18


@contextmanager
def at_hand(file: AudioFile, origin: Storage | None) -> Iterator[bytes]:
    """Path of the file on this machine; one on an object store is fetched for as long as it is needed."""
    if origin is None:
        yield file.path
        return
    *folders, name = os.fsdecode(file.path).split("/")
    with tempfile.NamedTemporaryFile(prefix="samplernn-") as copy:
        try:
            for block in origin.at(*folders).blocks(name):
                copy.write(block)
            copy.flush()
        except (StorageError, FileNotFoundError) as error:
            raise BadAudio(f"can't be fetched: {error}") from error
        yield os.fsencode(copy.name)


def readable(signal: Iterator[Signal], path: bytes) -> Iterator[Signal]:
    """The same; a source that can't be read is the file's fault and not the storage's that is written to."""
    try:
        yield from signal
    except OSError as error:
        raise BadAudio(unreadable(error, path)) from error


def unreadable(error: OSError, path: bytes) -> str:
    gone = not os.path.exists(path)  # noqa: PTH110
    where = f" on {socket.gethostname()}; the folder must be readable on every node" if gone else ""
    return f"can't be read: {error.strerror or error}{where}"


def signature(path: bytes) -> tuple[int, ...]:
    """What changes when a file is written to or put in another's place."""
    status = os.stat(path)  # noqa: PTH116
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def digest(path: bytes, size: int) -> str:
    """SHA-256 of a file of `size` bytes; one that has grown since is not read to an end that may never come."""
    sha256, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
    # O_NONBLOCK: a FIFO put in the file's place must not hold the worker.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream:  # noqa: PTH123
        while size >= 0 and (read := stream.readinto(block)):
            sha256.update(block[:read])
            size -= read
    if size:
        raise BadAudio("changed while it was read; run the ingest again")
    return sha256.hexdigest()
