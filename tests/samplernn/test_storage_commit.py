"""Storage and commits: what is whole is trusted, anything else is found out."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
from pathlib import Path

import pyarrow.fs
import pytest

from samplernn import commit
from samplernn.errors import BadInput, Damaged, StorageError
from samplernn.storage import Storage

FILES = {"a.bin": bytes(range(256)) * 40, "b.json": b"{}\n", "empty": b""}


@pytest.fixture
def folder(tmp_path) -> Storage:
    return Storage.open(tmp_path / "room")


@pytest.fixture
def committed(folder) -> Storage:
    commit.write_commit(folder.at("c"), FILES, attempt=3)
    return folder.at("c")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\\b", "a\0b", "/etc"])
def test_storage_name_that_climbs_refused(folder, name):
    for action in (folder.at, folder.read, folder.exists, folder.delete):
        with pytest.raises(BadInput, match="folder name"):
            action(name)
    with pytest.raises(BadInput):
        folder.write(name, b"x")
    with pytest.raises(BadInput):
        folder.create(name, b"x")


def test_storage_reads_what_was_written_and_lists_it_sorted(folder):
    assert folder.names() == []
    for name in ("b", "a", "é"):
        folder.write(name, name.encode())
    folder.write("a", b"again")
    assert folder.names() == ["a", "b", "é"]
    assert (folder.read("a"), folder.read("b")) == (b"again", b"b")
    assert folder.exists("a")
    assert not folder.exists("z")
    with pytest.raises(FileNotFoundError):
        folder.read("z")


def test_storage_create_is_exclusive(folder):
    assert folder.create("lease", b"first")
    assert not folder.create("lease", b"second")
    assert folder.read("lease") == b"first"


def test_storage_delete_file_folder_and_nothing(folder):
    folder.write("a", b"x")
    folder.at("deep", "er").write("b", b"x")
    for name in ("a", "deep", "never"):
        folder.delete(name)
    assert folder.names() == []


def test_storage_that_is_no_local_folder_serves_the_same(tmp_path):
    """The branch for object stores, on pyarrow's own subtree file system."""
    remote = Storage(pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem()), "room")
    (tmp_path / "room").mkdir()  # an object store has no folders to make
    assert remote.local is None
    assert remote.create("a", b"1")
    assert not remote.create("a", b"2")
    remote.write("b", b"3")
    assert (remote.read("a"), remote.names()) == (b"1", ["a", "b"])


def test_storage_unknown_scheme_refused():
    with pytest.raises(BadInput, match="s3://"):
        Storage.open("gopher://room")


def test_storage_survives_pickling(folder):
    folder.write("a", b"x")
    assert pickle.loads(pickle.dumps(folder)).read("a") == b"x"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_storage_full_disk_named(folder):
    folder.write("a", b"")
    (folder.local / "full").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="check space") as raised:
        folder.write("full", b"x")
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.ENOSPC


def test_storage_folder_in_the_place_of_a_file_named(folder):
    folder.at("a").write("b", b"x")
    with pytest.raises(StorageError, match="can't write a"):
        folder.write("a", b"x")
    with pytest.raises(StorageError, match="can't read a"):
        folder.read("a")


def test_commit_reads_back_whole(committed):
    assert commit.is_committed(committed)
    assert commit.read_commit(committed) == FILES
    assert commit.read_manifest(committed)["about"] == {"attempt": 3}


def test_commit_without_its_manifest_does_not_exist(committed):
    committed.delete(commit.MANIFEST)
    assert not commit.is_committed(committed)
    with pytest.raises(FileNotFoundError):
        commit.read_commit(committed)


def test_commit_killed_at_any_write_does_not_exist(tmp_path):
    """Every prefix of the sequence of writes, the last one without its end."""
    whole = Storage.open(tmp_path / "whole")
    commit.write_commit(whole, FILES)
    order = [*FILES, commit.MANIFEST]
    for done in range(len(order)):
        torn = Storage.open(tmp_path / f"torn-{done}")
        for name in order[:done]:
            torn.write(name, whole.read(name))
        torn.write(order[done], whole.read(order[done])[:-5])
        assert not commit.is_committed(torn)


