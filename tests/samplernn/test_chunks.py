"""The chunk store: what was ingested is read back, chunks lie in their split, damage is found."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow.fs as pafs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplernn import chunks, commit
from samplernn.chunks import BATCH, CARD, PCM, Dataset, Track, pcm_to_arrow
from samplernn.config import TrainConfig
from samplernn.errors import BadInput, Damaged
from samplernn.splits import shared, split_by_track, split_track
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


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    length=st.integers(1, 100),
    hop=st.integers(1, 200),
)
def test_chunks_by_hop_start_every_hop_stay_inside_and_reach_the_end(lengths, length, hop):
    regions = [(track, 5, 5 + size) for track, size in enumerate(lengths)]
    rows = chunks._every(regions, length, hop)
    for track, start, stop in regions:
        own = [row for row in rows if row[0] == track]
        assert [row[1] for row in own] == list(range(start, start + hop * len(own), hop))
        assert all(start <= a < b <= stop and b - a <= length for _, a, b in own)
        assert all(b - a == length for _, a, b in own[:-1])
        if hop <= length:
            assert own[-1][2] == stop


@settings(max_examples=200)
@given(data=st.data())
def test_no_sample_of_a_train_chunk_is_in_a_valid_or_test_chunk_whatever_the_parameters(data):
    """The promise of the dataset, over usable passages, ways to split and ways to lay chunks."""
    tracks = {}
    for name in data.draw(
        st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=4, unique=True)
    ):
        edges = sorted(set(data.draw(st.lists(st.integers(0, 4000), min_size=2, max_size=8))))
        if len(edges) > 1:
            tracks[name] = [list(pair) for pair in itertools.pairwise(edges)][:: data.draw(st.integers(1, 2))]
    shares = {name: data.draw(st.floats(0.01, 0.49)) for name in ("valid", "test")}
    seed = data.draw(st.integers(0, 2**32 - 1))
    if data.draw(st.booleans()):
        splits = split_by_track(tracks, **shares, seed=seed)
    else:
        guard = data.draw(st.floats(0, 0.5))
        splits = {
            name: split_track(usable, 300, name, **shares, guard_seconds=guard, seed=seed)
            for name, usable in tracks.items()
        }
    card = {"tracks": [{"splits": splits[name]} for name in tracks]}
    dataset = Dataset("d", 300, "", (), chunks.regions_of(card))
    way = data.draw(st.sampled_from(["num_chunks", "hop", "overlap"]))
    ways = {"num_chunks": st.integers(1, 200), "hop": st.floats(0.003, 5), "overlap": st.floats(0, 0.99)}
    config = TrainConfig(chunk_seconds=data.draw(st.floats(0.001, 8)), **{way: data.draw(ways[way])})
    length, hop = config.chunk_samples(300)
    heard: dict[str, set[tuple[int, int]]] = {}
    for split in chunks.SPLITS:
        rows = (
            dataset.chunks(split, length, config.num_chunks, hop).tolist() if dataset.regions[split] else []
        )
        heard[split] = {(track, at) for track, start, stop in rows for at in range(start, stop)}
        usable = list(tracks.values())
        assert all(any(a <= start and stop <= b for a, b in usable[track]) for track, start, stop in rows)
    assert not heard["train"] & (heard["valid"] | heard["test"])
    assert not heard["valid"] & heard["test"]
    assert shared(splits.values())[0] == 0


def remote(folder: Storage) -> Storage:
    """The same folder as an object store shows it: not on this machine's own file system."""
    return Storage(pafs.SubTreeFileSystem(str(folder.local), folder.fs), "")


def test_dataset_on_an_object_store_is_fetched_once_and_shared(folder, tmp_path):
    first = Dataset.open(remote(folder), tmp_path / "cache")
    copies = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.arrow")}
    assert len(copies) == 3
    again = Dataset.open(remote(folder), tmp_path / "cache")
    assert {path: path.stat().st_mtime_ns for path in copies} == copies
    for dataset in (first, again):
        np.testing.assert_array_equal(dataset.tracks[1][100:900], tone(RATE * 4, 1)[100:900])


@pytest.mark.parametrize("harm", ["truncate", "flip"])
def test_dataset_copy_that_was_damaged_is_fetched_anew_beside_the_old_one(folder, tmp_path, harm):
    held = Dataset.open(remote(folder), tmp_path / "cache")
    path = sorted((tmp_path / "cache").glob("*.arrow"))[0]
    data = path.read_bytes()
    path.unlink()  # a trial may still have the old file mapped
    path.write_bytes(data[:100] if harm == "truncate" else data[:-1] + bytes([data[-1] ^ 1]))
    Dataset.open(remote(folder), tmp_path / "cache")
    assert path.read_bytes() == data
    np.testing.assert_array_equal(held.tracks[0][:50], tone(RATE * 4, 0)[:50])


def test_dataset_damaged_on_the_object_store_refused(folder, tmp_path):
    path = folder.local / "tracks" / "track-1" / PCM
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged, match="track-1"):
        Dataset.open(remote(folder), tmp_path / "cache")


def test_track_is_read_as_an_array_is(folder):
    track, expected = Dataset.open(folder, cache(folder)).tracks[0], tone(RATE * 4, 0)
    assert len(track) == len(expected)
    for part in (slice(None), slice(5, 9), slice(-7, None), slice(10, 3), slice(60_000, 10**9)):
        np.testing.assert_array_equal(track[part], expected[part])


def test_train_config_takes_one_way_to_lay_chunks():
    assert TrainConfig().chunk_samples(16_000) == (128_000, None)
    assert TrainConfig(hop=2.0).chunk_samples(16_000) == (128_000, 32_000)
    assert TrainConfig(overlap=0.75).chunk_samples(16_000) == (128_000, 32_000)
    assert TrainConfig(hop=2.0).num_chunks is None
    assert TrainConfig.model_validate(TrainConfig(overlap=0).model_dump()).num_chunks is None
    with pytest.raises(ValueError, match="num_chunks and hop each set where chunks start"):
        TrainConfig(num_chunks=6400, hop=2.0)
