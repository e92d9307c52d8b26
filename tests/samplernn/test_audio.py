"""Audio files in and FLAC out: what is read sounds as it should, what must not be read says why."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
import soundfile

from samplernn import decode_process
from samplernn.audio import Source, decode, decode_flac, encode_flac
from samplernn.audio_header import mp3_frames
from samplernn.decode_process import decode_apart
from samplernn.errors import BadAudio
from tests.sounds import chord, cut, wav_bytes, write_sound

WAV_SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "MS_ADPCM"]
FORMATS = [
    *(("x.wav", "WAV", subtype) for subtype in WAV_SUBTYPES),
    ("x.wav", "WAVEX", "PCM_24"),
    ("x.rf64", "RF64", "PCM_16"),
    ("x.w64", "W64", "PCM_16"),
    ("x.flac", "FLAC", "PCM_16"),
    ("x.flac", "FLAC", "PCM_24"),
    ("x.ogg", "OGG", "VORBIS"),
    ("x.opus", "OGG", "OPUS"),
    ("x.mp3", "MP3", "MPEG_LAYER_III"),
    ("x.aiff", "AIFF", "PCM_24"),
    ("x.au", "AU", "PCM_16"),
    ("x.caf", "CAF", "PCM_16"),
]


def decoded(path, sample_rate: int = 16_000) -> tuple[np.ndarray, Source]:
    blocks: list[np.ndarray] = []
    source = decode(path, sample_rate, blocks.append)
    return np.concatenate(blocks), source


def reason(path, sample_rate: int = 16_000) -> str:
    with pytest.raises(BadAudio) as raised:
        decode(path, sample_rate, lambda pcm: None)
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("name", "container", "subtype"), FORMATS)
def test_decode_every_format_gives_the_same_sound(tmp_path, name, container, subtype):
    rate = 48_000
    path = write_sound(tmp_path / name, 2.0, rate, 2, format=container, subtype=subtype)
    pcm, source = decoded(path, 16_000)
    expected = chord(2.0, rate, 2).mean(axis=1)[
        ::3
    ]  # nothing above 1.5 kHz: taking each third sample is exact
    assert (source.rate, source.channels, source.samples) == (rate, 2, len(pcm))
    assert abs(len(pcm) - 32_000) <= 700  # MS ADPCM pads to a whole block
    inside = slice(4000, 28_000)
    error = pcm[inside] / 32768 - expected[inside]
    assert np.sqrt(np.mean(error**2)) < 0.03 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_100, 96_000, 192_000])
@pytest.mark.parametrize("target", [16_000, 32_000])
def test_decode_any_rate_keeps_length_and_pitch(tmp_path, rate, target):
    seconds, pitch = 1.5, 440.0
    wave = 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    soundfile.write(tmp_path / "x.wav", wave, rate, subtype="FLOAT")
    pcm, _ = decoded(tmp_path / "x.wav", target)
    assert abs(len(pcm) - seconds * target) <= 1
    expected = 0.5 * np.sin(2 * np.pi * pitch * np.arange(len(pcm)) / target)
    inside = slice(target // 4, -target // 4)
    assert np.abs(pcm[inside] / 32768 - expected[inside]).max() < 1e-3


def test_decode_16_bit_at_its_own_rate_changes_no_sample(tmp_path):
    pcm = np.random.default_rng(0).integers(-32768, 32768, 300_001, dtype=np.int16)
    soundfile.write(tmp_path / "x.wav", pcm, 16_000)
    got, source = decoded(tmp_path / "x.wav")
    np.testing.assert_array_equal(got, pcm)
    assert source.frames == source.samples == len(pcm)


def test_decode_in_blocks_equals_resampling_in_one_piece(tmp_path):
    path = write_sound(tmp_path / "x.wav", 20, 44_100, subtype="FLOAT")
    import soxr

    whole = soxr.resample(chord(20, 44_100)[:, 0], 44_100, 16_000, "VHQ")
    pcm, _ = decoded(path)
    assert np.abs(pcm - np.clip(np.rint(whole * 32768), -32768, 32767)).max() <= 1


def test_decode_does_not_normalise_and_clips_what_is_above_full_scale(tmp_path):
    soundfile.write(tmp_path / "quiet.wav", chord(1, 16_000) / 1000, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "loud.wav", chord(1, 16_000) * 10, 16_000, subtype="FLOAT")
    assert np.abs(decoded(tmp_path / "quiet.wav")[0]).max() < 30
    loud, _ = decoded(tmp_path / "loud.wav")
    assert (loud.min(), loud.max()) == (-32768, 32767)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "0 bytes"),
        (b"R", "not audio"),
        (b"just some text\n", "not audio"),
        (b"<!DOCTYPE html><html></html>", "not audio"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "not audio"),
        (wav_bytes()[:20], "damaged"),
        (wav_bytes(0), "header only"),
        (wav_bytes(0, claim=0), "header only"),
        (wav_bytes(claim=0x7FFFFFF0), "truncated: 3,200 of 2,147,483,632"),
        (wav_bytes(rate=0), "damaged"),
        (wav_bytes(rate=3_999), "3,999 Hz is outside 4,000 to 192,000"),
        (wav_bytes(rate=192_001), "192,001 Hz is outside"),
        (wav_bytes(channels=0), "damaged"),
        (wav_bytes(200, channels=65), "65 channels are more than 64"),
        (wav_bytes(200, channels=1024), "1,024 channels"),
        (wav_bytes(tag=0x11), "IMA ADPCM is refused"),
        (wav_bytes(1, rate=192_000), "not one sample"),
    ],
)
def test_decode_bad_bytes_named_in_one_line(tmp_path, data, expected):
    (tmp_path / "x.wav").write_bytes(data)
    assert expected in reason(tmp_path / "x.wav")


@pytest.mark.parametrize("outer", [b"LIST", b"INFO"])
@pytest.mark.parametrize(
    ("size", "inner"), [(0xFFFFFFF0, 0xFFFFFFF8), (0x7FFFFFFF, 0xFFFFFFF4), (64, 0xFFFFFFF8)]
)
def test_decode_info_chunk_that_hangs_libsndfile_refused(tmp_path, outer, size, inner):
    hang = outer + struct.pack("<I", size) + b"INFOABCD" + struct.pack("<I", inner) + b"a" * 52
    (tmp_path / "before.wav").write_bytes(wav_bytes(before=hang))
    (tmp_path / "after.wav").write_bytes(wav_bytes(after=hang))
    tag = b"ID3\3\0\0\0\0\0\x0a" + bytes(10)
    (tmp_path / "behind.wav").write_bytes(tag + wav_bytes(before=hang))
    assert "damaged" in reason(tmp_path / "before.wav")
    assert "damaged" in reason(tmp_path / "after.wav")
    assert "ID3 tag" in reason(tmp_path / "behind.wav")


def test_decode_the_157_bytes_that_hang_libsndfile_refused(tmp_path):
    hang = b"LIST" + struct.pack("<I", 0xFFFFFFF0) + b"INFOABCD" + struct.pack("<I", 0xFFFFFFF8) + b"a" * 53
    data = wav_bytes(20, before=hang)
    assert len(data) == 157
    (tmp_path / "x.wav").write_bytes(data)
    with pytest.raises(BadAudio, match="on which libsndfile hangs"):
        decode_apart(tmp_path / "x.wav", 16_000)


@pytest.mark.parametrize(
    ("name", "container", "subtype"),
    [("x.wav", "FLAC", "PCM_16"), ("x.mp3", "OGG", "VORBIS"), ("x.flac", "MP3", "MPEG_LAYER_III")],
)
def test_decode_under_a_wrong_name_is_read_as_what_it_is(tmp_path, name, container, subtype):
    path = write_sound(tmp_path / name, 2.0, 16_000, format=container, subtype=subtype)
    pcm, source = decoded(path)
    assert source.format == f"{container} {subtype}"
    assert abs(len(pcm) - 32_000) < 10


def test_decode_sound_info_chunk_and_unknown_length_read(tmp_path):
    info = b"LIST" + struct.pack("<I", 18) + b"INFOINAM" + struct.pack("<I", 5) + b"hello\0"
    (tmp_path / "info.wav").write_bytes(wav_bytes(before=info, after=info))
    (tmp_path / "stream.wav").write_bytes(wav_bytes(claim=0xFFFFFFFF))
    assert len(decoded(tmp_path / "info.wav")[0]) == len(decoded(tmp_path / "stream.wav")[0]) == 1600


@pytest.mark.parametrize(
    ("name", "container", "subtype"),
    [
        row
        for row in FORMATS
        if row[1:] not in {("WAV", subtype) for subtype in WAV_SUBTYPES} or row[2] in ("PCM_16", "MS_ADPCM")
    ],
)
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_decode_truncated_file_refused(tmp_path, name, container, subtype, keep):
    path = cut(write_sound(tmp_path / name, 4.0, 48_000, 2, format=container, subtype=subtype), keep)
    assert "truncated" in reason(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_decode_not_a_number_refused_with_its_place(tmp_path, value):
    wave = chord(2, 16_000, 2)
    wave[24_000, 1] = value
    soundfile.write(tmp_path / "x.wav", wave, 16_000, subtype="FLOAT")
    assert "NaN or infinite samples at 1.500 s" in reason(tmp_path / "x.wav")


def test_decode_silence_dc_and_denormals_are_audio(tmp_path):
    for name, level, expected in (("silence", 0, 0), ("denormal", 1e-40, 0), ("dc", 0.5, 16384)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(5000, float(level)), 16_000, subtype="FLOAT")
        assert set(decoded(tmp_path / f"{name}.wav")[0]) == {expected}


def test_decode_what_is_no_regular_file_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    assert reason(tmp_path / "x.wav") == "not a regular file"
    assert reason("/dev/zero") == "not a regular file"


def test_decode_format_that_is_not_music_refused(tmp_path):
    write_sound(tmp_path / "x.wav", format="MAT5", subtype="PCM_16")
    assert "not audio of a kind" in reason(tmp_path / "x.wav")
    write_sound(tmp_path / "y.aiff", format="AIFF", subtype="IMA_ADPCM")
    assert "IMA_ADPCM" in reason(tmp_path / "y.aiff")


def test_mp3_of_unlike_halves_is_not_cut_short_in_silence(tmp_path):
    """Without a Xing header libsndfile guesses the length from the first frame's bit rate."""
    quiet, loud = tmp_path / "a.mp3", tmp_path / "b.mp3"
    write_sound(
        quiet,
        4,
        44_100,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=0.0,
        bitrate_mode="CONSTANT",
    )
    write_sound(
        loud,
        4,
        44_100,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=0.9,
        bitrate_mode="CONSTANT",
    )
    with quiet.open("rb") as stream:
        held = mp3_frames(stream, quiet.stat().st_size)
    assert 4 * 44_100 <= held <= 4 * 44_100 + 3 * 1152
    joined = tmp_path / "c.mp3"
    joined.write_bytes(_without_xing(quiet.read_bytes()) + _without_xing(loud.read_bytes()))
    with joined.open("rb") as stream:
        assert mp3_frames(stream, joined.stat().st_size) == 2 * held
    joined.write_bytes(_without_xing(loud.read_bytes()) + _without_xing(quiet.read_bytes()))
    assert "truncated" in reason(joined) or "of this MP3's" in reason(joined)


