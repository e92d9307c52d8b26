"""Formats beyond libsndfile, made by ffmpeg and sox when the tests are set up; and files larger than 4 GiB."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from samplernn.audio import decode
from samplernn.audio_kind import LIBSNDFILE, PYAV, kind_of
from samplernn.decode_process import decode_apart
from samplernn.errors import BadAudio
from tests.sounds import chord, cut, wav_bytes, write_sound

RATE = 44_100
av = pytest.importorskip("av")
LOSSLESS = ["alac.m4a", "tta.tta", "wavpack.wv", "pcm_s24le.mka", "pcm_s16be.mov"]
LOSSY = ["aac.m4a", "libopus.webm", "ac3.ac3", "aac.aac", "mp2.mka"]


def encode(path: Path, codec: str, signal: np.ndarray, rate: int = RATE) -> Path:
    """Write float32 [samples, channels] with PyAV's own encoders; the suffix names the container."""
    container = {".m4a": "ipod", ".mka": "matroska", ".wma": "asf", ".aac": "adts", ".webm": "webm"}.get(
        path.suffix
    )
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=48_000 if codec == "libopus" else rate, layout="stereo")
        if codec in ("tta", "wavpack"):
            stream.format = "s16" if codec == "tta" else "s16p"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(signal.T), format="fltp", layout="stereo")
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            stream.format.name, "stereo", stream.rate, frame_size=stream.codec_context.frame_size or 4096
        )
        for ready in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(ready))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_decode_what_libsndfile_does_not_know_gives_the_same_sound(tmp_path, name):
    codec = name.split(".")[0]
    signal = chord(3.0, RATE, 2)
    pcm, source = decode_apart(encode(tmp_path / name, codec, signal), RATE)
    with (tmp_path / name).open("rb") as stream:
        assert (source.channels, source.format.split()[0]) == (2, kind_of(stream))
    expected = signal.mean(axis=1)
    if name in LOSSLESS:
        assert len(pcm) == len(expected)
        assert np.abs(pcm / 32768 - expected).max() < 2e-4
        return
    level = np.sqrt(np.mean(expected**2))
    assert np.sqrt(np.mean((pcm[8000:-8000] / 32768) ** 2)) == pytest.approx(level, rel=0.05)


@pytest.mark.parametrize("name", ["aac.m4a", "alac.m4a", "wavpack.wv", "libopus.webm", "mp2.mka"])
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9])
def test_decode_with_pyav_truncated_file_refused(tmp_path, name, keep):
    path = cut(encode(tmp_path / name, name.split(".")[0], chord(6.0, RATE, 2)), keep)
    with pytest.raises(BadAudio, match=r"truncated|not audio"):
        decode_apart(path, RATE)


@pytest.mark.parametrize("subtype", ["ALAC_16", "ALAC_24"])
def test_decode_alac_in_caf_is_lossless(tmp_path, subtype):
    write_sound(tmp_path / "x.caf", 3.0, RATE, 2, format="CAF", subtype=subtype)
    pcm, source = decode_apart(tmp_path / "x.caf", RATE)
    expected = chord(3.0, RATE, 2).mean(axis=1)
    assert (source.format, len(pcm)) == ("CAF ALAC alac", len(expected))
    assert np.abs(pcm / 32768 - expected).max() < 2e-4


def test_decode_alac_in_caf_truncated_refused(tmp_path):
    path = cut(write_sound(tmp_path / "x.caf", 3.0, RATE, 2, format="CAF", subtype="ALAC_16"), 0.5)
    with pytest.raises(BadAudio, match="truncated"):
        decode_apart(path, RATE)


