"""How anything gets onto storage and is trusted when read back: commits and records.

A commit is a folder whose manifest.json (files, sizes, SHA-256) is written last. Without a valid manifest it does not
exist; deletion removes the manifest first. A record is one small JSON object that carries its own checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from samplernn.errors import Damaged
from samplernn.storage import Sink, Storage

MANIFEST = "manifest.json"
SCHEMA = 1
Json = dict[str, Any]


def sha256(data: bytes) -> str:
    """Hex SHA-256 of data."""
    return hashlib.sha256(data).hexdigest()


def to_json(body: Any) -> bytes:
    """Canonical JSON: sorted keys, no NaN, UTF-8, one trailing newline."""
    return (json.dumps(body, sort_keys=True, allow_nan=False, ensure_ascii=False, indent=1) + "\n").encode()


def write_commit(folder: Storage, files: Mapping[str, bytes], **about: Any) -> None:
    """Write files into folder and its manifest last; `about` is kept in the manifest (attempt, step, ...)."""
    with writing(folder, **about) as commit:
        for name, data in files.items():
            commit.put(name, data)


@contextmanager
def writing(folder: Storage, **about: Any) -> Iterator[Writing]:
    """A commit whose files are written one after the other; its manifest is written when the block ends well."""
    commit = Writing(folder)
    yield commit
    # All at once: the manifest alone must not be there before what it vouches for.
    folder.flush(commit.listing)
    write_record(folder, MANIFEST, {"schema": SCHEMA, "files": commit.listing, "about": about})


class Writing:
    """A commit being written."""

    def __init__(self, folder: Storage) -> None:
        self.folder = folder
        self.listing: dict[str, Json] = {}

    def put(self, name: str, data: bytes) -> None:
        """Write a file whole."""
        with self.file(name) as sink:
            sink.write(data)

    @contextmanager
    def file(self, name: str) -> Iterator[Sink]:
        """Write a file of any length in pieces."""
        with self.folder.writing(name, flush=False) as sink:
            yield sink
        self.listing[name] = {"bytes": sink.bytes, "sha256": sink.sha256}


def is_committed(folder: Storage) -> bool:
    """Whether the folder has a valid manifest (its files are not read)."""
    try:
        read_manifest(folder)
    except (FileNotFoundError, Damaged):
        return False
    return True


def read_manifest(folder: Storage) -> Json:
    """The manifest. Raises FileNotFoundError when there is none, Damaged when it can't be trusted."""
    manifest = read_record(folder, MANIFEST)
    if manifest.get("schema") != SCHEMA:
        raise Damaged(
            f"{folder} has schema {manifest.get('schema')!r} and this version reads {SCHEMA}; "
            "use the version of this program that wrote it"
        )
    return manifest


def read_commit(folder: Storage) -> dict[str, bytes]:
    """All files of a commit, each verified. Raises FileNotFoundError or Damaged."""
    return {name: read_file(folder, name) for name in read_manifest(folder)["files"]}


def read_file(folder: Storage, name: str) -> bytes:
    """One verified file of a commit. Raises FileNotFoundError or Damaged."""
    entry = read_manifest(folder)["files"][name]
    try:
        data = folder.read(name)
    except FileNotFoundError as error:
        raise Damaged(f"{folder}/{name} is in the manifest and not on storage") from error
    if len(data) != entry["bytes"] or sha256(data) != entry["sha256"]:
        raise Damaged(f"{folder}/{name} does not match its SHA-256 in the manifest")
    return data


def verify_file(folder: Storage, name: str) -> Json:
    """Read one file of a commit block by block, keeping nothing, and return its line of the manifest.

    Raises FileNotFoundError or Damaged.
    """
    entry: Json = read_manifest(folder)["files"][name]
    digest, size = hashlib.sha256(), 0
    try:
        for block in folder.blocks(name):
            digest.update(block)
            size += len(block)
    except FileNotFoundError as error:
        raise Damaged(f"{folder}/{name} is in the manifest and not on storage") from error
    if size != entry["bytes"] or digest.hexdigest() != entry["sha256"]:
        raise Damaged(f"{folder}/{name} does not match its SHA-256 in the manifest")
    return entry


def read_json(folder: Storage, name: str) -> Any:
    """A JSON file of a commit, verified. Raises FileNotFoundError or Damaged."""
    return json.loads(read_file(folder, name))


def delete_commit(folder: Storage, parent: Storage, name: str) -> None:
    """Delete a commit, its manifest first, so that a half-deleted one does not exist."""
    folder.delete(MANIFEST)
    parent.delete(name)


def write_record(folder: Storage, name: str, body: Json) -> None:
    """Write one JSON object with a checksum of itself."""
    folder.write(name, record_bytes(body))


def record_bytes(body: Json) -> bytes:
    """The bytes of a record: the body and the SHA-256 of its canonical JSON."""
    return to_json({**body, "sha256": sha256(to_json(body))})


def read_record(folder: Storage, name: str) -> Json:
    """Read a record. Raises FileNotFoundError when there is none, Damaged when it is torn or altered."""
    data = folder.read(name)
    try:
        body = json.loads(data)
        stated = body.pop("sha256")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise Damaged(f"{folder}/{name} is not a whole record ({len(data)} bytes)") from error
    if stated != sha256(to_json(body)):
        raise Damaged(f"{folder}/{name} does not match its own checksum")
    return dict(body)
