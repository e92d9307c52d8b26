"""Albums: verified songs, tags, pictures, one page; nothing half-made when a song is missing."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from orchestrator.album.build import AlbumResult, build_album
from orchestrator.album.facts import WHITE_NOISE
from orchestrator.album.tracklist import file_name, make_title
from orchestrator.config import AlbumConfig
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput
from samplernn.measures import spectral_flatness
from tests.made import tone, write_dataset
from tests.orchestrator.browser import browser, chromium
from tests.orchestrator.made_sweep import RATE, write_batch, write_sweep
from tests.orchestrator.test_pages import check_page

SONGS = [tone(RATE * 2, seed=seed) for seed in range(3)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A dataset, its sweep and a batch of three songs of 2 s."""
    workspace = Workspace.open(str(tmp_path / "workspace"))
    write_dataset(workspace.dataset("toy"))
    write_sweep(workspace)
    write_batch(workspace, sounds=SONGS)
    return workspace


def build(workspace: Workspace, **config: object) -> AlbumResult:
    return build_album(
        workspace, AlbumConfig(**{"name": "first", "songs": "toy-songs", **config}), lambda at, of: None
    )


def test_album_tracks_hold_the_same_samples_with_tags(workspace: Workspace) -> None:
    result = build(workspace, title="The First")
    folder = result.folder.local
    for number, (song, pcm) in enumerate(zip(result.songs, SONGS, strict=True), start=1):
        with soundfile.SoundFile(folder / song.file) as file:
            assert (file.title, file.album, file.tracknumber) == (song.title, "The First", str(number))
            assert json.loads(file.comment)["index"] == number - 1
            np.testing.assert_array_equal(file.read(dtype="int16"), pcm)
        with Image.open(folder / song.file.replace(".flac", ".png")) as picture:
            assert picture.height == 160
        assert song.file.startswith(f"{number:02d}-")


def test_album_page_shows_songs_curves_clips_and_facts(workspace: Workspace) -> None:
    result = build(workspace)
    page = check_page(Path(result.index))
    groups = [attributes.get("data-group") for _, attributes in page.elements]
    assert (groups.count("songs"), groups.count("clips")) == (3, 20)
    assert "trained for 11 min" in " ".join(page.text.split())
    assert "expect texture, not riffs" in page.text
    assert "How the models learned" in page.text
    assert result.facts.music_flatness is not None
    assert f"{WHITE_NOISE:.3f}" in page.text


def test_album_yaml_resolves_the_config_and_names_checkpoints_and_seeds(workspace: Workspace) -> None:
    body = yaml.safe_load((build(workspace).folder.local / "album.yaml").read_text())
    assert body["album"] == {
        "name": "first", "songs": "toy-songs", "title": "first", "tracks": ["0000", "0001", "0002"],
    }  # fmt: skip
    assert body["checkpoints"] == ["0003-dim128-rnn3-f16 step 300"]
    assert [(t["recipe"]["seed"], t["recipe"]["index"]) for t in body["tracks"]] == [(7, 0), (7, 1), (7, 2)]


def test_album_again_writes_nothing(workspace: Workspace) -> None:
    first = build(workspace)
    times = {path: path.stat().st_mtime_ns for path in first.folder.local.rglob("*")}
    assert build(workspace).written == 0
    assert times == {path: path.stat().st_mtime_ns for path in first.folder.local.rglob("*")}


def test_album_with_other_tracks_rewrites_what_changed_and_drops_the_rest(workspace: Workspace) -> None:
    build(workspace)
    result = build(workspace, tracks=["0002", "0000"])
    assert [song.id for song in result.songs] == ["0002", "0000"]
    tracks = {path.name for path in result.folder.local.glob("*.flac")}
    assert tracks == {song.file for song in result.songs}
    check_page(Path(result.index))


def test_album_mends_a_torn_track(workspace: Workspace) -> None:
    result = build(workspace)
    track = result.folder.local / result.songs[1].file
    whole = track.read_bytes()
    track.write_bytes(whole[:1000])
    assert build(workspace).written == 1
    assert track.read_bytes() == whole


