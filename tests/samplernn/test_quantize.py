"""The quantiser: silence is silence, order is kept, and every code that is produced comes back as itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplernn.audio import decode
from samplernn.config import ModelConfig
from samplernn.quantize import decode as amplitude
from samplernn.quantize import decode_table, encode, encode_table, to_pcm

LAWS = ("linear", "mu-law", "a-law")
MUSIC = Path(__file__).resolve().parents[2] / "demo" / "music"
EVERY_SAMPLE = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16)

laws = st.sampled_from(LAWS)
levels = st.integers(3, 1024)


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    """The demo's music at 16 kHz, int16 [samples]."""
    blocks: list[np.ndarray] = []
    for path in sorted(MUSIC.glob("*.ogg")):
        decode(path, 16_000, blocks.append)
    return np.concatenate(blocks)


@given(laws, levels)
def test_silence_is_the_middle_code_and_decodes_to_exactly_zero(law, q_levels):
    code = encode(np.zeros(1, np.int16), law, q_levels)
    assert code[0] == q_levels // 2
    assert amplitude(code, law, q_levels)[0] == 0.0
    assert to_pcm(amplitude(code, law, q_levels))[0] == 0


@given(laws, levels)
def test_codes_rise_with_the_sample_and_lie_in_range(law, q_levels):
    codes = encode_table(law, q_levels)
    assert (np.diff(codes) >= 0).all()
    assert codes.min() >= 0
    assert codes.max() < q_levels
    assert (np.diff(decode_table(law, q_levels)[1:]) > 0).all()


@given(laws, levels)
def test_every_produced_code_comes_back_as_itself(law, q_levels):
    produced = np.unique(encode_table(law, q_levels)).astype(np.int16)
    again = encode(to_pcm(amplitude(produced, law, q_levels)), law, q_levels)
    np.testing.assert_array_equal(again, produced)


@given(laws, st.integers(2, 512).map(lambda half: 2 * half))
def test_even_levels_code_zero_is_never_produced_and_decodes_clipped(law, q_levels):
    assert encode_table(law, q_levels).min() == 1
    assert decode_table(law, q_levels)[0] == -1.0


@given(laws, levels)
def test_laws_are_odd(law, q_levels):
    positive = encode(np.arange(1, 32768, dtype=np.int16), law, q_levels).astype(int)
    negative = encode(-np.arange(1, 32768, dtype=np.int16), law, q_levels).astype(int)
    middle = q_levels // 2
    np.testing.assert_array_equal(positive - middle, middle - negative)


@pytest.mark.parametrize("law", LAWS)
def test_two_levels_are_a_sign(law):
    np.testing.assert_array_equal(
        encode(np.array([-32768, -1, 0, 1, 32767], np.int16), law, 2), [0, 0, 1, 1, 1]
    )
    np.testing.assert_array_equal(decode_table(law, 2), [-0.5, 0.5])


@pytest.mark.parametrize("q_levels", [255, 256, 1024])
def test_mu_law_and_a_law_follow_g711(q_levels):
    """The curves of ITU-T G.711 at x = 0.1, written out by hand."""
    half = q_levels // 2 - (q_levels % 2 == 0)
    pcm = np.array([3277], np.int16)
    x = 3277 / 32768
    mu = np.log(1 + 255 * x) / np.log(256)
    a = (1 + np.log(87.6 * x)) / (1 + np.log(87.6))
    assert encode(pcm, "mu-law", q_levels)[0] == q_levels // 2 + round(mu * half)
    assert encode(pcm, "a-law", q_levels)[0] == q_levels // 2 + round(a * half)
    assert encode(pcm, "linear", q_levels)[0] == q_levels // 2 + round(x * half)


@pytest.mark.parametrize("q_levels", [64, 255, 256, 1024])
@pytest.mark.parametrize("law", LAWS)
def test_quantising_real_music_adds_no_dc(music, law, q_levels):
    """Below 1e-4 of full scale, which a quantiser without a middle tread exceeds by half a step."""
    through = amplitude(encode(music, law, q_levels), law, q_levels)
    assert abs(np.mean(through, dtype=np.float64) - np.mean(music, dtype=np.float64) / 32768) < 1e-4


@pytest.mark.parametrize("law", ["mu-law", "a-law"])
def test_companding_beats_linear_on_quiet_music(music, law):
    quiet = (music // 30).astype(np.int16)

    def error(which: str) -> float:
        return float(np.mean((amplitude(encode(quiet, which, 256), which, 256) - quiet / 32768) ** 2))

    assert error(law) < error("linear") / 4


def test_to_pcm_rounds_half_to_even_and_clips():
    levels = np.array([-2.0, -1.0, 0.5 / 32768, 1.5 / 32768, 1.0, 3.0], np.float32)
    np.testing.assert_array_equal(to_pcm(levels), [-32768, -32768, 0, 2, 32767, 32767])


def test_to_pcm_every_sample_comes_back():
    np.testing.assert_array_equal(to_pcm((EVERY_SAMPLE / 32768).astype(np.float32)), EVERY_SAMPLE)


def test_config_silence_is_the_quantisers():
    for q_levels in (2, 3, 255, 256):
        config = ModelConfig(q_levels=q_levels)
        assert encode(np.zeros(1, np.int16), config.q_type, q_levels)[0] == config.q_zero
