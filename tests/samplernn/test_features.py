"""Local conditioning: aligned with the audio, exact means, and into the model."""

from __future__ import annotations

import numpy as np
import pytest

from samplernn.chunks import Dataset
from samplernn.config import ModelConfig
from samplernn.features import HOP, frame_means, measure_feature, measure_features
from samplernn.storage import Storage
from samplernn.windows import ChunkBatch
from tests.made import write_dataset


def clicks(*at: int, samples: int = 16_000) -> np.ndarray:
    pcm = np.zeros(samples, np.int16)
    for where in at:
        pcm[where : where + 200] = (8000 * np.sin(np.arange(200) * 0.9)).astype(np.int16)
    return pcm


def onset(pcm: np.ndarray) -> np.ndarray:
    return measure_features(pcm, ["onset"])[:, 0]


def plain_onset(pcm: np.ndarray) -> np.ndarray:
    """Row by row, in float64."""
    rows = -(-len(pcm) // HOP)
    padded = np.concatenate([np.zeros(448), pcm / 32768, np.zeros(2048)])
    spectra = [
        np.abs(np.fft.rfft(padded[row * HOP : row * HOP + 1024] * np.hanning(1024))) for row in range(rows)
    ]
    loud = np.log1p(100 * np.array(spectra))
    flux = np.maximum(np.diff(loud, axis=0, prepend=loud[:1]), 0).mean(axis=1)
    return np.clip(flux / np.percentile(flux, 99), 0, 1)


@pytest.mark.parametrize("samples", [1, 127, 128, 5000, 4096 * 128, 1_200_000])
def test_onset_strength_is_what_its_definition_says_wherever_the_audio_was_cut(samples):
    pcm = np.random.default_rng(samples).normal(0, 3000, samples).astype(np.int16)
    pcm[samples // 2 :] //= 8
    whole = onset(pcm)
    np.testing.assert_allclose(whole, plain_onset(pcm) if samples > HOP else 0, atol=2e-4)
    for size in (100_003, 777_777):
        blocks = (pcm[at : at + size] for at in range(0, samples, size))
        np.testing.assert_array_equal(measure_feature(blocks, "onset"), whole)


def test_onsets_are_where_the_notes_begin():
    strength = onset(clicks(4000, 9000))
    assert strength.shape == (125,)
    assert float(strength.max()) == 1.0
    for where in (4000, 9000):
        near = strength[where // HOP - 5 : where // HOP + 2]
        assert float(near.max()) > 0.5
    assert float(strength[45:60].max()) < 0.05


def test_silence_has_no_onsets():
    assert not onset(np.zeros(3000, np.int16)).any()
    assert onset(np.zeros(0, np.int16)).shape == (0,)


@pytest.mark.parametrize(("start", "size"), [(0, 16), (37, 16), (100, 64), (5, 300), (128, 128)])
def test_frame_means_are_the_means_of_the_samples(start, size):
    values = np.random.default_rng(0).random((20, 2)).astype(np.float32)
    samples = np.concatenate([np.repeat(values, HOP, axis=0), np.zeros((5000, 2))])
    expected = samples[start : start + 9 * size].reshape(9, size, 2).mean(axis=1)
    assert np.allclose(frame_means(values, start, 9, size), expected, atol=1e-6)


def test_a_chunks_features_are_those_of_its_own_samples(tmp_path):
    write_dataset(Storage.open(tmp_path / "data"))
    dataset = Dataset.open(Storage.open(tmp_path / "data"), tmp_path / "cache")
    model = ModelConfig(frame_sizes=(4, 16), dim=8, n_rnn=1, skip_conn=False, features=("onset",))
    rows = np.array([[0, 1000, 1500], [1, 320, 720]])
    chunk = ChunkBatch(dataset, rows, model, seq_len=256, length=512)
    windows = [chunk.window(index).features for index in range(chunk.windows)]
    assert [w.shape for w in windows] == [(2, 16, 1)] * 2
    for (track, start, stop), got in zip(rows, np.concatenate(windows, axis=1), strict=True):
        pcm = np.empty(len(dataset.tracks[track]), np.int16)
        dataset.tracks[track].read(0, len(pcm), pcm)
        expected = frame_means(measure_features(pcm, ["onset"]), start, 32, 16)
        expected[-(-(stop - start) // 16) :] = 0
        assert np.array_equal(got, expected)