@pytest.mark.parametrize("harm", ["delete", "truncate", "no manifest"])
def test_album_of_a_missing_or_damaged_song_names_it_and_writes_nothing(
    workspace: Workspace, harm: str
) -> None:
    folder = workspace.song("toy-songs", "0001").local
    if harm == "delete":
        shutil.rmtree(folder)
    elif harm == "truncate":
        (folder / "song.flac").write_bytes((folder / "song.flac").read_bytes()[:500])
    else:
        (folder / "manifest.json").unlink()
    with pytest.raises(BadInput, match="0001"):
        build(workspace, tracks=["0000", "0001", "0002"])
    assert not workspace.storage.at("albums").exists("first")


def test_album_of_an_empty_batch_says_how_to_make_songs(workspace: Workspace) -> None:
    with pytest.raises(BadInput, match="orchestrator generate"):
        build(workspace, songs="nothing")


def test_album_without_its_sweep_and_dataset_says_so(workspace: Workspace) -> None:
    shutil.rmtree(workspace.storage.local / "sweeps")
    result = build(workspace)
    assert "not in this workspace any more" in check_page(Path(result.index)).text
    assert result.facts.music_flatness is None


def test_album_escapes_hostile_titles(workspace: Workspace) -> None:
    hostile = "</title><script>alert('x')</script> & \"quotes\" ../../etc"
    write_batch(workspace, "hostile", sounds=SONGS[:1], extra={"title": hostile})
    result = build(workspace, name="hostile", songs="hostile", title=hostile)
    page = check_page(Path(result.index))
    assert hostile in page.text
    assert [path.name for path in result.folder.local.glob("*.flac")] == [result.songs[0].file]


def test_album_flatness_is_that_of_the_training_music(workspace: Workspace) -> None:
    measured = build(workspace).facts.music_flatness
    music = [tone(16_000, seed)[: int(16_000 * 0.8) - 10] for seed in (0, 1)]
    expected = np.mean([spectral_flatness(pcm.astype(np.float32) / 32768) for pcm in music])
    assert measured == pytest.approx(expected, rel=1e-6)


def test_titles_are_the_same_for_the_same_recipe_and_never_twice() -> None:
    recipe = {"sweep": "s", "trial": "t", "step": 1, "seed": 0, "index": 0}
    assert make_title(recipe, set()) == make_title({**recipe, "engine": "other"}, set())
    taken: set[str] = set()
    for _ in range(1300):
        taken.add(make_title(recipe, taken))
    assert len(taken) == 1300


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Hollow Gradient", "07-hollow-gradient.flac"),
        ("Ünder/../Öl", "07-under-ol.flac"),
        ("暗闇", "07-song.flac"),
    ],
)
def test_file_names_are_plain(title: str, name: str) -> None:
    assert file_name(7, title) == name


@pytest.mark.system
def test_album_page_in_a_browser_plays_seeks_and_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    program = chromium() or pytest.skip("no browser: install the Debian package chromium")
    result = build(workspace)
    titles = [song.title for song in result.songs]
    now = "document.querySelector('.now-title').textContent"
    moving = (
        "new Promise(done => (function look() {"
        " const at = parseFloat(document.querySelector('.current .seek')?.style.getPropertyValue('--at'));"
        " at > 0 ? done(at) : requestAnimationFrame(look); })())"
    )
    with browser(program, tmp_path / "profile") as tab:
        tab.open(Path(result.index), 1200, 900)
        tab.press(" ", " ")
        assert 0 < tab.run(moving) <= 100
        assert tab.run(now) == titles[0]
        tab.press("ArrowRight")
        assert tab.run(now) == titles[1]
        box = tab.run("document.querySelectorAll('.track .seek')[0].getBoundingClientRect().toJSON()")
        tab.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
        assert tab.run(moving) >= 49
        assert tab.run(now) == titles[0]
        following = (
            f"new Promise(done => setInterval(() => {now} === {json.dumps(titles[1])} && done(true), 50))"
        )
        assert tab.run(following)  # the end of a song starts the next one
        tab.press(" ", " ")
        picture = Image.open(io.BytesIO(tab.picture()))
        assert picture.size == (1200, 900)
        assert len(picture.convert("RGB").getcolors(2**20)) > 200
        tab.size(390, 844)
        assert tab.run("document.documentElement.scrollWidth") <= 390
        assert tab.complaints == []
