"""A folder on any file system that pyarrow.fs opens: local, NFS, s3://, gs://.

Every object is written once: no append and no rename, so that object stores serve as well as disks. On a local
disk a write is flushed to the platter (fsync of file and folder) before it returns, or left to `flush`.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.fs as pafs

from samplernn.errors import BadInput, StorageError


class Sink(io.RawIOBase):
    """Where an object is written piece by piece; what goes through is counted and hashed."""

    def __init__(self, target: Callable[[memoryview], object]) -> None:
        super().__init__()
        self.bytes = 0
        self._target, self._digest = target, hashlib.sha256()

    def writable(self) -> bool:
        """As a file says it."""
        return True

    def write(self, data: Any) -> int:
        """Write all of data."""
        view = memoryview(data).cast("B")
        self._target(view)
        self._digest.update(view)
        self.bytes += len(view)
        return len(view)

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of everything written so far."""
        return self._digest.hexdigest()


@dataclass(frozen=True)
class Storage:
    """One folder; `at` goes down, nothing goes up."""

    fs: pafs.FileSystem
    root: str
    options: str = ""
    """What followed a URI's path: ?endpoint_override=... of a server that is not Amazon's or Google's."""
    user: str = ""
    """"anonymous@" of a Google bucket that is opened without credentials."""

    @classmethod
    def open(cls, where: str | Path) -> Storage:
        """Open a local path or a URI; relative local paths are resolved against the working directory.

        Raises BadInput for a URI scheme that pyarrow.fs does not know, or a URI that holds a key.
        """
        text = str(where)
        if "://" not in text:
            return cls(pafs.LocalFileSystem(), str(Path(text).expanduser().resolve()))
        scheme, _, place = text.partition("://")
        user, at, _ = place.split("/")[0].rpartition("@")
        anonymous = user == "anonymous" and scheme in ("gs", "gcs")
        if at and not anonymous:
            raise BadInput(
                f"a {scheme}:// URI with a key in it is refused, since URIs are kept in configs; put the key into the "
                "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or your cloud's credentials file"
            )
        try:
            fs, root = pafs.FileSystem.from_uri(text)
        except (pyarrow.ArrowException, ValueError, OSError) as error:
            raise BadInput(
                f"{text!r} can't be opened as storage ({error}); give a folder, s3://bucket/path or gs://bucket/path"
            ) from error
        return cls(fs, root, "".join(text.partition("?")[1:]), user + at)

    @property
    def local(self) -> Path | None:
        """The folder on this machine's own file system, or None for an object store."""
        return Path(self.root) if isinstance(self.fs, pafs.LocalFileSystem) else None

    def __str__(self) -> str:
        return self.root if self.local else f"{self.fs.type_name}://{self.root}"

    @property
    def address(self) -> str:
        """What `open` makes the same of, in another process."""
        return f"{self}{self.options}".replace("://", f"://{self.user}", 1)

    def at(self, *names: str) -> Storage:
        """The folder below; names may not climb out."""
        for name in names:
            if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
                raise BadInput(f"{name!r} is not a folder name: no slashes, no dots alone")
        return replace(self, root="/".join((self.root, *names)))

    def read(self, name: str) -> bytes:
        """All bytes of an object. Raises FileNotFoundError, or StorageError when it can't be read."""
        with self._named(f"read {name}"), self.fs.open_input_file(self._path(name)) as stream:
            data: bytes = stream.read()
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write an object whole. Raises StorageError with the reason (disk full, read-only, no permission)."""
        with self._named(f"write {name}"):
            if self.local is None:
                with self.fs.open_output_stream(self._path(name)) as stream:
                    stream.write(data)
            else:
                self._write_local(name, data, os.O_TRUNC)

    def flush(self, names: Iterable[str]) -> None:
        """Have objects that were written with flush=False on the platter, and their folder; nothing to do elsewhere."""
        if self.local is not None:
            with self._named("flush"):
                for name in names:
                    _fsync(Path(self._path(name)))
                _fsync(self.local)

    @contextmanager
    def writing(self, name: str, flush: bool = True) -> Iterator[Sink]:
        """Write an object of any length in pieces; it is whole when the with block has ended without an error.

        An OSError in the block is taken for the storage's own, and raised as StorageError as `write` does. After an
        error a part of the object may be left.
        """
        with self._named(f"write {name}"):
            if self.local is None:
                with self.fs.open_output_stream(self._path(name)) as stream:
                    yield Sink(stream.write)
            else:
                with self._local_file(name, os.O_TRUNC, flush) as descriptor:
                    yield Sink(partial(_write_all, descriptor))

    def blocks(self, name: str, size: int = 2**22) -> Iterator[bytes]:
        """The bytes of an object in blocks. Raises FileNotFoundError, or StorageError when it can't be read."""
        with self._named(f"read {name}"), self.fs.open_input_stream(self._path(name)) as stream:
            while block := stream.read(size):
                yield block

    @contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """An object open for reading at any place. Raises FileNotFoundError, or StorageError when it can't be read."""
        with self._named(f"read {name}"), self.fs.open_input_file(self._path(name)) as stream:
            yield stream

    def create(self, name: str, data: bytes) -> bool:
        """Write an object only if there is none of that name; False when there is one.

        Exclusive on file systems (O_EXCL). On object stores two writers within one round trip can both succeed.
        """
        with self._named(f"create {name}"):
            if self.local is None:
                if self.exists(name):
                    return False
                self.write(name, data)
                return True
            try:
                self._write_local(name, data, os.O_EXCL)
            except FileExistsError:
                return False
            return True

    def exists(self, name: str) -> bool:
        """Whether an object or a folder of that name is there."""
        with self._named(f"look for {name}"):
            found = self.fs.get_file_info(self._path(name)).type
        return bool(found != pafs.FileType.NotFound)

    def is_file(self) -> bool:
        """Whether this is no folder but an object."""
        with self._named("look"):
            return bool(self.fs.get_file_info(self.root).is_file)

    def names(self) -> list[str]:
        """Names of everything directly in this folder, sorted; empty when there is no such folder."""
        with self._named("list"):
            try:
                infos = self.fs.get_file_info(pafs.FileSelector(self.root, allow_not_found=True))
            except FileNotFoundError:  # made or deleted while pyarrow looked
                return []
        return sorted(info.base_name for info in infos)

    def walk(self) -> list[tuple[str, int]]:
        """(path below this folder, bytes) of every object in it and in the folders below, sorted."""
        with self._named("list"):
            infos = self.fs.get_file_info(pafs.FileSelector(self.root, allow_not_found=True, recursive=True))
        files = [info for info in infos if info.type == pafs.FileType.File]
        return sorted((info.path.removeprefix(self.root).lstrip("/"), info.size) for info in files)

    def free_bytes(self) -> int | None:
        """Bytes that are free on the disk of this folder; None on an object store, which has no end."""
        if self.local is None:
            return None
        there = next(path for path in (self.local, *self.local.parents) if path.exists())
        with self._named("look for free space"):
            return shutil.disk_usage(there).free

    def delete(self, name: str) -> None:
        """Delete an object or a whole folder; nothing happens when it is not there."""
        with self._named(f"delete {name}"):
            kind = self.fs.get_file_info(self._path(name)).type
            if kind == pafs.FileType.Directory:
                # On Google's storage it was no more than its objects' prefix.
                with suppress(FileNotFoundError):
                    self.fs.delete_dir(self._path(name))
            elif kind == pafs.FileType.File:
                self.fs.delete_file(self._path(name))

    def _path(self, name: str) -> str:
        return self.at(name).root

    def _write_local(self, name: str, data: bytes, flag: int) -> None:
        with self._local_file(name, flag) as descriptor:
            _write_all(descriptor, data)

    @contextmanager
    def _local_file(self, name: str, flag: int, flush: bool = True) -> Iterator[int]:
        """Descriptor of a new file, flushed to the platter at the end together with its folder if that is wanted."""
        path = Path(self._path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o644)
        try:
            yield descriptor
            if flush:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if flush:
            _fsync(path.parent)

    @contextmanager
    def _named(self, action: str) -> Iterator[None]:
        """Turn the operating system's errors into one that says where and what to do."""
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except (OSError, pyarrow.ArrowException) as error:
            raise StorageError(
                f"can't {action} in {self}: {error}; check space, permissions and the mount"
            ) from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
