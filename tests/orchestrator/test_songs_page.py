"""The page of a batch: ranked and sorted by its songs' measures, long songs scroll, copies lie beside their music."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from orchestrator.pages.song_picture import GAP, HEIGHT, WAVE, song_png
from orchestrator.pages.songs_page import write_songs_page
from orchestrator.ranked_songs import SongRow, ranked_songs
from orchestrator.show_songs import SHOWN, show_songs, songs_table
from orchestrator.workspace import Workspace
from samplernn.chunks import Dataset, cache_folder
from samplernn.copying import TrainingMusic, closest
from samplernn.errors import BadInput
from samplernn.flac import encode_flac
from samplernn.song_measures import SongMeasures
from samplernn.storage import Storage
from tests.made import tone, write_dataset
from tests.orchestrator.browser import browser, chromium
from tests.orchestrator.made_sweep import RATE, write_batch, write_sweep
from tests.orchestrator.test_pages import Markup

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"


def measured(pcm: np.ndarray) -> dict:
    measures = SongMeasures(RATE)
    measures.hear(pcm)
    return measures.finish()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Songs of 4 s and 90 s, a silent one, and one that begins as the training music does."""
    from samplernn import commit

    workspace = Workspace.open(str(tmp_path / "workspace"))
    music = [tone(RATE * 8, seed=seed) for seed in range(2)]
    write_dataset(workspace.dataset("toy"), sounds=music)
    write_sweep(workspace)
    loud = (tone(RATE * 90, seed=5) * np.abs(np.sin(np.arange(RATE * 90) / RATE))).astype(np.int16)
    sounds = [tone(RATE * 4, seed=4), loud, np.zeros(RATE * 4, np.int16), music[1][RATE : RATE * 5]]
    write_batch(workspace, sounds=sounds)
    training = TrainingMusic(Dataset.open(workspace.dataset("toy"), cache_folder()))
    for index, pcm in enumerate(sounds):
        folder = workspace.song("toy-songs", f"{index:04d}")
        about = json.loads(folder.read("song.json"))
        nearest = closest(training.nearest(pcm[: RATE * 10].astype(np.float32) / 32768))
        about["measures"] = {
            **measured(pcm),
            "novelty": 1 - nearest.likeness,
            "nearest": dict(nearest.__dict__),
        }
        files = {"song.flac": encode_flac(pcm, RATE, {}), "song.json": commit.to_json(about)}
        commit.write_commit(folder, files)
    return workspace


def test_songs_are_ranked_without_faults_first_and_shown_with_their_passages(workspace):
    ranked = ranked_songs(workspace, "toy-songs")
    assert {row.id: row.fault for row in ranked[2:]} == {
        "0002": "silent for 100%", "0003": "copies the training music",
    }  # fmt: skip
    assert ranked[0].id == "0001"  # the one that varies
    index = Path(write_songs_page(workspace, "toy-songs", ranked))
    page = Markup(index)
    for tag, attributes in page.elements:
        for name in ("src", "href", "data-audio"):
            if attributes.get(name, "#").startswith("#"):
                continue
            assert (index.parent / attributes[name]).exists(), f"{tag} refers to {attributes[name]}"
    assert re.search(r"track 1 of the training music at 0:0\d: 100% alike", page.text)
    with Image.open(index.parent / "songs" / "0001.png") as picture:
        size = picture.size
    assert size == (90 * 24, HEIGHT + GAP + WAVE)
    before = {path: path.stat().st_mtime_ns for path in index.parent.rglob("*") if path.is_file()}
    write_songs_page(workspace, "toy-songs", ranked)
    assert before == {path: path.stat().st_mtime_ns for path in index.parent.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match="no finished song"):
        show_songs(workspace, "none", Console())


@pytest.mark.parametrize("width", [80, 120])
def test_best_songs_are_printed_in_the_page_s_order_within_the_terminal(workspace, width):
    screen = Console(width=width, record=True, file=io.StringIO())
    show_songs(workspace, "toy-songs", screen)
    lines = screen.export_text().splitlines()
    at = lines.index("4 songs, the best first:")
    assert lines[at + 1].split()[:3] == ["song", "length", "novelty"]
    printed = [line.split()[:2] for line in lines[at + 2 :] if line.startswith("00")]
    assert printed == [["0001", "1:30"], ["0000", "0:04"], ["0002", "0:04"], ["0003", "0:04"]]
    assert any("silent for" in line for line in lines)
    index = workspace.batch("toy-songs").local / "page" / "index.html"
    assert lines[-1] == f"to hear them: open {index}"
    assert index.exists()
    assert max(len(line) for line in lines[:-1]) <= width