def test_decode_video_container_without_sound_and_unlisted_coding_refused(tmp_path):
    with av.open(str(tmp_path / "mute.mp4"), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        out.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        out.mux(stream.encode(None))
    encode(tmp_path / "law.mov", "pcm_alaw", chord(1.0, RATE, 2))
    with pytest.raises(BadAudio, match="without a stream of audio"):
        decode_apart(tmp_path / "mute.mp4", RATE)
    with pytest.raises(BadAudio, match="pcm_alaw is not a coding that is read here"):
        decode_apart(tmp_path / "law.mov", RATE)


def test_decode_without_pyav_names_the_extra(tmp_path, monkeypatch):
    encode(tmp_path / "x.m4a", "aac", chord(1.0, RATE, 2))
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "samplernn.audio_pyav", raising=False)
    with pytest.raises(BadAudio, match=r"samplernn-orchestrator\[formats\]"):
        decode(tmp_path / "x.m4a", RATE, lambda pcm: None)


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\nhttp://127.0.0.1:9/x.ts\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\n",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff\xd8\xff\xe0" + bytes(100),
        b"%PDF-1.7",
        b"PK\3\4" + bytes(60),
        b"\x7fELF" + bytes(100),
    ],
)
def test_kind_of_what_is_no_audio_reaches_no_decoder(data):
    with pytest.raises(BadAudio, match="not audio"):
        kind_of(io.BytesIO(data))


def test_kinds_have_one_decoder_each():
    assert not LIBSNDFILE & PYAV.keys()


@pytest.mark.parametrize("tag", [0x31, 0x40, 0x50, 0x161, 0xFFFF])
def test_decode_wav_of_an_unlisted_coding_refused(tmp_path, tag):
    (tmp_path / "x.wav").write_bytes(wav_bytes(tag=tag))
    with pytest.raises(BadAudio, match=f"coding 0x{tag:04x}"):
        decode(tmp_path / "x.wav", RATE, lambda pcm: None)


def test_decode_mp3_begins_and_ends_where_the_music_does(tmp_path):
    signal = chord(3.0, RATE, 2)
    soundfile.write(tmp_path / "x.mp3", signal, RATE, format="MP3", subtype="MPEG_LAYER_III")
    pcm, _ = decode_apart(tmp_path / "x.mp3", RATE)
    expected = signal.mean(axis=1)
    assert len(pcm) == len(expected)
    error = pcm[4000:100_000] / 32768 - expected[4000:100_000]
    assert np.sqrt(np.mean(error**2)) < 0.1 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize(
    ("mono", "expected"),
    [
        ("mean", [0.4, -0.1]),
        ("left", [0.5, 0.0]),
        ("right", [0.1, 0.2]),
        ("mid", [0.3, 0.1]),
        ("side", [0.2, -0.1]),
    ],
)
def test_decode_mono_is_what_was_asked_for(tmp_path, mono, expected):
    from samplernn.audio import decode_signal

    frames = np.zeros((1600, 3), np.float32)
    frames[:800], frames[800:] = [0.5, 0.1, 0.6], [0.0, 0.2, -0.5]
    soundfile.write(tmp_path / "x.wav", frames, 16_000, subtype="FLOAT")
    blocks: list[np.ndarray] = []
    decode_signal(tmp_path / "x.wav", 16_000, blocks.append, mono)
    signal = np.concatenate(blocks)
    np.testing.assert_allclose(signal[[0, -1]], expected, atol=1e-6)


def test_decode_side_of_one_channel_refused(tmp_path):
    from samplernn.audio import decode_signal

    write_sound(tmp_path / "x.wav")
    with pytest.raises(BadAudio, match="mono=side needs two channels"):
        decode_signal(tmp_path / "x.wav", 16_000, lambda signal: None, "side")


def test_decode_clipped_passages_are_found_in_any_channel_and_across_blocks(tmp_path):
    signal = chord(40.0, 48_000, 2)
    signal[100_000:100_040, 1] = 1.0
    signal[131_000:131_200] = -1.0  # a block of a stereo file ends at 131,072
    signal[500_000, 0] = 1.0  # a lone peak
    soundfile.write(tmp_path / "x.wav", signal, 48_000)
    source = decode(tmp_path / "x.wav", 16_000, lambda pcm: None)
    assert source.clipped == 241
    assert source.clipped_at == [[97_600, 102_440], [128_600, 133_600]]


def _sparse(path: Path, head: bytes, data_bytes: int) -> None:
    with path.open("wb") as out:
        out.write(head)
        out.truncate(len(head) + data_bytes)


