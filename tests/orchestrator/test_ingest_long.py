"""Long files in pieces: on a real Ray, with the bytes of a decoder that went through the whole file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from orchestrator import ingest_pieces
from orchestrator.audio_folder import AudioFile
from orchestrator.config import Clean, IngestConfig
from orchestrator.ingest_long import ingest_piece, look_long
from orchestrator.ingest_pieces import PIECES
from orchestrator.ingest_track import TrackJob, ingest_file
from samplernn import commit, pieces
from samplernn.audio import decode
from samplernn.chunks import PCM, Track
from samplernn.storage import Storage
from tests.sounds import cut, write_sound

RATE = 8_000


@pytest.fixture
def short_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "LONG_SECONDS", 10)
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 4)


def job_of(folder: Path, **clean) -> TrackJob:
    return TrackJob(Storage.open(folder), RATE, "mean", Clean(**clean), {})


def audio_file(path: Path) -> AudioFile:
    return AudioFile(os.fsencode(path), path.name, path.stat().st_size)


def contents(folder: Storage) -> dict[str, bytes]:
    tracks = folder.at("tracks").local
    return {str(p.relative_to(tracks)): p.read_bytes() for p in tracks.rglob("*") if p.is_file()}


def test_pieces_made_beforehand_or_not_give_the_same_track(tmp_path, short_pieces, monkeypatch):
    file = audio_file(write_sound(tmp_path / "x.flac", 18.0, 44_100, 2))
    alone, helped = job_of(tmp_path / "alone", level="peak"), job_of(tmp_path / "helped", level="peak")
    assert ingest_file(file, alone, {}).track
    long = look_long(file, helped)
    assert [start for start, _ in long.cuts] == [0, 4, 8, 12]
    for piece in long.cuts[:3]:
        assert ingest_piece(long, piece, helped) is None
    damaged = helped.folder.at(PIECES, long.sha256, "4")
    damaged.write("signal.f32", damaged.read("signal.f32")[:-4])
    decoded = []
    decoding = ingest_pieces.decoding

    def noting(*args):
        decoded.append(args[-1])
        return decoding(*args)

    monkeypatch.setattr(ingest_pieces, "decoding", noting)
    assert ingest_file(file, helped, {}).track
    assert decoded == [(4, 8), (12, None)]  # the one that was damaged and the one that was not there
    assert contents(alone.folder) == contents(helped.folder)
    assert look_long(file, helped) is None  # committed: nothing to do


def test_piece_of_a_file_that_changed_since_it_was_hashed_is_not_kept(tmp_path, short_pieces):
    path = write_sound(tmp_path / "x.wav", 18.0)
    job = job_of(tmp_path / "d")
    long = look_long(audio_file(path), job)
    write_sound(path, 18.0, seed=1)
    ingest_piece(long, long.cuts[0], job)
    assert job.folder.at(PIECES).names() == []


def test_long_file_that_is_truncated_is_told_once_by_its_track(tmp_path, short_pieces):
    path = cut(write_sound(tmp_path / "x.flac", 18.0, 44_100, 2), 0.5)
    job = job_of(tmp_path / "d")
    long = look_long(audio_file(path), job)
    for piece in long.cuts:
        assert ingest_piece(long, piece, job) is None
    outcome = ingest_file(audio_file(path), job, {})
    assert "truncated" in outcome.reason
    assert job.folder.at("tracks").names() == []


@pytest.mark.cluster
def test_ingest_long_file_in_pieces_on_ray_and_none_is_left(tmp_path, ray_local):
    from orchestrator.on_ray.ingest import ingest

    path = write_sound(tmp_path / "band" / "long.flac", 1300.0, RATE)
    write_sound(tmp_path / "band" / "short.flac", 20.0, RATE, seed=1)
    folder, heard = Storage.open(tmp_path / "d"), []
    config = IngestConfig(name="band", source=str(tmp_path / "band"), sample_rate=4_000)
    report = ingest(config, folder, lambda *at: heard.append(at))
    assert sorted(name for _, _, name in heard[:4]) == [f"long.flac, piece {n} of 4" for n in range(1, 5)]
    assert sorted(name for _, _, name in heard[4:]) == ["long.flac", "short.flac"]
    assert not folder.exists(PIECES)
    blocks: list[np.ndarray] = []
    decode(path, 4_000, blocks.append)
    kept = Track(folder.at("tracks", report.card["tracks"][0]["id"]).local / PCM)[:]
    np.testing.assert_array_equal(kept, np.concatenate(blocks))
    again = ingest(config, folder, lambda *at: heard.append(at))
    assert again.kept == 2
    assert len(heard) == 8  # no piece was made anew
    assert commit.read_record(folder, "dataset.json") == report.card
