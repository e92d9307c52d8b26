"""Ingest: a folder as people have them, on a real Ray, into a dataset that can be trusted."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from orchestrator.audio_folder import scan
from orchestrator.config import IngestConfig
from orchestrator.drift import check_same_config
from orchestrator.ingest_report import Report
from orchestrator.ingest_track import track_id
from orchestrator.workspace import CONFIG
from samplernn import commit
from samplernn.chunks import CARD, PCM, Dataset, Track
from samplernn.errors import BadInput, Damaged, StorageError
from samplernn.splits import split_track
from samplernn.storage import Storage
from tests.sounds import chord, cut, wav_bytes, write_sound

MUSIC = Path(__file__).resolve().parents[2] / "demo" / "music"


@pytest.fixture
def source(tmp_path) -> Path:
    (tmp_path / "band").mkdir()
    return tmp_path / "band"


class Workshop:
    """One workspace folder and its ingests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.heard: list[tuple[int, int, str]] = []

    def folder(self, name: str = "band") -> Storage:
        return Storage.open(self.root / "datasets" / name)

    def ingest(self, source: Path, name: str = "band", **settings) -> Report:
        from orchestrator.on_ray.ingest import ingest

        self.heard = []
        config = IngestConfig(name=name, source=str(source), **settings)
        return ingest(config, self.folder(name), lambda *at: self.heard.append(at))


@pytest.fixture
def workshop(tmp_path, ray_local) -> Workshop:
    return Workshop(tmp_path / "workspace")


def reasons(report: Report) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in report.card["skipped"]}


