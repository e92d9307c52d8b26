"""The chunk store: what was ingested is read back, chunks lie in their split, damage is found."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplernn import chunks, commit
from samplernn.chunks import BATCH, CARD, PCM, Dataset, Track, pcm_to_arrow
from samplernn.errors import BadInput, Damaged
from samplernn.storage import Storage
from tests.made import tone, write_dataset

RATE = 16_000


@pytest.fixture
def folder(tmp_path) -> Storage:
    storage = Storage.open(tmp_path / "data")
    write_dataset(storage, tracks=3, samples=RATE * 4)
    return storage


def cache(folder: Storage):
    return folder.local.parent / "cache"


def test_arrow_round_trip_across_batches(tmp_path):
    pcm = np.random.default_rng(0).integers(-32768, 32768, 2 * BATCH + 77, dtype=np.int16)
    cuts = [0, 1, 1, 5000, BATCH - 1, BATCH, BATCH + 3, len(pcm)]
    data = pcm_to_arrow([pcm[a:b] for a, b in itertools.pairwise(cuts)])
    assert data == pcm_to_arrow([pcm])  # the blocks' cuts leave no trace
    (tmp_path / PCM).write_bytes(data)
    track = Track(tmp_path / PCM)
    for start, stop in [(0, 10), (BATCH - 5, BATCH + 5), (0, len(pcm)), (2 * BATCH, len(pcm)), (7, 7)]:
        out = np.zeros(stop - start + 3, np.int16)
        track.read(start, stop, out)
        np.testing.assert_array_equal(out[: stop - start], pcm[start:stop])
        assert not out[stop - start :].any()


@pytest.mark.parametrize("samples", [0, 10, BATCH])
def test_track_read_beyond_its_end_refused(tmp_path, samples):
    (tmp_path / PCM).write_bytes(pcm_to_arrow([np.zeros(samples, np.int16)]))
    with pytest.raises(IndexError):
        Track(tmp_path / PCM).read(samples, samples + 1, np.zeros(1, np.int16))


def test_dataset_chunks_hold_the_ingested_samples(folder):
    dataset = Dataset.open(folder, cache(folder))
    for track, start, stop in dataset.chunks("train", 1000, 50):
        out = np.zeros(stop - start, np.int16)
        dataset.tracks[track].read(start, stop, out)
        np.testing.assert_array_equal(out, tone(RATE * 4, track)[start:stop])


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("count", [None, 1, 7, 500])
@pytest.mark.parametrize("length", [100, 999, 10**9])
def test_dataset_chunks_stay_inside_their_split(folder, split, count, length):
    dataset = Dataset.open(folder, cache(folder))
    rows = dataset.chunks(split, length, count)
    for track, start, stop in rows:
        assert 0 < stop - start <= length
        assert any(t == track and a <= start and stop <= b for t, a, b in dataset.regions[split])
    if count and length < 10**9:
        assert len(rows) == count
        assert (rows[:, 2] - rows[:, 1] == length).all()


def test_dataset_chunks_end_to_end_cover_the_split_once(folder):
    dataset = Dataset.open(folder, cache(folder))
    rows = dataset.chunks("train", 777, None)
    covered = sorted((t, s) for t, a, b in rows for s in range(a, b))
    assert covered == sorted((t, s) for t, a, b in dataset.regions["train"] for s in range(a, b))


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    length=st.integers(1, 100),
    count=st.integers(1, 60),
)
def test_evenly_spaced_chunks_stay_in_their_regions(lengths, length, count):
    regions = [(track, 5, 5 + size) for track, size in enumerate(lengths)]
    rows = chunks._evenly_spaced(regions, length, count)
    for track, start, stop in rows:
        assert 5 <= start < stop <= 5 + lengths[track]
        assert stop - start == min(length, lengths[track])


def test_dataset_seconds_and_digest(folder):
    dataset = Dataset.open(folder, cache(folder))
    assert dataset.seconds("valid") == pytest.approx(3 * (0.4 * RATE - 10) / RATE)
    assert dataset.digest == Dataset.open(folder, cache(folder)).digest
    card = commit.read_record(folder, CARD)
    commit.write_record(folder, CARD, {**card, "name": "other"})
    assert dataset.digest != Dataset.open(folder, cache(folder)).digest


def test_dataset_that_is_not_there_refused_with_the_remedy(tmp_path):
    with pytest.raises(BadInput, match="orchestrator ingest"):
        Dataset.open(Storage.open(tmp_path / "none"), tmp_path / "cache")


def test_dataset_empty_split_refused(folder):
    card = commit.read_record(folder, CARD)
    for track in card["tracks"]:
        track["splits"]["test"] = []
    commit.write_record(folder, CARD, card)
    with pytest.raises(BadInput, match="test split"):
        Dataset.open(folder, cache(folder)).chunks("test", 100, None)


@pytest.mark.parametrize("keep", [0, 1, 0.5, -1])
def test_dataset_truncated_track_found(folder, keep):
    path = folder.local / "tracks" / "track-1" / PCM
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(Damaged, match="track-1"):
        Dataset.open(folder, cache(folder))


def test_dataset_flipped_byte_in_a_track_or_the_card_found(folder):
    for path in (folder.local / "tracks" / "track-2" / PCM, folder.local / CARD):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(Damaged):
            Dataset.open(folder, cache(folder))


def test_dataset_track_without_its_manifest_refused_with_the_remedy(folder):
    (folder.local / "tracks" / "track-0" / commit.MANIFEST).unlink()
    with pytest.raises(Damaged, match="ingest the folder again"):
        Dataset.open(folder, cache(folder))