def test_long_batch_prints_its_first_songs_and_how_many_more_there_are(tmp_path):
    workspace = Workspace.open(str(tmp_path))
    write_batch(workspace, sounds=[tone(RATE // 2, seed) for seed in range(SHOWN + 3)])
    screen = Console(width=80, record=True, file=io.StringIO())
    show_songs(workspace, "toy-songs", screen, page=False)
    lines = screen.export_text().splitlines()
    assert f"{SHOWN + 3} songs, the best first:" in lines
    assert len([line for line in lines if line.startswith("00")]) == SHOWN
    assert lines[-1] == f"and 3 more in {workspace.batch('toy-songs')}/songs"
    assert not workspace.batch("toy-songs").exists("page")


def test_widest_row_of_the_table_of_songs_fits_80_columns():
    """A batch of many sections and temperatures, every figure at its longest, and a song with several faults."""
    measures = {"novelty": 0.1, "variety_db": 10.25, "lufs": -70.0, "true_peak_dbtp": -100.1, "clipped": 0.5}
    traps = [{"kind": "silence", "seconds": 3700.0}, {"kind": "noise", "seconds": 34.0}]
    about = {"measures": measures, "samples": 4000 * RATE, "sample_rate": RATE, "traps": traps}
    screen = Console(width=80, record=True, file=io.StringIO())
    screen.print(songs_table([SongRow("s12-t03-0099", about, Storage.open("/"), "")]))
    text = screen.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[1].split()[:6] == ["s12-t03-0099", "1:06:40", "0.10", "10.2", "-70.0", "-100.1"]
    unmeasured = SongRow("0000", {**about, "measures": {}, "traps": []}, Storage.open("/"), "")
    screen.print(songs_table([unmeasured]))
    assert screen.export_text().split() == ["song", "length", "0000", "1:06:40"]


def test_waveform_below_the_spectrogram_is_as_loud_as_the_song():
    quiet, loud = np.full(RATE * 4, 400, np.int16), np.full(RATE * 4, 30_000, np.int16)
    both = np.concatenate([quiet * np.resize([1, -1], RATE * 4), loud * np.resize([1, -1], RATE * 4)]).astype(
        np.int16
    )
    picture = np.array(Image.open(io.BytesIO(song_png(both, RATE))))
    wave = (picture[HEIGHT + GAP :] > 0).sum(axis=0)
    assert wave.shape == (8 * 24,)
    assert wave[:90].max() <= 4
    assert wave[-90:].min() >= 0.9 * WAVE


@pytest.mark.system
@pytest.mark.skipif(chromium() is None, reason="needs chromium")
def test_page_in_a_browser_sorts_and_scrolls_and_obeys_its_policy(workspace, tmp_path):
    index = Path(write_songs_page(workspace, "toy-songs", ranked_songs(workspace, "toy-songs")))
    SHOTS.mkdir(parents=True, exist_ok=True)
    order = "[...document.querySelectorAll('.sortable tbody th')].map((cell) => cell.textContent).join(' ')"
    heading = (
        "[...document.querySelectorAll('.sortable th button')].find((b) => b.textContent == '%s').click()"
    )
    with browser(chromium(), tmp_path / "profile") as tab:
        tab.open(index, 1280, 900)
        assert tab.run(order).split()[0] == "0001"
        tab.run(heading % "novelty")
        assert tab.run(order).split()[-1] == "0003"
        tab.run(heading % "novelty")
        assert tab.run(order).split()[0] == "0003"
        tab.run(heading % "LUFS")
        assert tab.run(order).split()[-1] == "0002"  # it has none: last either way
        tab.run(heading % "LUFS")
        assert tab.run(order).split()[-1] == "0002"
        tab.run(
            "(async () => { for (const picture of document.querySelectorAll('.reel img')) "
            "{ picture.loading = 'eager'; await picture.decode(); } })()"
        )
        reel = "document.querySelector('#song-0001 .reel')"
        assert tab.run(f"{reel}.scrollWidth") > 1.5 * tab.run(f"{reel}.clientWidth")
        assert tab.run("document.documentElement.scrollWidth") <= 1280
        tab.run("document.querySelector('#song-0001 .play').click()")
        assert tab.run("document.querySelector('.dock').hidden") is False
        assert tab.complaints == []
        for width, height, scheme in (
            (1280, 900, "dark"),
            (1280, 900, "light"),
            (390, 844, "dark"),
            (390, 844, "light"),
        ):
            tab.size(width, height)
            tab.call(
                "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
            )
            assert tab.run("document.documentElement.scrollWidth") <= width
            tab.run("document.querySelector('.songs').scrollIntoView()")
            (SHOTS / f"songs-{width}-{scheme}.png").write_bytes(tab.picture())
            tab.run("scrollTo(0, 0)")
            (SHOTS / f"songs-top-{width}-{scheme}.png").write_bytes(tab.picture())