def stamps(folder: Storage) -> dict[str, int]:
    """When each track's PCM was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder.local / "tracks").glob(f"*/{PCM}")}


def every_file(folder: Storage) -> dict[str, bytes]:
    return {str(p.relative_to(folder.local)): p.read_bytes() for p in folder.local.rglob("*") if p.is_file()}


@pytest.mark.cluster
def test_ingest_every_format_into_one_dataset(workshop, source):
    made = {
        "a8.wav": (8_000, 1, "WAV", "PCM_U8"), "b16.wav": (22_050, 2, "WAV", "PCM_16"),
        "c24.wav": (44_100, 2, "WAVEX", "PCM_24"), "d32.WAV": (48_000, 6, "WAV", "PCM_32"),
        "ef.wav": (96_000, 1, "WAV", "FLOAT"), "f.flac": (44_100, 2, "FLAC", "PCM_24"),
        "g.ogg": (44_100, 2, "OGG", "VORBIS"), "h.opus": (48_000, 2, "OGG", "OPUS"),
        "deep/er/i.mp3": (44_100, 2, "MP3", "MPEG_LAYER_III"), "j.aiff": (32_000, 1, "AIFF", "PCM_16"),
    }  # fmt: skip
    for seed, (name, (rate, channels, container, subtype)) in enumerate(made.items()):
        write_sound(source / name, 3.0, rate, channels, seed, format=container, subtype=subtype)
    report = workshop.ingest(source, sample_rate=16_000, license="CC0")
    rows = {track["source"]: track for track in report.card["tracks"]}
    assert list(rows) == sorted(made)
    assert report.card["skipped"] == []
    for seed, (name, (rate, channels, _, _)) in enumerate(made.items()):
        row = rows[name]
        assert (row["source_rate"], row["channels"]) == (rate, channels)
        assert abs(row["samples"] - 48_000) < 200
        path = workshop.folder().local / "tracks" / row["id"] / PCM
        pcm = np.zeros(row["samples"], np.int16)
        Track(path).read(0, len(pcm), pcm)
        level = np.sqrt(np.mean(chord(3.0, rate, channels, seed).mean(axis=1) ** 2))
        assert row["measures"]["rms_dbfs"] == pytest.approx(20 * np.log10(level), abs=0.3)
        assert row["measures"]["flatness"] < 0.2
    dataset = Dataset.open(workshop.folder(), workshop.root / "cache")
    assert dataset.seconds("train") > dataset.seconds("valid") > 1
    assert sorted(name for _, _, name in workshop.heard) == sorted(made)
    assert [done for done, total, _ in workshop.heard] == list(range(1, len(made) + 1))


@pytest.mark.cluster
def test_ingest_bad_files_among_good_ones_are_rows_with_reasons(workshop, source):
    write_sound(source / "good.wav")
    write_sound(source / "good too.flac", 3.0, 44_100, 2, 1)
    (source / "copy.wav").write_bytes((source / "good.wav").read_bytes())
    (source / "zero.wav").write_bytes(b"")
    cut(write_sound(source / "cut.wav", seed=2), 0.5)
    cut(write_sound(source / "cut.ogg", seed=3), 0.5)
    (source / "words.wav").write_text("these are words")
    (source / "page.mp3").write_text("<!DOCTYPE html>")
    (source / "header.wav").write_bytes(wav_bytes(0))
    (source / "wide.wav").write_bytes(wav_bytes(100, channels=1024))
    (source / "LICENSE.txt").write_text("CC0")
    (source / "cover.jpg").write_bytes(b"\xff\xd8")
    (source / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (source / ".hidden.wav").write_bytes(b"")
    os.mkfifo(source / "pipe.wav")
    (source.parent / "elsewhere.wav").write_bytes(wav_bytes())
    (source / "out.wav").symlink_to(source.parent / "elsewhere.wav")
    (source / "loop").symlink_to(source)
    (source / "away").symlink_to(source.parent)
    (source / "dangling.wav").symlink_to(source / "nothing.wav")
    (source / "round.wav").symlink_to(source / "round.wav")
    write_sound(source / "brief.wav", 0.5, seed=4)
    with open(os.fsencode(source) + b"/caf\xe9\n.wav", "wb") as stream:  # noqa: PTH123
        stream.write(write_sound(source.parent / "named.wav", seed=5).read_bytes())
    report = workshop.ingest(source, max_bad=0.9)
    found = reasons(report)
    assert [track["source"] for track in report.card["tracks"]] == [
        "brief.wav",
        "caf\\xe9\\n.wav",
        "copy.wav",
        "good too.flac",
    ]
    expected = {
        "LICENSE.txt": "not audio (.txt)",
        "away": "leads out of the folder",
        "cover.jpg": "not audio (.jpg)",
        "cut.ogg": "truncated",
        "cut.wav": "truncated",
        "dangling.wav": "can't be read",
        "good.wav": "duplicate of copy.wav",
        "header.wav": "header only",
        "out.wav": "leads out of the folder",
        "page.mp3": "not audio",
        "pipe.wav": "not a regular file",
        "round.wav": "can't be read",
        "song.m4a": "damaged",
        "wide.wav": "1,024 channels",
        "words.wav": "not audio",
        "zero.wav": "0 bytes",
    }
    assert list(found) == sorted(expected)
    for path, reason in expected.items():
        assert reason in found[path]
    text = report.to_text()
    assert "caf\\xe9\\n.wav" in text
    assert "words.wav" in text
    assert "brief.wav: too short to hold anything out" in text
    assert (workshop.folder().local / "report.txt").read_text() == report.to_text(most=None)


@pytest.mark.cluster
def test_ingest_same_content_twice_kept_once(workshop, source):
    write_sound(source / "a" / "song.wav")
    shutil.copytree(source / "a", source / "b")
    shutil.copy(source / "a" / "song.wav", source / "other name.wav")
    import soundfile

    pcm, rate = soundfile.read(source / "a" / "song.wav", dtype="int16")
    soundfile.write(source / "song.flac", pcm, rate)
    report = workshop.ingest(source)
    assert [track["source"] for track in report.card["tracks"]] == ["a/song.wav"]
    assert reasons(report) == {
        "b/song.wav": "duplicate of a/song.wav",
        "other name.wav": "duplicate of a/song.wav",
        "song.flac": "the same audio as a/song.wav",
    }


@pytest.mark.cluster
def test_ingest_twice_gives_the_same_bytes_and_again_decodes_nothing(workshop, source):
    for path in MUSIC.glob("*.ogg"):
        shutil.copy(path, source)
    first = workshop.ingest(source)
    before, written = every_file(workshop.folder()), stamps(workshop.folder())
    again = workshop.ingest(source)
    assert (first.kept, again.kept) == (0, 4)
    assert stamps(workshop.folder()) == written
    assert again.card == first.card
    other = Workshop(workshop.root.parent / "elsewhere")
    other.ingest(source)
    after = every_file(other.folder())
    for files in (before, after):
        files.pop("report.txt")  # names its own folder
    assert before == after


@pytest.mark.cluster
def test_ingest_splits_of_real_music_share_no_sample_and_survive_reading(workshop):
    report = workshop.ingest(MUSIC)
    for track in report.card["tracks"]:
        owner = np.zeros(track["samples"], np.int8)
        for regions in track["splits"].values():
            for start, stop in regions:
                owner[start:stop] += 1
        assert owner.max() == 1
        settings = {key: report.card["config"][key] for key in ("valid", "test", "guard_seconds", "seed")}
        assert track["splits"] == split_track([[0, track["samples"]]], 16_000, track["id"], **settings)
    minutes = report.minutes_out
    assert minutes["valid"] == pytest.approx(0.06 * 160 / 60, rel=1e-3)
    assert sum(minutes.values()) < report.minutes_in == pytest.approx(160 / 60)
    assert Dataset.open(workshop.folder(), workshop.root / "cache").sample_rate == 16_000


@pytest.mark.cluster
@pytest.mark.parametrize("harm", ["manifest", "half", "flip", "empty"])
def test_ingest_damaged_track_is_rebuilt_and_no_other(workshop, source, harm):
    write_sound(source / "a.wav")
    write_sound(source / "b.wav", seed=1)
    report = workshop.ingest(source)
    before, written = every_file(workshop.folder()), stamps(workshop.folder())
    hurt, sound = (track["id"] for track in report.card["tracks"])
    at = workshop.folder().local / "tracks" / hurt
    data = bytearray((at / PCM).read_bytes())
    if harm == "manifest":
        (at / commit.MANIFEST).unlink()
    elif harm == "half":
        (at / PCM).write_bytes(data[: len(data) // 2])
    elif harm == "empty":
        (at / PCM).write_bytes(b"")
    else:
        data[len(data) // 2] ^= 4
        (at / PCM).write_bytes(data)
    assert workshop.ingest(source).kept == 1
    assert stamps(workshop.folder())[sound] == written[sound]
    after = every_file(workshop.folder())
    for files in (before, after):
        files.pop("report.txt")  # says what was kept
    assert after == before


@pytest.mark.cluster
def test_ingest_interrupted_run_goes_on_and_ends_as_an_undisturbed_one(workshop, source):
    for seed in range(5):
        write_sound(source / f"{seed}.wav", seed=seed)
    from orchestrator.on_ray.ingest import ingest

    def stop(done: int, total: int, name: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    config = IngestConfig(name="band", source=str(source))
    with pytest.raises(KeyboardInterrupt):
        ingest(config, workshop.folder(), stop)
    assert not workshop.folder().exists(CARD)
    assert workshop.ingest(source).kept >= 3
    other = Workshop(workshop.root.parent / "elsewhere")
    undisturbed = other.ingest(source)
    assert commit.read_record(workshop.folder(), CARD) == undisturbed.card


@pytest.mark.cluster
def test_ingest_new_file_only_is_decoded(workshop, source):
    write_sound(source / "b.wav")
    workshop.ingest(source)
    written = stamps(workshop.folder())
    write_sound(source / "a.wav", seed=1)
    report = workshop.ingest(source)
    assert report.kept == 1
    assert [track["source"] for track in report.card["tracks"]] == ["a.wav", "b.wav"]
    assert written.items() < stamps(workshop.folder()).items()


@pytest.mark.cluster
def test_ingest_other_config_under_the_same_name_refused_with_the_difference(workshop, source):
    write_sound(source / "a.wav")
    workshop.ingest(source)
    before = every_file(workshop.folder())
    with pytest.raises(BadInput) as raised:
        workshop.ingest(source, sample_rate=32_000, guard_seconds=0.1)
    assert "guard_seconds: 0.25 -> 0.1; sample_rate: 16000 -> 32000" in str(raised.value)
    assert every_file(workshop.folder()) == before
    assert len(workshop.ingest(source, "other", sample_rate=32_000).card["tracks"]) == 1


@pytest.mark.cluster
def test_ingest_run_killed_before_its_card_may_be_done_with_another_config(workshop, source):
    write_sound(source / "a.wav")
    workshop.ingest(source)
    workshop.folder().delete(CARD)
    workshop.folder().delete(CONFIG)
    report = workshop.ingest(source, sample_rate=32_000)
    assert (report.kept, report.card["tracks"][0]["samples"]) == (0, 96_000)


@pytest.mark.cluster
def test_ingest_second_driver_at_once_refused(workshop, source):
    from orchestrator.lease import hold

    write_sound(source / "a.wav")
    with hold(workshop.folder()), pytest.raises(BadInput, match="in use"):
        workshop.ingest(source)


@pytest.mark.cluster
def test_ingest_nothing_usable_refused_and_nothing_left(workshop, source):
    for name in ("a.wav", "b.mp3"):
        (source / name).write_text(f"words {name}")
    with pytest.raises(BadInput, match=r"no usable audio \(a\.wav: not audio"):
        workshop.ingest(source)
    assert not workshop.folder().local.exists()


@pytest.mark.cluster
def test_ingest_only_short_tracks_refused_with_the_remedy(workshop, source):
    write_sound(source / "a.wav", 1.0)
    with pytest.raises(BadInput, match="no track is long enough"):
        workshop.ingest(source)
    assert not workshop.folder().exists(CARD)
    assert not workshop.folder().exists(CONFIG)


@pytest.mark.cluster
def test_ingest_output_that_cannot_be_written_refused(workshop, source):
    write_sound(source / "a.wav")
    workshop.root.write_text("a file stands in the place of the workspace")
    with pytest.raises(StorageError, match="can't create"):
        workshop.ingest(source)


@pytest.mark.cluster
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_ingest_storage_full_stops_with_a_named_error_and_goes_on_later(workshop, source):
    write_sound(source / "a.wav")
    at = (
        workshop.folder().local / "tracks" / track_id("a.wav", commit.sha256((source / "a.wav").read_bytes()))
    )
    at.mkdir(parents=True)
    (at / PCM).symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left"):
        workshop.ingest(source)
    assert not workshop.folder().exists(CARD)
    (at / PCM).unlink()
    assert len(workshop.ingest(source).card["tracks"]) == 1


def test_scan_no_folder_a_text_file_and_an_empty_folder_refused(source):
    with pytest.raises(BadInput, match="there is no folder"):
        scan(str(source / "none"))
    (source / "a.txt").write_text("x")
    with pytest.raises(BadInput, match=r"holds no audio files \(a\.txt: not audio \(\.txt\)\)"):
        scan(str(source / "a.txt"))
    (source / "a.txt").unlink()
    with pytest.raises(BadInput, match="holds no audio files; audio is"):
        scan(str(source))


def test_scan_folder_of_text_files_refused_with_the_first_reasons(source):
    for index in range(9):
        (source / f"{index}.txt").write_text("x")
    with pytest.raises(BadInput) as raised:
        scan(str(source))
    assert r"0.txt: not audio (.txt); 1.txt" in str(raised.value)
    assert "and 6 more" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_scan_follows_links_inside_the_folder_and_no_others(source):
    write_sound(source / ".store" / "object.wav")
    (source / "annexed.wav").symlink_to(source / ".store" / "object.wav")
    (source / "loop.wav").symlink_to(source / "loop.wav")
    found = scan(str(source))
    assert [file.name for file in found.audio] == ["annexed.wav"]
    assert [row["path"] for row in found.skipped] == ["loop.wav"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Deep/My Song (live) №2.flac", "my-song-live-2-01234567"),
        ("...wav", "track-01234567"),
        ("日本.wav", "track-01234567"),
        ("x" * 255 + ".wav", "x" * 40 + "-01234567"),
    ],
)
def test_track_id_is_a_folder_name(name, expected):
    assert track_id(name, "0123456789abcdef") == expected


def test_drift_same_config_passes_and_a_torn_first_record_is_written_anew(tmp_path):
    folder = Storage.open(tmp_path / "d")
    config = IngestConfig(name="a", source="/music")
    check_same_config(folder, CONFIG, config)
    whole = folder.read(CONFIG)
    check_same_config(folder, CONFIG, config)
    folder.write(CONFIG, whole[: len(whole) // 2])
    check_same_config(folder, CONFIG, config)
    assert folder.read(CONFIG) == whole


def test_drift_another_config_or_a_damaged_record_refused(tmp_path):
    folder = Storage.open(tmp_path / "d")
    check_same_config(folder, CONFIG, IngestConfig(name="a", source="/music"))
    with pytest.raises(BadInput, match='source: "/music" -> "/noise"'):
        check_same_config(folder, CONFIG, IngestConfig(name="a", source="/noise"))
    body = json.loads(folder.read(CONFIG))
    folder.write(CONFIG, commit.to_json({**body, "seed": 7}))
    with pytest.raises(Damaged):
        check_same_config(folder, CONFIG, IngestConfig(name="a", source="/music"))


@pytest.mark.cluster
def test_ingest_killed_worker_costs_nothing_but_time(workshop, source):
    """SIGKILL of the first worker that is seen at a track; Ray Data runs its task again."""
    for seed in range(4):
        write_sound(source / f"{seed}.flac", 120, 44_100, 1, seed)
    victims: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while not victims and not over.is_set():
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "samplernn.decode_process" in process.cmdline():
                        victims.append(process.ppid())
                        os.kill(victims[0], signal.SIGKILL)
                        return

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        report = workshop.ingest(source)
    finally:
        over.set()
        hunter.join()
    assert victims
    assert [track["source"] for track in report.card["tracks"]] == [f"{seed}.flac" for seed in range(4)]
    assert report.card["skipped"] == []
    Dataset.open(workshop.folder(), workshop.root / "cache")
