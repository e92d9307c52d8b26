"""Pieces of a long recording: cut by the header alone, and their samples are those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from samplernn import pieces
from samplernn.audio import decode_signal
from samplernn.errors import BadAudio
from samplernn.pieces import cuts, cuts_of, joined_source
from tests.sounds import chord, wav_bytes, write_sound


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "LONG_SECONDS", 10)
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 4)


def decoded(path, rate: int, cut=None):
    blocks: list[np.ndarray] = []
    source = decode_signal(path, rate, blocks.append, cut=cut)
    return np.concatenate(blocks), source


@pytest.mark.parametrize(
    ("rate", "to"),
    [
        (44_100, 16_000),
        (48_000, 16_000),
        (192_000, 4_000),
        (11_025, 32_000),
        (22_050, 48_000),
        (16_000, 16_000),
    ],
)
@pytest.mark.parametrize(
    ("container", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("AIFF", "PCM_24"), ("WAVEX", "FLOAT")]
)
def test_pieces_joined_are_the_whole_bit_for_bit(tmp_path, rate, to, container, subtype):
    rng = np.random.default_rng(rate)
    signal = chord(17.3, rate, 2) + rng.normal(0, 0.05, (round(17.3 * rate), 2)).astype(np.float32)
    signal[4 * rate - 2 : 4 * rate + 2] = 1.0  # clipped across a cut
    signal[11 * rate : 11 * rate + 50] = -1.0
    soundfile.write(tmp_path / "x", signal, rate, format=container, subtype=subtype)
    found = cuts_of(tmp_path / "x")
    assert found == [(0, 4), (4, 8), (8, 12), (12, None)]
    whole, source = decoded(tmp_path / "x", to)
    parts = [decoded(tmp_path / "x", to, cut) for cut in found]
    np.testing.assert_array_equal(np.concatenate([signal for signal, _ in parts]), whole)
    assert joined_source([part for _, part in parts]) == source


def test_cuts_are_a_function_of_the_length_and_the_last_is_no_sliver():
    assert cuts(10) == [(0, None)]
    for seconds in np.linspace(10.01, 60, 77):
        found = cuts(seconds)
        assert [stop for _, stop in found[:-1]] == [start for start, _ in found[1:]]
        assert 2 <= seconds - found[-1][0] < 7


@pytest.mark.parametrize(
    ("container", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "MS_ADPCM")]
)
def test_a_file_that_cannot_be_sought_to_a_sample_is_one_piece(tmp_path, container, subtype):
    write_sound(tmp_path / "x", 15.0, 44_100, format=container, subtype=subtype)
    assert cuts_of(tmp_path / "x") == [(0, None)]


def test_a_claimed_length_of_years_is_one_piece(tmp_path):
    path = write_sound(tmp_path / "x.flac", 12.0)
    data = bytearray(path.read_bytes())
    data[18:26] = (int.from_bytes(data[18:26], "big") | (1 << 36) - 1).to_bytes(8, "big")
    path.write_bytes(data)
    assert cuts_of(path) == [(0, None)]
    with pytest.raises(BadAudio, match="longer than 48 hours"):
        decoded(path, 16_000)


def test_a_header_that_lies_is_refused_by_the_decoder(tmp_path):
    data = bytearray(wav_bytes(16_000 * 12))
    data[24:28] = (1000).to_bytes(4, "little")  # its rate: twelve seconds become minutes
    (tmp_path / "x.wav").write_bytes(data)
    assert len(cuts_of(tmp_path / "x.wav")) > 3
    with pytest.raises(BadAudio, match="1,000 Hz is outside"):
        decoded(tmp_path / "x.wav", 16_000, (0, 4))
    write_sound(tmp_path / "y.wav", 3.0)
    with pytest.raises(BadAudio, match=r"wrong about its length, 3\.0 s"):
        decoded(tmp_path / "y.wav", 16_000, (4, 8))
