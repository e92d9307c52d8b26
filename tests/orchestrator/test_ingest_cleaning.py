"""Ingest beyond a plain folder: cleaning, ranges, recordings given twice, where files come from, what stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
import soundfile

from orchestrator import audio_folder, ingest_pieces, ingest_track
from orchestrator.asked import ingest_asked
from orchestrator.audio_folder import AudioFile, scan
from orchestrator.config import Clean, ExportConfig, IngestConfig
from orchestrator.export import export
from orchestrator.ingest_report import Report
from orchestrator.ingest_track import EXCERPT, EXCERPT_PICTURE, PICTURE, TrackJob, ingest_file
from orchestrator.pages.dataset_page import write_dataset_page
from orchestrator.ranges import read_ranges
from orchestrator.workspace import NAME
from samplernn.chunks import FEATURES, PCM, SPLITS, Dataset, Track, open_track, pcm_to_arrow
from samplernn.errors import BadInput
from samplernn.storage import Storage
from tests.sounds import chord, write_sound

RATE = 16_000


def one(tmp_path: Path, path: Path, ranges=None, **clean) -> tuple[dict, np.ndarray]:
    """Ingest one file without Ray: its track.json and its PCM."""
    folder = Storage.open(tmp_path / "dataset")
    job = TrackJob(folder, RATE, "mean", Clean(**clean), {path.name: ranges} if ranges else {})
    outcome = ingest_file(AudioFile(os.fsencode(path), path.name, path.stat().st_size), job, {})
    assert outcome.reason is None, outcome.reason
    at = folder.at("tracks", ingest_track.track_id(path.name, outcome.track["source_sha256"]))
    return outcome.track, Track(at.local / PCM)[:]


def test_clean_nothing_keeps_every_sample(tmp_path):
    track, pcm = one(tmp_path, write_sound(tmp_path / "x.wav", 3.0))
    np.testing.assert_array_equal(pcm, soundfile.read(tmp_path / "x.wav", dtype="int16")[0])
    assert (track["usable"], track["cleaned"]) == ([[0, 48_000]], {})


@pytest.mark.parametrize("samples", [1, 100, 3000, 50_000])
def test_ingest_silence_and_a_single_sample_are_tracks(tmp_path, samples):
    soundfile.write(tmp_path / "silence.wav", np.zeros(samples), RATE)
    soundfile.write(tmp_path / "sound.wav", chord(4.0, RATE)[:samples], RATE)
    for name, silent in (("silence.wav", True), ("sound.wav", False)):
        track, pcm = one(tmp_path, tmp_path / name)
        assert (len(pcm), track["usable"], track["excerpt"]) == (samples, [[0, samples]], [0, samples])
        assert (track["measures"]["silence"] == 1.0) == silent


@pytest.mark.parametrize("level", [None, "peak", "lufs"])
def test_clean_dc_is_gone_and_told(tmp_path, level):
    soundfile.write(tmp_path / "x.wav", chord(3.0, RATE)[:, 0] + 0.2, RATE, subtype="FLOAT")
    track, _ = one(tmp_path, tmp_path / "x.wav", remove_dc=True, level=level)
    assert track["cleaned"]["dc"] == pytest.approx(0.2, abs=0.01)
    assert abs(track["measures"]["dc"]) < 1e-5


@pytest.mark.parametrize("scale", [0.01, 1.9])
def test_clean_level_brings_every_track_to_one_peak_or_loudness(tmp_path, scale):
    pyloudnorm = pytest.importorskip("pyloudnorm")
    soundfile.write(tmp_path / "x.wav", chord(5.0, RATE)[:, 0] * scale, RATE, subtype="FLOAT")
    track, _ = one(tmp_path, tmp_path / "x.wav", level="peak", level_to=-3)
    assert track["measures"]["peak_dbfs"] == pytest.approx(-3, abs=0.05)
    track, pcm = one(tmp_path, tmp_path / "x.wav", level="lufs", level_to=-20)
    assert pyloudnorm.Meter(RATE).integrated_loudness(pcm / 32768) == pytest.approx(-20, abs=0.1)
    track, pcm = one(tmp_path, tmp_path / "x.wav", level="lufs", level_to=0)
    assert track["measures"]["peak_dbfs"] <= max(-0.99, 20 * np.log10(min(1, 0.6 * scale)))


def test_clean_silence_is_in_no_split_and_the_rest_is(tmp_path):
    signal = chord(12.0, RATE)[:, 0]
    signal[: RATE // 2], signal[4 * RATE : 7 * RATE], signal[-RATE:] = 0, 0, 0
    soundfile.write(tmp_path / "x.wav", signal, RATE)
    track, _ = one(tmp_path, tmp_path / "x.wav", trim_silence=True, skip_silence=2.0)
    expected = [[RATE // 2, 4 * RATE], [7 * RATE, 11 * RATE]]
    assert np.abs(np.array(track["usable"]) - expected).max() <= 1024
    assert track["cleaned"]["silence_seconds"] == pytest.approx(4.5, abs=0.2)
    track, _ = one(tmp_path, tmp_path / "x.wav", trim_silence=True)
    assert len(track["usable"]) == 1


def test_clean_clipped_passages_are_in_no_split(tmp_path):
    signal = chord(10.0, 48_000, 2)
    signal[96_000:96_100, 0] = 1.0
    soundfile.write(tmp_path / "x.wav", signal, 48_000)
    track, _ = one(tmp_path, tmp_path / "x.wav", skip_clipped=True)
    (_, before), (after, _) = track["usable"]
    assert before < 32_000 < 32_034 < after
    assert after - before < 2000
    assert track["measures"]["clipped"] == pytest.approx(100 / 480_000, abs=1e-6)


def test_clean_until_nothing_is_left_is_a_reason(tmp_path):
    write_sound(tmp_path / "x.wav")
    soundfile.write(tmp_path / "x.wav", np.zeros(RATE * 3), RATE)
    job = TrackJob(Storage.open(tmp_path / "d"), RATE, "mean", Clean(trim_silence=True), {})
    outcome = ingest_file(AudioFile(os.fsencode(tmp_path / "x.wav"), "x.wav", 1), job, {})
    assert "nothing is left of its 3.0 s after cleaning (silence 3.0 s)" in outcome.reason
    assert Storage.open(tmp_path / "d").at("tracks").names() == []


def test_ranges_choose_parts_and_no_chunk_spans_two(tmp_path):
    path = write_sound(tmp_path / "x.wav", 10.0)
    track, pcm = one(tmp_path, path, [(1.0, 3.0), (6.5, None)])
    whole = soundfile.read(path, dtype="int16")[0]
    np.testing.assert_array_equal(pcm, np.concatenate([whole[16_000:48_000], whole[104_000:]]))
    assert track["usable"] == [[0, 32_000], [32_000, 88_000]]
    job = TrackJob(Storage.open(tmp_path / "d"), RATE, "mean", Clean(), {"x.wav": [(11.0, 12.0)]})
    outcome = ingest_file(AudioFile(os.fsencode(path), "x.wav", 1), job, {})
    assert "ranges.csv chooses nothing of it: it lasts 10.00 s" in outcome.reason


def test_features_are_measured_in_the_same_pass_of_the_very_pcm_that_is_kept(tmp_path):
    path = write_sound(tmp_path / "x.wav", 40.0)
    folder = Storage.open(tmp_path / "d")
    job = TrackJob(folder, RATE, "mean", Clean(level="peak"), {path.name: [(2.0, 38.5)]}, ("onset",))
    outcome = ingest_file(AudioFile(os.fsencode(path), path.name, 1), job, {})
    at = folder.at("tracks", ingest_track.track_id(path.name, outcome.track["source_sha256"]))
    kept = open_track(at, {"features": ["onset"]}, tmp_path / "cache")
    measured = Track(at.local / PCM)
    assert len(kept) == len(measured) == round(36.5 * RATE)
    np.testing.assert_array_equal(kept.features(["onset"]), measured.features(["onset"]))
    zeros = tmp_path / "zeros.arrow"
    zeros.write_bytes(pcm_to_arrow([np.zeros(len(kept), np.int16)]))
    assert Track(zeros, at.local / FEATURES).features(["onset"]).any()  # they are read, not measured anew


def test_ranges_are_read_in_seconds_and_minutes():
    text = 'File, start ,stop\r\na.wav,0:12,3:40.5\r\n"b, c.wav",95.5,\r\na.wav,1:00:00,\r\n\r\n'
    assert read_ranges(b"\xef\xbb\xbf" + text.encode()) == {
        "a.wav": [(12.0, 220.5), (3600.0, None)],
        "b, c.wav": [(95.5, None)],
    }


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("name,from,to\n", "first line must be file,start,stop"),
        ("file,start,stop\na.wav,x,2\n", "line 2: 'x' is not a time"),
        ("file,start,stop\na.wav,5,2\n", "line 2: stop 2 is not after start 5"),
        ("file,start,stop\na.wav,5\n", "line 2: 2 columns"),
        ("file,start,stop\na.wav,0,5\na.wav,4,9\n", "the ranges of a.wav overlap"),
        ("file,start,stop\na.wav,1e9999,\n", "is not a time"),
    ],
)
def test_ranges_that_are_wrong_are_named_by_line(rows, expected):
    with pytest.raises(BadInput, match=expected):
        read_ranges(rows.encode())


def test_scan_ranges_for_a_file_that_is_not_there_refused(tmp_path):
    write_sound(tmp_path / "a.wav")
    (tmp_path / "ranges.csv").write_text("file,start,stop\nb.wav,0,1\n")
    with pytest.raises(BadInput, match=r"ranges\.csv names 'b\.wav'"):
        scan(str(tmp_path))


def test_scan_pattern_takes_what_matches(tmp_path):
    for name in ("a.wav", "b.flac", "deep/c.flac", "deep/er/d.flac"):
        write_sound(tmp_path / "my music" / name)
    found = scan(str(tmp_path / "my music" / "**" / "*.flac"))
    assert [file.name for file in found.audio] == ["b.flac", "deep/c.flac", "deep/er/d.flac"]
    assert [file.name for file in scan(str(tmp_path / "my music" / "*.flac")).audio] == ["b.flac"]
    with pytest.raises(BadInput, match="holds no audio files"):
        scan(str(tmp_path / "my music" / "*.mp3"))
    (tmp_path / "my music" / "e.flac").symlink_to("/dev/zero")
    (tmp_path / "my music" / "ranges.csv").write_text("file,start,stop\na.wav,0,1\nb.flac,0,1\n")
    found = scan(str(tmp_path / "my music" / "*"))
    assert [file.name for file in found.audio] == ["a.wav", "b.flac"]
    assert [row["path"] for row in found.skipped] == ["e.flac"]
    assert scan(str(tmp_path / "my music" / "*.flac")).ranges == {"b.flac": [(0.0, 1.0)]}
    assert ingest_asked(str(tmp_path / "my music" / "*.flac"), []).name == "my-music"
    assert ingest_asked("s3://bucket/some/band", []).source == "s3://bucket/some/band"


def test_scan_one_file_takes_it_alone_with_its_ranges(tmp_path):
    for name in ("a.wav", "b [live].flac"):
        write_sound(tmp_path / name)
    (tmp_path / "ranges.csv").write_text("file,start,stop\na.wav,0,1\n")
    found = scan(str(tmp_path / "a.wav"))
    assert ([file.name for file in found.audio], found.ranges) == (["a.wav"], {"a.wav": [(0.0, 1.0)]})
    assert [file.name for file in scan(str(tmp_path / "b [live].flac")).audio] == ["b [live].flac"]
    assert ingest_asked(str(tmp_path / "b.flac"), []).name == "b"


def test_ingest_pattern_without_quotes_is_refused_with_the_remedy(tmp_path):
    files = [str(write_sound(tmp_path / name)) for name in ("a.wav", "b.wav")]
    with pytest.raises(BadInput, match=r"b\.wav' is a second place.*put a pattern in quotes"):
        ingest_asked(files[0], [*files[1:], "name=band"])


@pytest.mark.parametrize("when", ["grown", "same size", "replaced"])
def test_ingest_file_that_changes_while_it_is_read_is_left_out(tmp_path, monkeypatch, when):
    path = write_sound(tmp_path / "x.wav", 30.0)
    decoding = ingest_pieces.decoding

    def changing(*args):
        if when == "grown":
            path.write_bytes(path.read_bytes() + bytes(2000))
        elif when == "same size":
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        else:
            write_sound(tmp_path / "y.wav", 30.0).replace(path)
        return decoding(*args)

    monkeypatch.setattr(ingest_pieces, "decoding", changing)
    job = TrackJob(Storage.open(tmp_path / "d"), RATE, "mean", Clean(), {})
    outcome = ingest_file(AudioFile(os.fsencode(path), "x.wav", 1), job, {})
    assert "changed while it was read" in outcome.reason
    assert Storage.open(tmp_path / "d").at("tracks").names() == []


def test_ingest_file_that_became_a_fifo_holds_nobody(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    job = TrackJob(Storage.open(tmp_path / "d"), RATE, "mean", Clean(), {})
    outcome = ingest_file(AudioFile(os.fsencode(tmp_path / "x.wav"), "x.wav", 1), job, {})
    assert outcome.reason == "not a regular file"


def ingested(root: Path, source: Path | str, name: str = "band", **settings) -> tuple[Storage, Report]:
    from orchestrator.on_ray.ingest import ingest

    folder = Storage.open(root / "datasets" / name)
    return folder, ingest(IngestConfig(name=name, source=str(source), **settings), folder, lambda *_: None)


@pytest.mark.cluster
def test_ingest_the_same_recording_at_another_level_and_as_mp3_is_kept_once(tmp_path, ray_local):
    source = tmp_path / "band"
    signal = chord(6.0, 44_100, 2)
    write_sound(source / "z other.wav", 6.0, 44_100, 2, seed=9)
    soundfile.write(source / "a.flac", signal, 44_100)
    soundfile.write(source / "b quiet.wav", signal * 0.31, 44_100)
    soundfile.write(source / "c.mp3", signal, 44_100, format="MP3", subtype="MPEG_LAYER_III")
    folder, report = ingested(tmp_path, source)
    assert [track["source"] for track in report.card["tracks"]] == ["a.flac", "z other.wav"]
    reasons = {row["path"]: row["reason"] for row in report.card["skipped"]}
    assert all(reasons[name].startswith("the same recording as a.flac") for name in ("b quiet.wav", "c.mp3"))
    assert "Proof: 0 samples are in two splits; at least 0.250 s lie between" in report.to_text()
    assert len(folder.at("tracks").names()) == 4  # twins stay, so that they need not be decoded again
    assert ingested(tmp_path, source)[1].kept == 4


@pytest.mark.cluster
def test_ingest_whole_tracks_held_out_and_a_changed_file_leaves_nothing_behind(tmp_path, ray_local):
    source = tmp_path / "band"
    for seed in range(5):
        write_sound(source / f"{seed}.wav", 3.0, seed=seed)
    folder, report = ingested(tmp_path, source, split_by="track")
    kinds = [[split for split in SPLITS if track["splits"][split]] for track in report.card["tracks"]]
    assert sorted(kinds) == [["test"], ["train"], ["train"], ["train"], ["valid"]]
    assert "whole tracks" in report.to_text()
    before = set(folder.at("tracks").names())
    write_sound(source / "0.wav", 4.0, seed=77)
    (source / "1.wav").unlink()
    assert ingested(tmp_path, source, split_by="track")[1].kept == 3
    after = set(folder.at("tracks").names())
    assert (len(before & after), len(after)) == (3, 4)


@pytest.mark.cluster
def test_ingest_more_bad_files_than_allowed_refused_with_reasons(tmp_path, ray_local):
    source = tmp_path / "band"
    write_sound(source / "good.wav")
    for name in ("a.wav", "b.wav", "c.mp3"):
        (source / name).write_text(f"words {name}")
    with pytest.raises(
        BadInput, match=r"3 of 4 audio files can't be used, more than max_bad=0.5 .*a\.wav: not audio"
    ):
        ingested(tmp_path, source)
    assert len(ingested(tmp_path, source, max_bad=0.8)[1].card["tracks"]) == 1


@pytest.mark.cluster
def test_ingest_from_an_object_store_gives_the_bytes_of_a_local_ingest(tmp_path, ray_local, monkeypatch):
    source = tmp_path / "band"
    write_sound(source / "deep" / "a.wav", 3.0)
    write_sound(source / "b.flac", 5.0, 44_100, 2, seed=1)
    (source / "cover.jpg").write_bytes(b"x")
    (source / "ranges.csv").write_text("file,start,stop\nb.flac,1,4.5\n")
    local, report = ingested(tmp_path, source)
    stored = Storage(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "band")
    monkeypatch.setattr(audio_folder.Storage, "open", classmethod(lambda cls, where: stored))
    found = scan("s3://bucket/band")
    assert [file.name for file in found.audio] == ["b.flac", "deep/a.wav"]
    monkeypatch.setattr(audio_folder, "_look", lambda where: found)
    monkeypatch.undo()
    monkeypatch.setattr("orchestrator.on_ray.ingest.scan", lambda where: found)
    fetched, again = ingested(tmp_path / "other", "s3://bucket/band")
    for track, same in zip(report.card["tracks"], again.card["tracks"], strict=True):
        assert track == same
        for name in (PCM, "track.json"):
            assert local.at("tracks", track["id"]).read(name) == fetched.at("tracks", track["id"]).read(name)


@pytest.mark.cluster
def test_dataset_page_report_and_export(tmp_path, ray_local):
    source = tmp_path / "band"
    for seed in range(2):
        write_sound(source / f"<script>{seed}.wav", 20.0, seed=seed)
    (source / "words & more.wav").write_text("words")
    folder, report = ingested(tmp_path, source)
    page = Path(write_dataset_page(folder, report))
    text = page.read_text()
    assert "<script>" not in text
    assert "words &amp; more.wav" in text
    assert text.count('class="valid"') == 2
    for track in report.card["tracks"]:
        for name in (PICTURE, EXCERPT, EXCERPT_PICTURE):
            assert f"../tracks/{track['id']}/{name}" in text
            assert (page.parent / ".." / "tracks" / track["id"] / name).stat().st_size > 500
    stamps = {path: path.stat().st_mtime_ns for path in page.parent.rglob("*.*")}
    write_dataset_page(folder, Report(report.card, str(folder)))
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps

    written = export(folder, ExportConfig(chunk_seconds=0.5, num_chunks=100))
    dataset = Dataset.open(folder, tmp_path / "cache")
    pcm = [track[:].astype(np.float32) / 32768 for track in dataset.tracks]
    assert {split: count for split, (_, count) in written.items()} == {"train": 88, "valid": 6, "test": 6}
    for split, (path, count) in written.items():
        chunks = np.load(path, allow_pickle=False)
        assert (chunks.shape, chunks.dtype) == ((count, 8000), np.float16)
        inside = [
            pcm[track][at : at + 8000].astype(np.float16)
            for track, at, _ in dataset.chunks(split, 8000, count).tolist()
        ]
        assert sorted(row.tobytes() for row in chunks) == sorted(row.tobytes() for row in inside)
    with pytest.raises(BadInput, match="lower chunk_seconds"):
        export(folder, ExportConfig(chunk_seconds=600))


def _rms(batch):
    return {"track": batch["track"], "rms": np.sqrt(np.mean((batch["pcm"] / 32768.0) ** 2, axis=1))}


@pytest.mark.cluster
def test_chunks_as_a_ray_dataset_for_map_batches_and_for_workers_that_train_together(tmp_path, ray_local):
    from orchestrator.on_ray.chunks import chunk_dataset
    from tests.made import write_dataset

    folder = Storage.open(tmp_path / "toy")
    write_dataset(folder, tracks=3, samples=RATE)
    dataset = Dataset.open(folder, tmp_path / "cache")
    rows = dataset.chunks("train", 1000, 50)
    expected = {(int(t), int(a)): dataset.tracks[t][a:b] for t, a, b in rows}
    chunks = chunk_dataset(folder, "train", 1000, 50)
    got = chunks.take_all()
    assert len(got) == 50
    for row in got:
        np.testing.assert_array_equal(row["pcm"], expected[int(row["track"][-1]), row["start"]])
    levels = sorted(row["rms"] for row in chunks.map_batches(_rms, batch_format="numpy").take_all())
    np.testing.assert_allclose(
        levels, sorted(np.sqrt(np.mean((x / 32768.0) ** 2)) for x in expected.values())
    )

    heard: list[list[tuple[str, int]]] = [[], []]

    def consume(worker: int, shard) -> None:
        for batch in shard.iter_batches(batch_size=8, batch_format="numpy"):
            heard[worker] += zip(batch["track"].tolist(), batch["start"].tolist(), strict=True)

    shards = chunks.streaming_split(2, equal=True)
    workers = [threading.Thread(target=consume, args=(at, shard)) for at, shard in enumerate(shards)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    together = heard[0] + heard[1]
    assert len(together) == len(set(together)) == 50
    assert len(heard[0]) == len(heard[1]) == 25
    tail = chunk_dataset(folder, "valid", 1000).take_all()[-1]
    assert tail["samples"] <= 1000 == len(tail["pcm"])
    assert not tail["pcm"][tail["samples"] :].any()


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root to mount a tmpfs")
def test_ingest_disk_full_on_a_small_tmpfs_stops_named_and_goes_on_later(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        path = write_sound(tmp_path / "x.wav", 60.0)
        job = TrackJob(Storage.open(disk / "d"), RATE, "mean", Clean(), {})
        file = AudioFile(os.fsencode(path), "x.wav", path.stat().st_size)
        outcome = ingest_file(file, job, {})
        assert "No space left" in outcome.storage
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        outcome = ingest_file(file, job, {})
        assert outcome.track["samples"] == 60 * RATE
        assert json.loads(job.folder.at("tracks", job.folder.at("tracks").names()[0]).read("track.json"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_ingest_no_room_for_the_temporary_file_is_the_storages_fault(tmp_path, monkeypatch):
    def full():
        return Path("/dev/full").open("w+b", buffering=0)

    monkeypatch.setattr("orchestrator.levelling.tempfile.TemporaryFile", full)
    path = write_sound(tmp_path / "x.wav")
    job = TrackJob(Storage.open(tmp_path / "d"), RATE, "mean", Clean(level="peak"), {})
    outcome = ingest_file(AudioFile(os.fsencode(path), "x.wav", 1), job, {})
    assert "can't write a temporary file" in outcome.storage


UNREADABLE = """
import json, os, sys
from orchestrator.audio_folder import scan
from orchestrator.config import Clean
from orchestrator.ingest_track import TrackJob, ingest_file
from samplernn.storage import Storage
found = scan(sys.argv[1])
job = TrackJob(Storage.open(sys.argv[2]), 16_000, "mean", Clean(), {})
reasons = {file.name: ingest_file(file, job, {}).reason for file in found.audio}
print(json.dumps(reasons | {row["path"]: row["reason"] for row in found.skipped}))
"""


def test_ingest_file_and_folder_that_may_not_be_read_are_rows_with_reasons(tmp_path):
    source = tmp_path / "band"
    write_sound(source / "good.wav")
    write_sound(source / "mine.wav", seed=1).chmod(0)
    write_sound(source / "closed" / "x.wav", seed=2)
    (source / "closed").chmod(0)
    command = [sys.executable, "-c", UNREADABLE, str(source), str(tmp_path / "d")]
    if os.geteuid() == 0:  # root reads everything, unless it gives that up
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv (util-linux) when run by root")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        (source / "closed").chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "good.wav": None,
        "mine.wav": "can't be read: Permission denied",
        "closed": "can't be listed: Permission denied",
    }


def test_ingest_names_of_255_bytes_and_with_dots_stay_in_their_folders(tmp_path):
    source, folder = tmp_path / "band", Storage.open(tmp_path / "d")
    names = ["x" * 251 + ".wav", "a..%2f..%2fetc.wav", "a\\..\\..\\up.wav", "-rf.wav", "a\nb.wav"]
    for seed, name in enumerate(names):
        write_sound(source / name, 1.0, seed=seed, format="WAV")
    found = scan(str(source))
    assert len(found.audio) == len(names)
    job = TrackJob(folder, RATE, "mean", Clean(), {})
    for file in found.audio:
        assert ingest_file(file, job, {}).track, file.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["band", "d"]
    assert [path.name for path in folder.local.iterdir()] == ["tracks"]
    assert all(NAME.match(name) for name in folder.at("tracks").names())
    assert len(folder.at("tracks").names()) == len(names)


def test_ingest_of_a_folder_that_names_a_way_up_takes_the_folder_it_leads_to(tmp_path):
    write_sound(tmp_path / "band" / "a.wav")
    (tmp_path / "other").mkdir()
    found = scan(str(tmp_path / "other" / ".." / "band"))
    assert (found.root, [file.name for file in found.audio]) == (tmp_path / "band", ["a.wav"])