def _without_xing(mp3: bytes) -> bytes:
    """An MP3 without its first frame, which holds the Xing or Info header."""
    assert b"Xing" in mp3[:200] or b"Info" in mp3[:200]
    return mp3[mp3.index(mp3[:2], 100) :]


def test_decode_apart_gives_what_decode_gives(tmp_path):
    path = write_sound(tmp_path / "x.ogg", 3.0, 44_100, 2)
    pcm, source = decode_apart(os.fsencode(path), 16_000)
    here, same = decoded(path)
    np.testing.assert_array_equal(pcm, here)
    assert source == same


def test_decode_apart_bad_file_or_none_named(tmp_path):
    (tmp_path / "x.wav").write_bytes(b"text")
    with pytest.raises(BadAudio, match="not audio"):
        decode_apart(tmp_path / "x.wav", 16_000)
    with pytest.raises(FileNotFoundError):
        decode_apart(tmp_path / "y.wav", 16_000)


def test_decode_apart_names_with_bytes_that_are_not_utf8(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9\n\xff.wav"
    with open(path, "wb") as stream:  # noqa: PTH123
        stream.write(wav_bytes())
    assert len(decode_apart(path, 16_000)[0]) == 1600


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("os._exit(3)", "exit status 3"),
        ("raise RuntimeError", "exit status 1"),
        ("bytearray(5 * 2**30); os._exit(3)", "exit status 1"),  # beyond its limit, not beyond the machine
    ],
)
def test_decode_apart_decoder_that_crashes_is_named_and_the_next_file_is_decoded(
    tmp_path, monkeypatch, code, expected
):
    path = write_sound(tmp_path / "x.wav")
    with monkeypatch.context() as patched:
        _instead_of_the_decoder(tmp_path, patched, code)
        with pytest.raises(BadAudio, match=expected):
            decode_apart(path, 16_000)
    assert len(decode_apart(path, 16_000)[0]) == 48_000


