"""Mastering by measurement: loudness, true peaks and gapless lengths, held against ffmpeg's own meter where it is."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from orchestrator.album.build import AlbumResult, build_album
from orchestrator.album.master import limit
from orchestrator.album.propose import propose
from orchestrator.config import AlbumConfig
from orchestrator.lease import hold
from orchestrator.merge import build as build_config
from orchestrator.merge import load_yaml
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput
from samplernn.measures import dbfs, loudness, true_peaks
from tests.orchestrator.made_sweep import RATE, write_batch, write_sweep

SECONDS = 4.0


def riff(seed: int, level: float) -> np.ndarray:
    """Noise and tones in bursts with peaks well above their mean, int16 [4 s]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(SECONDS * RATE)) / RATE
    tone = np.sin(2 * np.pi * 110 * 2 ** (seed / 5) * time) + 0.3 * rng.standard_normal(len(time))
    bursts = 0.3 + 0.7 * (np.sin(2 * np.pi * (1 + seed) * time) > 0.6)
    sound = level * tone * bursts
    return (np.clip(sound, -1, 0.9999) * 32768).astype(np.int16)


SONGS = [riff(0, 0.05), riff(1, 0.3), riff(2, 0.6)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_sweep(workspace)
    write_batch(workspace, sounds=SONGS)
    return workspace


def build(workspace: Workspace, **config: object) -> AlbumResult:
    return build_album(
        workspace, AlbumConfig(**{"name": "first", "songs": "toy-songs", **config}), lambda at, of: None
    )


def tracks_of(result: AlbumResult) -> list[np.ndarray]:
    return [soundfile.read(result.folder.local / one.track.file)[0] for one in result.tracks]


@pytest.mark.parametrize("bits", [16, 24])
def test_tracks_reach_the_loudness_below_the_ceiling(workspace: Workspace, bits: int) -> None:
    result = build(workspace, loudness=-12, ceiling=-1.5, bits=bits)
    for one, audio in zip(result.tracks, tracks_of(result), strict=True):
        assert soundfile.info(result.folder.local / one.track.file).subtype == f"PCM_{bits}"
        assert loudness(audio.astype(np.float32), RATE) == pytest.approx(-12, abs=0.3)
        assert dbfs(float(true_peaks(audio.astype(np.float32), RATE).max())) < -1.5
        assert one.measures["lufs"] == pytest.approx(-12, abs=0.3)


def test_levels_stay_as_they_were_made_unless_loudness_is_asked_for(workspace: Workspace) -> None:
    for audio, pcm in zip(tracks_of(build(workspace)), SONGS, strict=True):
        np.testing.assert_array_equal(np.round(audio * 32768), pcm)


def test_crossfaded_tracks_end_to_end_are_one_unbroken_sound(workspace: Workspace) -> None:
    fade = 0.5
    tracks = tracks_of(build(workspace, crossfade=fade, bits=24))
    whole = np.concatenate(tracks)
    overlap = round(fade * RATE)
    assert len(whole) == 3 * round(SECONDS * RATE) - 2 * overlap
    songs = [pcm / 32768 for pcm in SONGS]
    rise = np.sin(np.linspace(0, np.pi / 2, overlap))
    expected = songs[0].copy()
    for song in songs[1:]:
        mixed = expected[-overlap:] * rise[::-1] + song[:overlap] * rise
        expected = np.concatenate([expected[:-overlap], mixed, song[overlap:]])
    np.testing.assert_allclose(whole, np.clip(expected, -1, 1), atol=3e-7)


def test_regions_have_the_asked_length_and_do_not_click(workspace: Workspace) -> None:
    result = build(workspace, tracklist=[{"song": "0002", "start": 1, "stop": 2.25, "fade_out": 0.5}, "0000"])
    first, second = tracks_of(result)
    assert len(first) == round(1.25 * RATE)
    assert first[0] == pytest.approx(0, abs=1e-4)
    assert first[-1] == pytest.approx(0, abs=1e-3)
    middle = slice(round(0.1 * RATE), round(0.7 * RATE))
    np.testing.assert_allclose(first[middle], SONGS[2][RATE : 2 * RATE][middle] / 32768, atol=1e-4)
    assert len(second) == len(SONGS[0])


def test_limiter_holds_peaks_between_the_samples_and_leaves_quiet_parts_alone() -> None:
    time = np.arange(RATE) / RATE
    quiet = 0.2 * np.sin(2 * np.pi * 200 * time)
    sound = quiet.copy()
    sound[6000:6400] += 0.9 * np.sin(
        2 * np.pi * (RATE / 4) * time[:400] + np.pi / 4
    )  # peaks lie between samples
    out = limit(sound.astype(np.float32), RATE, -3.0)
    assert dbfs(float(true_peaks(out, RATE).max())) < -3.0
    np.testing.assert_array_equal(out[:5000], quiet[:5000].astype(np.float32))


BAD = {
    "a song that is not there": ({"tracklist": ["0000", "0009"]}, "0009 is not there"),
    "a region beyond the end": (
        {"tracklist": [{"song": "0000", "stop": 9}]},
        "does not lie in the song's 4 s",
    ),
    "fades longer than the track": ({"tracklist": [{"song": "0000", "fade_in": 5}]}, "longer than the track"),
    "a crossfade longer than half a track": ({"crossfade": 3}, "at most half"),
    "a cover that is no picture": ({"cover": __file__}, "can't be read as a picture"),
    "titles that are not there": ({"titles": "/nowhere.txt"}, "can't be read"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_album_is_refused_and_nothing_written(workspace: Workspace, case: tuple[dict, str]) -> None:
    config, message = case
    with pytest.raises(BadInput, match=re.escape(message)):
        build(workspace, **config)
    assert not workspace.storage.at("albums").exists("first")


def test_a_second_command_on_the_same_album_is_refused(workspace: Workspace) -> None:
    with hold(workspace.album("first")), pytest.raises(BadInput, match="in use by process"):
        build(workspace)


def test_cover_cue_and_archive_go_with_the_tracks(workspace: Workspace) -> None:
    result = build(workspace, title='Say "It"', artist="Somebody")
    folder = result.folder.local
    with Image.open(folder / "cover.png") as picture:
        assert picture.size == (1400, 1400)
        assert len(picture.convert("RGB").getcolors(2**22)) > 200
    cue = (folder / "album.cue").read_text()
    assert "TITLE \"Say 'It'\"" in cue
    assert [f'FILE "{one.track.file}" WAVE' in cue for one in result.tracks] == [True] * 3
    with zipfile.ZipFile(folder / "album.zip") as packed:
        assert packed.testzip() is None
        names = {name.removeprefix("first/") for name in packed.namelist()}
        assert names == {one.track.file for one in result.tracks} | {"cover.png", "album.cue", "credits.json"}
        first = packed.read(f"first/{result.tracks[0].track.file}")
    assert first == (folder / result.tracks[0].track.file).read_bytes()
    assert build(workspace, title='Say "It"', artist="Somebody").written == 0


def test_given_cover_is_taken_and_cut_square(workspace: Workspace, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "mine.jpg")
    folder = build(workspace, cover=str(tmp_path / "mine.jpg")).folder.local
    with Image.open(folder / "cover.png") as picture:
        assert picture.size == (1400, 1400)
        red, green, blue = picture.getpixel((700, 700))
    assert red > 180
    assert max(green, blue) < 60


def test_proposed_tracklist_leaves_faults_and_twins_out_and_makes_an_album(workspace: Workspace) -> None:
    silent = np.zeros(len(SONGS[0]), dtype=np.int16)
    write_batch(workspace, "many", sounds=[SONGS[1], SONGS[1], silent, SONGS[2]])
    config = AlbumConfig(name="best", songs="many")
    proposal = propose(workspace, config, 2, lambda at, of: None)
    chosen = [one.track.song for one in proposal.chosen]
    assert "0003" in chosen
    assert len({"0000", "0001"} & set(chosen)) == 1
    assert [one.track.song for one in proposal.faulty] == ["0002"]
    asked = build_config(AlbumConfig, load_yaml(proposal.file))
    assert [one.track.song for one in build_album(workspace, asked, lambda *_: None).tracks] == chosen
    with pytest.raises(BadInput, match="has a tracklist already"):
        propose(workspace, config, 2, lambda at, of: None)


def test_proposal_that_another_command_was_faster_with_is_refused_and_overwrites_nothing(
    workspace: Workspace,
) -> None:
    def faster(at: int, of: int) -> None:
        if at == of:
            workspace.album("raced").write("album.yaml", b"theirs: 1")

    with pytest.raises(BadInput, match="has a tracklist already"):
        propose(workspace, AlbumConfig(name="raced", songs="toy-songs"), 1, faster)
    assert workspace.album("raced").read("album.yaml") == b"theirs: 1"


def test_songs_in_a_trap_are_not_proposed(workspace: Workspace) -> None:
    traps = [{"kind": "loop", "seconds": 12.0}, {"kind": "dc", "seconds": 60.0}]
    write_batch(workspace, "stuck", sounds=[SONGS[1]], extra={"traps": traps})
    with pytest.raises(BadInput, match=r"0000 falls into a trap \(loop at 12 s, dc at 60 s\)"):
        propose(workspace, AlbumConfig(name="none", songs="stuck"), 2, lambda at, of: None)


@pytest.mark.system
def test_loudness_and_true_peak_by_ffmpegs_meter(workspace: Workspace) -> None:
    ffmpeg = shutil.which("ffmpeg") or pytest.skip("install the Debian package ffmpeg")
    result = build(workspace, loudness=-14, ceiling=-1)
    for one in result.tracks:
        said = subprocess.run(
            [ffmpeg, "-hide_banner", "-nostats", "-i", result.folder.local / one.track.file, "-af",
             "ebur128=peak=true", "-f", "null", "-"],
            capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
        summary = said[said.rindex("Summary:") :]
        integrated = float(re.search(r"I:\s+(-?[\d.]+) LUFS", summary)[1])
        peak = float(re.search(r"Peak:\s+(-?[\d.]+) dBFS", summary)[1])
        assert integrated == pytest.approx(-14, abs=0.5)
        assert peak < -1
        assert json.dumps(one.measures)
        with soundfile.SoundFile(io.BytesIO((result.folder.local / one.track.file).read_bytes())) as file:
            assert file.frames == one.samples