def test_commit_has_every_file_and_their_folder_on_the_platter_before_its_manifest(folder, monkeypatch):
    flushed, fsync = [], os.fsync

    def seen(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append((place.name, commit.is_committed(folder.at("c"))))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    commit.write_commit(folder.at("c"), FILES)
    before = {name for name, committed in flushed if not committed}
    assert before == {*FILES, "c"}
    assert [name for name, committed in flushed if committed] == [commit.MANIFEST, "c"]


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name]])
@pytest.mark.parametrize("keep", [0, 1, 0.5, -1])
def test_commit_truncated_file_found(committed, name, keep):
    data = committed.read(name)
    committed.write(name, data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(Damaged, match=name):
        commit.read_commit(committed)


def test_commit_any_flipped_bit_found(committed):
    draw = random.Random(7)
    for name in (*(name for name in FILES if FILES[name]), commit.MANIFEST):
        data = committed.read(name)
        for _ in range(40):
            bit = draw.randrange(len(data) * 8)
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            committed.write(name, bytes(flipped))
            if json_equal(flipped, data):
                continue  # a bit of white space
            with pytest.raises(Damaged):
                commit.read_commit(committed)
        committed.write(name, data)


def json_equal(one: bytes, other: bytes) -> bool:
    """Whether two texts are the same JSON, written with other white space."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def test_commit_missing_file_found(committed):
    committed.delete("b.json")
    with pytest.raises(Damaged, match=r"b\.json"):
        commit.read_commit(committed)


def test_commit_of_another_schema_refused(committed):
    manifest = {**commit.read_manifest(committed), "schema": 99}
    commit.write_record(committed, commit.MANIFEST, manifest)
    with pytest.raises(Damaged, match="schema 99"):
        commit.read_manifest(committed)


def test_delete_commit_half_done_does_not_exist(folder, committed, monkeypatch):
    class Killed(Exception):
        pass

    original = Storage.delete

    def delete(self, name):
        if name == "c":
            raise Killed
        original(self, name)

    monkeypatch.setattr(Storage, "delete", delete)
    with pytest.raises(Killed):
        commit.delete_commit(committed, folder, "c")
    assert committed.exists("a.bin")
    assert not commit.is_committed(committed)
    monkeypatch.undo()
    commit.delete_commit(committed, folder, "c")
    assert not folder.exists("c")


def test_record_reads_back_and_torn_record_found(folder):
    body = {"x": 1.5, "name": "Näcken", "list": [1, None]}
    commit.write_record(folder, "r.json", body)
    assert commit.read_record(folder, "r.json") == body
    data = folder.read("r.json")
    for keep in range(len(data) - 1):
        folder.write("r.json", data[:keep])
        with pytest.raises(Damaged):
            commit.read_record(folder, "r.json")
    folder.write("r.json", data)
    assert commit.read_record(folder, "r.json") == body


@pytest.mark.parametrize("text", [b"[]", b"3", b"null", b'{"x": 1}', b'{"x": 1, "sha256": "0"}', b"\xff\xfe"])
def test_record_that_is_none_refused(folder, text):
    folder.write("r.json", text)
    with pytest.raises(Damaged):
        commit.read_record(folder, "r.json")


def test_record_bytes_depend_on_nothing_but_the_body():
    assert commit.record_bytes({"a": 1, "b": 2}) == commit.record_bytes({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        commit.record_bytes({"a": float("nan")})


def test_address_opens_the_same_storage_elsewhere_with_its_own_server():
    there = Storage.open("s3://bucket/work?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1")
    assert there.at("a", "b").address == (
        "s3://bucket/work/a/b?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1"
    )
    assert Storage.open(there.at("a", "b").address) == there.at("a", "b")
    assert str(there.at("a")) == "s3://bucket/work/a"