def test_decode_apart_decoder_that_hangs_is_stopped(tmp_path, monkeypatch):
    path = write_sound(tmp_path / "x.wav")
    monkeypatch.setattr(decode_process, "_CPU_SECONDS", 1)
    _instead_of_the_decoder(tmp_path, monkeypatch, "while True: pass")
    with pytest.raises(BadAudio, match="more than 1 s of CPU"):
        decode_apart(path, 16_000)


def test_decode_apart_decoder_that_sleeps_is_stopped_with_its_server(tmp_path, monkeypatch):
    path = write_sound(tmp_path / "x.wav")
    monkeypatch.setattr(decode_process, "_CPU_SECONDS", 1)
    monkeypatch.setattr(decode_process, "_WALL_PER_CPU", 1)
    _instead_of_the_decoder(tmp_path, monkeypatch, "os.kill(os.getpid(), 19)")  # SIGSTOP
    with pytest.raises(BadAudio, match="decoding took more than 1 s"):
        decode_apart(path, 16_000)


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/hostname')",
        "__import__('socket').socket()",
        "os.pipe()",
        "os.open('/tmp/new', os.O_CREAT)",
    ],
)
def test_decode_apart_nothing_can_be_opened_while_a_decoder_works(tmp_path, monkeypatch, code):
    """A codec that was taken over by a file can read no other file and reach no network."""
    path = write_sound(tmp_path / "x.wav")
    _instead_of_the_decoder(tmp_path, monkeypatch, f"d._open_no_more(); {code}")
    with pytest.raises(OSError, match="Too many open files"):
        decode_apart(path, 16_000)