@pytest.mark.system
@pytest.mark.parametrize("kind", ["RF64", "W64"])
def test_decode_sparse_file_above_4_gib(tmp_path, kind):
    rate, channels, width = 192_000, 32, 8
    frames = (4 * 2**30 + 2**20) // (channels * width)
    data = frames * channels * width
    fmt = struct.pack("<HHIIHH", 3, channels, rate, rate * channels * width, channels * width, 8 * width)
    if kind == "RF64":
        ds64 = b"ds64" + struct.pack("<IQQQI", 28, data + 72, data, frames, 0)
        head = (
            b"RF64\xff\xff\xff\xffWAVE"
            + ds64
            + b"fmt "
            + struct.pack("<I", 16)
            + fmt
            + b"data\xff\xff\xff\xff"
        )
    else:
        tail = bytes.fromhex("f3acd3118cd100c04f8edb8a")
        riff = bytes.fromhex("726966662e91cf11a5d628db04c10000")
        head = riff + struct.pack("<Q", data + 104) + b"wave" + tail
        head += b"fmt " + tail + struct.pack("<Q", 40) + fmt + b"data" + tail + struct.pack("<Q", data + 24)
    _sparse(tmp_path / "x.wav", head, data)
    samples = 0

    def count(pcm: np.ndarray) -> None:
        nonlocal samples
        samples += len(pcm)
        assert not pcm.any()

    source = decode(tmp_path / "x.wav", 16_000, count)
    assert source.frames == frames
    assert abs(samples - frames * 16_000 / rate) <= 1


@pytest.mark.parametrize("seconds", [49 * 3600, 10 * 365 * 24 * 3600])
def test_decode_claimed_length_of_days_and_years_refused_before_decoding(tmp_path, seconds):
    frames = seconds * 4000
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, frames + 72, frames, frames, 0)
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 4000, 4000, 1, 8)
    head = b"RF64\xff\xff\xff\xffWAVE" + ds64 + fmt + b"data\xff\xff\xff\xff"
    if seconds > 10**7:
        (tmp_path / "x.wav").write_bytes(head + bytes(1000))
        expected = "truncated"
    else:
        _sparse(tmp_path / "x.wav", head, frames)
        expected = "longer than 48 hours"
    with pytest.raises(BadAudio, match=expected):
        decode(tmp_path / "x.wav", 16_000, lambda pcm: None)


@pytest.mark.system
@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.wav", "-c:a pcm_s24le"), ("x.rf64.wav", "-rf64 always"), ("x.w64", ""), ("x.aiff", ""), ("x.au", ""),
        ("x.m4a", "-c:a aac"), ("x.m4b", "-f ipod -c:a aac"), ("x.m4a", "-c:a alac"), ("x.mov", "-c:a pcm_s24be"),
        ("x.mp3", "-q:a 4"), ("x.mp3", "-b:a 192k"), ("x.ogg", "-c:a libvorbis"), ("x.opus", ""), ("x.flac", ""),
        ("x.mka", "-c:a flac"), ("x.aifc.aiff", "-c:a pcm_f32be"),
        ("x.caf", "-c:a pcm_s16be"), ("x.caf", "-c:a alac"), ("x.wma", ""), ("x.ogg", "-c:a libspeex -ar 16000"),
    ],
)  # fmt: skip
def test_decode_files_that_ffmpeg_makes(tmp_path, name, options):
    write_sound(tmp_path / "from.wav", 3.0, RATE, 2)
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(tmp_path / "from.wav"),
        *options.split(),
        str(tmp_path / name),
    ]
    subprocess.run(command, check=True)
    pcm, _ = decode_apart(tmp_path / name, 16_000)
    says_its_padding = name != "x.wma" and "speex" not in options
    assert abs(len(pcm) - 48_000) <= (1 if says_its_padding else 1200)
    expected = chord(3.0, RATE, 2).mean(axis=1)
    level = np.sqrt(np.mean(expected**2))
    assert np.sqrt(np.mean((pcm[4000:-4000] / 32768) ** 2)) == pytest.approx(level, rel=0.06)
    if says_its_padding:
        import soxr

        error = pcm[4000:44_000] / 32768 - soxr.resample(expected, RATE, 16_000, "VHQ")[4000:44_000]
        assert np.sqrt(np.mean(error**2)) < 0.1 * level  # and begins where the music does
