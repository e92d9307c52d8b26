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
from orchestrator.album.titles import Titles
from orchestrator.album.tracklist import file_name
from orchestrator.config import AlbumConfig
from orchestrator.lease import hold
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput
from samplernn.measures import spectral_flatness
from tests.made import tone, write_dataset
from tests.orchestrator.browser import browser, chromium
from tests.orchestrator.made_sweep import RATE, write_batch, write_sweep
from tests.orchestrator.test_cli import run
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
    for number, (one, pcm) in enumerate(zip(result.tracks, SONGS, strict=True), start=1):
        song = one.track
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


def test_album_yaml_makes_the_same_album_again_and_credits_name_every_recipe(workspace: Workspace) -> None:
    first = build(workspace, tracklist=["0002", {"song": "0000", "start": 0.5, "stop": 1.5}], crossfade=0.2)
    folder = first.folder.local
    body = yaml.safe_load((folder / "album.yaml").read_text())
    assert [(track["song"], track["start"], track["stop"]) for track in body["tracklist"]] == [
        ("0002", 0, 2), ("0000", 0.5, 1.5),
    ]  # fmt: skip
    assert build(workspace, **body).written == 0
    credits = json.loads((folder / "credits.json").read_text())
    assert credits["checkpoints"] == ["0003-dim128-rnn3-f16 step 300"]
    assert [(t["recipe"]["seed"], t["recipe"]["index"]) for t in credits["tracks"]] == [(7, 2), (7, 0)]


def test_album_yaml_that_a_person_changed_is_theirs(workspace: Workspace) -> None:
    mine = build(workspace).folder.local / "album.yaml"
    mine.write_text(mine.read_text() + "# my notes\n")
    build(workspace, title="Another")
    assert mine.read_text().endswith("# my notes\n")


def test_album_again_writes_nothing(workspace: Workspace) -> None:
    first = build(workspace)
    times = {path: path.stat().st_mtime_ns for path in first.folder.local.rglob("*")}
    assert build(workspace).written == 0
    assert times == {path: path.stat().st_mtime_ns for path in first.folder.local.rglob("*")}


def test_album_with_other_tracks_rewrites_what_changed_and_drops_the_rest(workspace: Workspace) -> None:
    build(workspace)
    result = build(workspace, tracklist=["0002", "0000"])
    assert [one.track.song for one in result.tracks] == ["0002", "0000"]
    tracks = {path.name for path in result.folder.local.glob("*.flac")}
    assert tracks == {one.track.file for one in result.tracks}
    check_page(Path(result.index))


def test_album_mends_a_torn_track(workspace: Workspace) -> None:
    result = build(workspace)
    track = result.folder.local / result.tracks[1].track.file
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
        build(workspace, tracklist=["0000", "0001", "0002"])
    assert not workspace.storage.at("albums").exists("first")


def test_album_yaml_that_names_a_song_that_is_not_there_is_one_clear_error(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, where = tmp_path / "first.yaml", str(workspace.storage)
    file.write_text(yaml.safe_dump({"songs": "toy-songs", "tracklist": ["0000", "0042", {"song": "../up"}]}))
    code, _, error = run(monkeypatch, capsys, "album", str(file), "-w", where)
    assert code == 2
    assert error.startswith(
        "error: the album first can't be made of these 3 tracks:\n0042 is not there, or not"
    )
    assert "../up" in error
    assert "orchestrator generate" in error
    assert not workspace.storage.exists("albums")


def test_album_that_another_command_is_making_is_refused(workspace: Workspace) -> None:
    with hold(workspace.album("first")), pytest.raises(BadInput, match="is in use by process"):
        build(workspace)
    assert not workspace.album("first").exists("made.json")


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
    assert [path.name for path in result.folder.local.glob("*.flac")] == [result.tracks[0].track.file]


def test_album_flatness_is_that_of_the_training_music(workspace: Workspace) -> None:
    measured = build(workspace).facts.music_flatness
    music = [tone(16_000, seed)[: int(16_000 * 0.8) - 10] for seed in (0, 1)]
    expected = np.mean([spectral_flatness(pcm.astype(np.float32) / 32768) for pcm in music])
    assert measured == pytest.approx(expected, rel=1e-6)


def test_titles_are_the_same_for_the_same_recipe_and_never_twice() -> None:
    recipe = {"sweep": "s", "trial": "t", "step": 1, "seed": 0, "index": 0}
    titles = Titles()
    assert titles.make(recipe, set()) == titles.make({**recipe, "engine": "other"}, set())
    taken: set[str] = set()
    for _ in range(1300):
        taken.add(titles.make(recipe, taken))
    assert len(taken) == 1300


def test_titles_in_the_manner_of_a_list_are_new_words_of_its_letters(tmp_path: Path) -> None:
    known = ["Walking in Ashes", "Burning the Winter", "Wintering", "The Ash Walker", "Burn the Walls"]
    (tmp_path / "titles.txt").write_text("\n".join(known))
    titles = Titles(str(tmp_path / "titles.txt"))
    made = [
        titles.make({"sweep": "s", "trial": "t", "step": 1, "seed": 0, "index": i}, set()) for i in range(20)
    ]
    assert not set(made) & set(known)
    assert len(set(made)) > 5
    triples = {f"  {title} "[at : at + 3] for title in known for at in range(len(title) + 1)}
    assert all(title[at : at + 3] in triples for title in made for at in range(len(title) - 2))


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
    titles = [one.track.title for one in result.tracks]
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
