"""Pages: safe and whole markup, curves that are true, pictures that show the sound, files kept when nothing changed."""

from __future__ import annotations

import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from orchestrator.pages import overview
from orchestrator.pages.bars import Bar, bars_svg
from orchestrator.pages.curves import HEIGHT, MAX_POINTS, WIDTH, Axis, Line, curve_svg, short, ticks
from orchestrator.pages.folder import MadeFolder
from orchestrator.pages.overview import MOST, Overview
from orchestrator.pages.render import POLICY, clock, duration
from orchestrator.pages.spectrogram import colour_map, spectrogram_png
from orchestrator.pages.sweep_page import write_sweep_page
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput
from samplernn.spectrogram import FLOOR_HZ, MAX_WIDTH, PIXELS_PER_SECOND, row_frequencies, spectrogram
from samplernn.storage import Storage
from tests.made import tone
from tests.orchestrator.browser import browser, chromium
from tests.orchestrator.made_sweep import RATE, write_sweep

SVG = "{http://www.w3.org/2000/svg}"
BITS, STEP = Axis("validation bits", "bits"), Axis("step", "steps")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(str(tmp_path / "workspace"))


class Markup(HTMLParser):
    """Every element of a page with its attributes, and the text between."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(index: Path) -> Markup:
    """A page obeys its own policy and refers only to files beside it, which exist."""
    page = Markup(index)
    policies = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [POLICY]
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    for tag, attributes in page.elements:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "script":
            assert attributes["src"]
        for name in ("href", "src", "data-audio"):
            if name in attributes:
                target = unquote(attributes[name])
                assert not re.match(r"[a-z]+:|/|\.\.", target), target
                assert (index.parent / target).is_file(), target
    return page


def test_sweep_page_obeys_its_policy_and_refers_to_files_beside_it(workspace: Workspace) -> None:
    write_sweep(workspace)
    index = write_sweep_page(workspace, "toy-sweep")
    assert index == workspace.sweep("toy-sweep").local / "page" / "index.html"
    page = check_page(index)
    players = [a for _, a in page.elements if a.get("data-group") == "clips"]
    assert len(players) == 2 * (
        2 * 3 + 2 * 2
    )  # clips x (whole trials x checkpoints + cut short x checkpoints)
    assert "the loss is NaN" in page.text


def test_sweep_page_lists_the_best_trial_first(workspace: Workspace) -> None:
    write_sweep(workspace)
    html = write_sweep_page(workspace, "toy-sweep").read_text()
    best = re.search(r'<tr data-trial="([^"]+)" class="best">', html)
    assert best
    assert best[1].startswith("0003-")
    assert best.start() < html.index('<tr data-trial="0000-')


def test_sweep_page_of_one_trial_and_of_none_evaluated_are_pages(workspace: Workspace) -> None:
    write_sweep(workspace, "single", space={})
    check_page(write_sweep_page(workspace, "single"))
    write_sweep(workspace, "early")
    shutil.rmtree(workspace.sweep("early").local / "trials")
    assert "No trial has been evaluated yet" in check_page(write_sweep_page(workspace, "early")).text


def test_sweep_page_escapes_a_hostile_reason_and_dataset(workspace: Workspace) -> None:
    hostile = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    config = write_sweep(workspace, "hostile", dataset=hostile, space={"model.rnn_type": ["LSTM", "GRU"]})
    assert config.dataset == hostile
    page = check_page(write_sweep_page(workspace, "hostile"))
    assert hostile in page.text


def test_sweep_page_again_writes_nothing_and_a_torn_file_is_made_anew(workspace: Workspace) -> None:
    write_sweep(workspace)
    index = write_sweep_page(workspace, "toy-sweep")
    files = {path: path.stat().st_mtime_ns for path in index.parent.rglob("*") if path.is_file()}
    torn = sorted(index.parent.glob("clips/*.flac"))[0]
    whole = torn.read_bytes()
    torn.write_bytes(whole[:100])
    write_sweep_page(workspace, "toy-sweep")
    assert torn.read_bytes() == whole
    assert {path for path, at in files.items() if path.stat().st_mtime_ns != at} == {torn}


def test_sweep_page_drops_clips_that_are_pruned_or_damaged(workspace: Workspace) -> None:
    write_sweep(workspace)
    folders = sorted((workspace.sweep("toy-sweep").local / "trials").glob("0003-*/clips/*"))
    (folders[1] / "clip-0.flac").write_bytes(b"fLaC")
    index = write_sweep_page(workspace, "toy-sweep")
    assert (index.parent / "clips/0003-dim128-rnn3-f16-step100-0.flac").exists()
    shutil.rmtree(folders[0])
    check_page(write_sweep_page(workspace, "toy-sweep"))
    kept = {path.name for path in index.parent.glob("clips/0003-*.flac")}
    assert {name.split("-step")[1] for name in kept} == {"200-1.flac", "300-0.flac", "300-1.flac"}


def test_sweep_page_of_no_sweep_names_those_there_are(workspace: Workspace) -> None:
    write_sweep(workspace)
    with pytest.raises(BadInput, match="toy-sweep"):
        write_sweep_page(workspace, "other")


def test_sweep_page_into_a_given_folder_leaves_the_workspace_alone(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_sweep(workspace)
    assert check_page(write_sweep_page(workspace, "toy-sweep", tmp_path / "out"))
    assert not workspace.sweep("toy-sweep").exists("page")


def test_made_folder_deletes_only_what_it_made_before(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    first = MadeFolder(Storage.open(tmp_path))
    first.put_bytes("a.txt", b"a")
    first.put_bytes("below/b.txt", b"b")
    first.finish()
    second = MadeFolder(Storage.open(tmp_path))
    second.put_bytes("a.txt", b"a")
    second.finish()
    assert second.written == 0
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "a.txt",
        "made.json",
        "mine.txt",
    ]


def test_curve_is_well_formed_and_places_points_where_they_belong() -> None:
    hostile = 'a<b>&"c"'
    lines = [
        Line("t1", hostile, [(0, 2.0), (400, 4.0), (1000, 3.0)], 0, "done"),
        Line("t2", "x", [(0, float("nan")), (10, 2.5)]),
    ]
    root = ET.fromstring(curve_svg(lines, STEP, BITS, "title"))
    best = next(g for g in root.iter(f"{SVG}g") if g.get("data-trial") == "t1")
    assert best.find(f"{SVG}title").text.startswith(hostile)
    dots = [(float(c.get("cx")), float(c.get("cy"))) for c in best.iter(f"{SVG}circle")]
    labels = {t.text: t for t in root.iter(f"{SVG}text") if t.get("class") == "value"}
    assert [x for x, _ in dots] == [float(labels[name].get("x")) for name in ("0", "400", "1,000")]
    assert [y + 4 for _, y in dots] == pytest.approx(
        [float(labels[name].get("y")) for name in ("2", "4", "3")]
    )
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in dots)


@pytest.mark.parametrize(
    "points", [[], [(0, 1.0)], [(5, 3.0), (5, 3.0)], [(i, 1 / (i + 1)) for i in range(5000)]]
)
def test_curve_of_few_and_many_points_is_drawn(points: list[tuple[float, float]]) -> None:
    root = ET.fromstring(curve_svg([Line("t", "t", points)], STEP, BITS, "title"))
    strokes = [path.get("d") for path in root.iter(f"{SVG}path") if path.get("class") == "stroke"]
    assert all("nan" not in d and d.count(" ") <= 2 * (MAX_POINTS + 2) for d in strokes)


def test_curve_bounds_the_axis_and_says_nothing_of_style() -> None:
    lines = [Line("t", "t", [(0, 400.0), (1, 5.0), (2, 4.0)])]
    svg = curve_svg(lines, STEP, BITS, "title", y_max=8)
    values = [t.text for t in ET.fromstring(svg).iter(f"{SVG}text") if t.get("text-anchor") == "end"]
    assert max(float(value) for value in values) == 8
    assert "style" not in svg


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1000, [0, 200, 400, 600, 800, 1000]),
        (2.53, 4.75, [2.5, 3, 3.5, 4, 4.5, 5]),
        (3, 3, [2.4, 2.6, 2.8, 3, 3.2, 3.4, 3.6]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 6) == pytest.approx(expected)


def test_numbers_are_written_for_people() -> None:
    assert [short(v) for v in (0.5, 3.0, 1200, 20_000, 1.5e6)] == ["0.5", "3", "1,200", "20k", "1.5M"]
    assert [duration(v) for v in (7, 600, 5400, 12_000)] == ["7 s", "10 min", "1 h 30 min", "3 h 20 min"]
    assert [clock(v) for v in (8, 75.4, 3723)] == ["0:08", "1:15", "1:02:03"]


def test_bars_are_well_formed_and_in_proportion() -> None:
    root = ET.fromstring(bars_svg([Bar("a & <b>", 0.1, "ours"), Bar("noise", 0.4, "limit")], "title"))
    short_bar, long_bar = (float(rect.get("width")) for rect in root.iter(f"{SVG}rect"))
    assert long_bar == pytest.approx(4 * short_bar, rel=0.01)


@pytest.mark.parametrize("rate", [16_000, 32_000])
@pytest.mark.parametrize("hertz", [110.0, 1000.0, 5000.0])
def test_spectrogram_of_a_sine_peaks_at_its_row_and_level(rate: int, hertz: float) -> None:
    sine = (np.sin(2 * np.pi * hertz * np.arange(2 * rate) / rate) * 16_384).astype(np.int16)
    levels = spectrogram(sine, rate)
    rows = row_frequencies(len(levels), rate)
    column = levels[:, levels.shape[1] // 2]
    assert abs(np.log2(rows[column.argmax()] / hertz)) < 0.2  # octaves
    assert column.max() == pytest.approx(-6, abs=2) or hertz > 500  # where a row is one bin wide
    assert np.median(column) < -60


def test_spectrogram_shows_when_a_sound_begins() -> None:
    pcm = np.zeros(2 * RATE, np.int16)
    pcm[RATE:] = tone(RATE)
    loud = spectrogram(pcm, RATE).max(axis=0) > -60
    assert not loud[: len(loud) // 2 - 3].any()
    assert loud[len(loud) // 2 + 3 :].all()


@pytest.mark.parametrize(
    ("seconds", "wide"), [(20, 20 * PIXELS_PER_SECOND), (600, MAX_WIDTH), (0, None), (0.01, None)]
)
def test_spectrogram_is_as_wide_as_the_sound_is_long_within_bounds(seconds: float, wide: int | None) -> None:
    png = spectrogram_png(np.zeros(round(seconds * RATE), np.int16), RATE, 40)
    picture = Image.open(io.BytesIO(png))
    assert picture.height == 40
    assert wide in (None, picture.width)
    assert np.asarray(picture.convert("L")).max() < 8  # silence is black


def test_spectrogram_of_music_is_brighter_at_its_peaks_than_noise_of_the_same_level() -> None:
    noise = (np.random.default_rng(0).normal(0, 3000, 4 * RATE)).astype(np.int16)
    chord = tone(4 * RATE)
    bright = [np.asarray(Image.open(io.BytesIO(spectrogram_png(pcm, RATE)))) for pcm in (chord, noise)]
    assert bright[0].max() > bright[1].max() + 20
    assert np.median(bright[0]) < np.median(bright[1])


@pytest.mark.parametrize("samples", [1, 3000, 400 * 2048 + 5, 5_000_000])
def test_overview_has_the_extremes_of_the_whole_and_where_it_was_cut_leaves_no_trace(samples: int) -> None:
    pcm = (np.random.default_rng(0).normal(0, 3000, samples)).astype(np.int16)
    pcm[samples // 2 :] //= 8
    whole, cut = Overview(RATE), Overview(RATE)
    whole.add(pcm)
    for at in range(0, samples, 70_001):
        cut.add(pcm[at : at + 70_001])
    assert whole.wave() == cut.wave()
    assert whole.picture(0.05) == cut.picture(0.05)
    lows, highs = whole.wave()
    assert len(lows) == len(highs) == Image.open(io.BytesIO(whole.picture(0.05))).width <= MOST
    middle = len(lows) // 2
    assert samples < 10_000 or max(highs[: middle - 1]) > 4 * max(highs[middle + 1 :])
    assert (min(lows), max(highs)) == (min(0, pcm.min()), max(0, pcm.max())) or samples < 10_000


def test_overview_shows_a_tone_at_its_height() -> None:
    t = np.arange(RATE * 30)
    sine = Overview(RATE)
    sine.add((8000 * np.sin(2 * np.pi * 1000 * t / RATE)).astype(np.int16))
    shown = np.asarray(Image.open(io.BytesIO(sine.picture(0.17))))
    row = int(shown[:, shown.shape[1] // 2].argmax())
    assert abs(np.log2(row_frequencies(overview.HEIGHT, RATE)[row] / 1000)) < 0.2  # octaves


def test_colour_map_grows_steadily_brighter() -> None:
    luma = colour_map() @ np.array([0.2126, 0.7152, 0.0722])
    assert luma[0] < 5
    assert luma[-1] > 220
    assert (np.diff(luma) > -1).all()
    assert row_frequencies(10, RATE)[[0, -1]] == pytest.approx([RATE / 2, FLOOR_HZ])


HIDDEN = "[...document.querySelectorAll('[data-curves] .plot')].map(plot => plot.hidden)"


@pytest.mark.system
def test_sweep_page_in_a_browser_plays_clips_and_lights_up_curves(
    workspace: Workspace, tmp_path: Path
) -> None:
    program = chromium() or pytest.skip("no browser: install the Debian package chromium")
    write_sweep(workspace)
    index = write_sweep_page(workspace, "toy-sweep")
    with browser(program, tmp_path / "profile") as tab:
        tab.open(index, 1200, 900)
        assert tab.run(HIDDEN) == [
            False,
            True,
        ]
        tab.run("document.querySelector('.switch input[value=time]').click()")
        assert tab.run(HIDDEN) == [
            True,
            False,
        ]
        tab.run("document.querySelector('.trials tr.best').dispatchEvent(new PointerEvent('pointerenter'))")
        assert tab.run("document.querySelectorAll('svg.curve .line.lit').length") == 3
        tab.run("window.scrollTo(0, document.querySelector('.matrix').offsetTop)")
        tab.run("document.querySelector('.clip .play').click()")
        assert tab.run("document.querySelector('.now-title').textContent").startswith("clip 1 of dim 128")
        Image.open(io.BytesIO(tab.picture())).verify()
        assert tab.complaints == []