def test_decode_apart_one_server_decodes_many_files_and_leaves_no_process(tmp_path):
    import psutil

    path = write_sound(tmp_path / "x.wav")
    for _ in range(5):
        decode_apart(path, 16_000)
    servers = [p for p in psutil.Process().children() if "samplernn.decode_process" in p.cmdline()]
    assert len(servers) == 1
    with decode_process.decoding(path, 16_000) as decoder:
        next(decoder.signal())  # and who asked gives up in the middle
    assert len(decode_apart(path, 16_000)[0]) == 48_000


def _instead_of_the_decoder(tmp_path, monkeypatch, code: str) -> None:
    """Put some code in the place of the child's decoder."""
    lines = ["import os", "from samplernn import decode_process as d", "def decode(*_):", f"    {code}"]
    module = f"stand_in_for_{tmp_path.name}"  # of its own: an idle server of the test before must not serve this one
    (tmp_path / f"{module}.py").write_text("\n".join([*lines, "d.decode_signal = decode", "d.serve()"]))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(decode_process, "_MODULE", module)


def test_flac_comes_back_sample_for_sample_with_its_tags(tmp_path):
    pcm = np.random.default_rng(0).integers(-32768, 32768, 50_000, dtype=np.int16)
    tags = {"title": "Näcken", "artist": "a", "comment": '{"seed": 1}', "date": "2024"}
    data = encode_flac(pcm, 32_000, tags)
    got, rate = decode_flac(data)
    np.testing.assert_array_equal(got, pcm)
    assert rate == 32_000
    (tmp_path / "x.flac").write_bytes(data)
    with soundfile.SoundFile(tmp_path / "x.flac") as file:
        assert {key: getattr(file, key) for key in tags} == tags
    assert encode_flac(pcm, 32_000, tags) == data


def test_flac_wrong_use_refused():
    with pytest.raises(ValueError, match="mood"):
        encode_flac(np.zeros(10, np.int16), 16_000, {"mood": "x"})
    with pytest.raises(ValueError, match="float32"):
        encode_flac(np.zeros(10, np.float32), 16_000, {})


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_flac_damaged_bytes_refused(keep):
    data = encode_flac(np.random.default_rng(0).integers(-9000, 9000, 50_000, dtype=np.int16), 16_000, {})
    with pytest.raises(BadAudio):
        decode_flac(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
