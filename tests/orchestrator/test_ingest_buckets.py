"""Ingest from a bucket, into a workspace on disk and into one in a bucket: real protocols of S3 and GCS, a real Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest

from orchestrator.audio_folder import scan
from orchestrator.config import ExportConfig, IngestConfig
from orchestrator.export import export
from orchestrator.ingest_report import Report
from orchestrator.pages.dataset_page import write_dataset_page
from samplernn import commit
from samplernn.chunks import CARD, PCM, Dataset
from samplernn.errors import BadInput, Damaged
from samplernn.storage import Storage
from tests import gcs_server, s3_server
from tests.sounds import cut, write_sound

pytestmark = pytest.mark.cluster


def ingested(source: str, folder: Storage) -> Report:
    from orchestrator.on_ray.ingest import ingest

    return ingest(IngestConfig(name="band", source=source), folder, lambda *_: None)


@dataclass(frozen=True)
class Cloud:
    """A server of buckets."""

    bucket: Callable[[str], pafs.FileSystem]
    uri: Callable[[str], str]


@pytest.fixture(scope="module", params=["s3", "gs"])
def cloud(request) -> Cloud:
    server = {"s3": s3_server, "gs": gcs_server}[request.param]
    endpoint = request.getfixturevalue({"s3": "s3_endpoint", "gs": "gcs_endpoint"}[request.param])
    return Cloud(partial(server.bucket, endpoint), partial(server.uri, endpoint))


@pytest.fixture(scope="module")
def music(tmp_path_factory, cloud) -> tuple[Path, str]:
    """The same music on disk and in a bucket."""
    local = tmp_path_factory.mktemp("music")
    write_sound(local / "deep" / "a b.wav", 3.0)
    write_sound(local / "b.flac", 20.0, 44_100, 2, seed=1)
    cut(write_sound(local / "cut.ogg", seed=2), 0.5)
    (local / "cover.jpg").write_bytes(b"x")
    (local / "ranges.csv").write_text("file,start,stop\nb.flac,1,14.5\n")
    remote = cloud.bucket("music")
    for path in local.rglob("*.*"):
        with remote.open_output_stream(f"music/band/{path.relative_to(local)}") as out:
            out.write(path.read_bytes())
    return local, cloud.uri("music/band")


@pytest.mark.parametrize(
    ("pattern", "audio", "skipped"),
    [
        ("band/*", ["b.flac", "cut.ogg"], ["cover.jpg"]),
        ("band/*.flac", ["b.flac"], []),
        ("band/**", ["b.flac", "cut.ogg", "deep/a b.wav"], ["cover.jpg"]),
        ("band/**/*.[fw]*", ["b.flac", "deep/a b.wav"], []),
        ("**/deep/*%20b.wav", ["band/deep/a b.wav"], []),
        ("band/d*/*.wav", ["deep/a b.wav"], []),
        ("band/b.flac", ["b.flac"], []),
        ("band/deep/a%20b.wav", ["a b.wav"], []),
    ],
)
def test_scan_pattern_in_a_bucket_takes_what_it_takes_on_disk(music, cloud, pattern, audio, skipped):
    local, _ = music
    found = scan(cloud.uri(f"music/{pattern}"))
    assert [file.name for file in found.audio] == audio
    assert [row["path"] for row in found.skipped] == skipped
    assert found.ranges == ({"b.flac": [(1.0, 14.5)]} if "b.flac" in audio else {})
    here = scan(str(local / pattern.removeprefix("band/").replace("%20", " ")))
    assert [file.name.rpartition("/")[2] for file in here.audio] == [
        name.rpartition("/")[2] for name in audio
    ]
    assert [row["path"] for row in here.skipped] == skipped
    assert here.ranges == found.ranges


def test_scan_pattern_in_a_bucket_that_matches_nothing_is_refused(music, cloud):
    with pytest.raises(BadInput, match="holds no audio files"):
        scan(cloud.uri("music/band/*.mp3"))
    with pytest.raises(BadInput, match="holds no audio files"):
        scan(cloud.uri("music/band/%2A.flac"))


@pytest.mark.parametrize("workspace", ["disk", "bucket"])
def test_ingest_from_a_bucket_gives_the_tracks_of_a_local_ingest(
    tmp_path, ray_local, music, cloud, workspace
):
    local, remote = music
    here, there = Storage.open(tmp_path / "here"), Storage.open(tmp_path / "there")
    if workspace == "bucket":
        cloud.bucket("work")
        there = Storage.open(cloud.uri("work/datasets/band"))
    report, again = ingested(str(local), here), ingested(remote, there)
    assert again.card["tracks"] == report.card["tracks"]
    assert again.card["skipped"] == report.card["skipped"]
    assert [row["path"] for row in again.card["skipped"]] == ["cover.jpg", "cut.ogg"]
    for track in report.card["tracks"]:
        names = here.at("tracks", track["id"]).names()
        assert PCM in names
        assert there.at("tracks", track["id"]).names() == names
        for name in names:
            if name != "manifest.json":
                assert there.at("tracks", track["id"]).read(name) == here.at("tracks", track["id"]).read(name)
    assert ingested(remote, there).kept == 2
    assert write_dataset_page(there, again).endswith("page/index.html")
    assert there.at("page").exists("index.html")


def test_dataset_in_a_bucket_is_fetched_once_a_node_verified_and_served(tmp_path, ray_local, music, cloud):
    from orchestrator.on_ray.chunks import chunk_dataset

    cloud.bucket("read")
    folder = Storage.open(cloud.uri("read/datasets/band"))
    ingested(music[1], folder)
    dataset = Dataset.open(folder, tmp_path / "cache")
    copies = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.arrow")}
    assert len(copies) == 2
    Dataset.open(folder, tmp_path / "cache")
    assert {path: path.stat().st_mtime_ns for path in copies} == copies
    rows = dataset.chunks("train", 8000, 20)
    expected = {(t, a): dataset.tracks[t][a:b] for t, a, b in rows.tolist()}
    ids = [track["id"] for track in commit.read_record(folder, CARD)["tracks"]]
    for row in chunk_dataset(folder, "train", 8000, 20).take_all():
        at = ids.index(row["track"]), int(row["start"])
        np.testing.assert_array_equal(row["pcm"][: row["samples"]], expected[at])
    assert set(export(folder, ExportConfig(chunk_seconds=0.5, num_chunks=40))) == {"train", "valid", "test"}
    assert folder.at("npy").exists("train.npy")

    track = folder.at("tracks", ids[0])
    data = track.read(PCM)
    track.write(PCM, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Damaged, match="does not match its SHA-256"):
        Dataset.open(folder, tmp_path / "other cache")


def test_a_uri_with_a_key_in_it_is_refused_without_showing_it():
    with pytest.raises(BadInput, match="put the key into the environment") as raised:
        Storage.open("s3://someone:hushhush@bucket/music")
    assert "hushhush" not in str(raised.value)


def test_storage_in_a_bucket_deletes_whole_folders_and_opens_again_by_its_address(cloud):
    cloud.bucket("rooms")
    folder = Storage.open(cloud.uri("rooms/a"))
    folder.at("b", "c").write("x", b"1")
    folder.write("y", b"2")
    again = Storage.open(folder.at("b").address)
    assert again.at("c").read("x") == b"1"
    for name in ("b", "y", "nothing"):
        folder.delete(name)
    assert folder.names() == []
    assert not folder.exists("b")
