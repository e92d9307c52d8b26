"""The listening room in a real browser: hear, switch, rate, pick, blind, live, and from a region to an album.

Pictures are left in build/screenshots, for the eyes and for CI to keep.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from orchestrator.config import AlbumConfig, SweepConfig
from orchestrator.drift import check_same_config
from orchestrator.journal import Journal
from orchestrator.picks import Mark, add_mark, picked
from orchestrator.plan import plan
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.chunks import Dataset
from samplernn.copying import TrainingMusic
from samplernn.train import train
from tests.made import tiny_experiment, tone, write_dataset
from tests.orchestrator.browser import chromium
from tests.orchestrator.made_sweep import RATE, write_batch, write_clips, write_sweep
from tests.orchestrator.served import served

pytestmark = pytest.mark.system
PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
HOSTILE = "<img src=x onerror=alert(1)>"
WAIT_MS = 20_000
ELSEWHERE = "room.example"
"""A name that the browser does not take for this machine."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of a real small sweep: two models, trained, with clips of two checkpoints each, and two songs."""
    folder = tmp_path_factory.mktemp("room")
    workspace = Workspace.open(str(folder / "workspace"))
    write_dataset(workspace.dataset("toy"), samples=64_000)
    base = tiny_experiment(max_steps=40, checkpoint_every=20, clip_seconds=0.8)
    config = SweepConfig(
        name="small", dataset="toy", base=base, space={"model.dim": [8, 16]}, schedule={"type": "none"}
    )
    check_same_config(workspace.sweep("small"), CONFIG, config)
    dataset = Dataset.open(workspace.dataset("toy"), folder / "cache")
    journal = Journal(workspace.sweep("small"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model is only slowed down by more
    for trial in plan(config):
        journal.add("start", trial.name, attempt=1, step=0)
        for _ in train(
            trial.experiment, dataset, workspace.trial("small", trial.name), device=torch.device("cpu")
        ):
            pass
        if trial.name.startswith("0000"):
            journal.add("end", trial.name, state="stopped", reason=HOSTILE, final=True)
    torch.set_num_threads(threads)
    sounds = [tone(6 * RATE, 1), tone(6 * RATE, 2)]
    write_batch(workspace, sweep="small", trial="0001-dim16-rnn2-f4x16", sounds=sounds)
    commit.write_record(workspace.batch("toy-songs"), CONFIG, {"sweep": "small"})
    return folder / "workspace"


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(trained, tmp_path / "workspace")
    return Workspace.open(str(tmp_path / "workspace"))


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    program = chromium() or pytest.skip("no browser: install the Debian package chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--mute-audio", f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"]
        launched = playwright.chromium.launch(executable_path=program, args=flags)
        yield launched
        launched.close()


class Listening:
    """One browser window in the room; everything that it complains of or asks elsewhere is collected."""

    def __init__(
        self, browser, address: str, width: int = 1200, height: int = 800, shows: str = ".clip", **context
    ) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, **context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on(
            "request",
            lambda asked: asked.url.startswith((address, "blob:")) or self.complaints.append(asked.url),
        )
        self.page.goto(address)
        self.page.wait_for_selector(shows)

    def until(self, script: str) -> None:
        """Wait until an expression holds. Playwright's own wait evaluates text, which the page's policy forbids."""
        loop = f"""async () => {{
            const end = performance.now() + {WAIT_MS};
            while (!({script})) {{
                if (performance.now() > end) return false;
                await new Promise(requestAnimationFrame);
            }}
            return true;
        }}"""
        assert self.page.evaluate(loop), script

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def plays(self) -> None:
        self.until("document.querySelector('#stage').classList.contains('playing')")

    def now(self) -> str:
        return self.page.text_content("#now")

    def saved(self) -> None:
        """Wait until every mark so far is; while one is on its way the line still tells of the one before."""
        self.until("document.querySelector('#saved[aria-busy=false]')?.textContent === 'saved'")

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")


@pytest.fixture
def listening(workspace: Workspace, browser) -> Iterator[Listening]:
    with served(workspace, "small") as (_, address):
        window = Listening(browser, f"{address}/")
        yield window
        window.context.close()
        assert window.complaints == []


def test_clip_plays_is_rated_and_picked_by_keys_and_is_so_after_a_reload(
    listening: Listening, workspace: Workspace
) -> None:
    listening.press("n")
    listening.plays()
    listening.until("document.querySelector('.clip.current.heard')")
    listening.press("4", "p", "t")
    listening.page.keyboard.type("the riff")
    listening.press("Enter")
    listening.saved()
    assert len(picked(workspace, "small")) == 1
    now = listening.now()
    listening.page.reload()
    listening.until("document.querySelector('.clip.picked[data-rating=\"4\"].heard')")
    listening.page.click(".clip.picked")
    listening.until("document.querySelector('#note').value === 'the riff'")
    assert listening.now() == now
    assert listening.page.get_attribute("#pick", "aria-pressed") == "true"
    listening.press("p", "0")
    listening.until(
        "!document.querySelector('.clip.picked') && !document.querySelector('.clip[data-rating=\"4\"]')"
    )


def test_arrows_go_to_clips_checkpoints_and_trials(listening: Listening) -> None:
    listening.press("n")
    listening.plays()
    first = listening.now()
    assert re.match(r"000\d · step 20 · clip 1 ", first)
    listening.press("ArrowRight")
    assert " step 20 · clip 2 " in listening.now()
    listening.press("Shift+ArrowRight")
    assert " step 40 · clip 2 " in listening.now()
    listening.press("ArrowDown")
    assert listening.now()[:4] != first[:4]
    assert " step 40 · clip 2 " in listening.now()
    listening.press("ArrowUp", "Shift+ArrowLeft", "ArrowLeft")
    assert listening.now() == first
    focused = "document.activeElement.dataset.id === document.querySelector('.clip.current').dataset.id"
    listening.until(focused)


def test_a_b_switches_at_the_same_position_without_a_gap(listening: Listening) -> None:
    module = "import('/static/listen.js')"
    measured = listening.page.evaluate(f"""async () => {{
        const {{ Listener }} = await {module};
        const ids = [...document.querySelectorAll('.song-probe, .clip')].slice(0, 2).map((clip) => clip.dataset.id);
        const listener = new Listener();
        await listener.prepare(ids[1]);
        await listener.play(ids[0]);
        await new Promise((done) => {{
            const look = () => (listener.position > 0.15 ? done() : requestAnimationFrame(look));
            look();
        }});
        const before = listener.position;
        const sounding = listener.deck;
        const switched = listener.play(ids[1], {{ keep: true }});
        const stillSounding = listener.deck === sounding && sounding.source !== null;
        await switched;
        const after = listener.position;
        listener.flip();
        await listener.prepare(ids[0]);
        return {{ before, after, stillSounding, id: listener.id === ids[0], playing: listener.playing }};
    }}""")
    assert measured["stillSounding"]
    assert measured["id"]
    assert measured["playing"]
    assert 0 <= measured["after"] - measured["before"] < 0.15


def test_long_song_is_streamed_by_ranges_and_sought_to_its_end(
    listening: Listening, workspace: Workspace
) -> None:
    ranges: list[int] = []
    listening.page.on("response", lambda got: "/audio/" in got.url and ranges.append(got.status))
    write_batch(workspace, "long", sweep="small", trial="0001-dim16-rnn2-f4x16", sounds=[tone(170 * RATE)])
    commit.write_record(workspace.batch("long"), CONFIG, {"sweep": "small"})
    listening.page.click("#tab-songs")
    listening.page.click(".song:has-text('long 0000') .play")
    listening.plays()
    assert 206 in ranges
    box = listening.page.locator("#wave").bounding_box()
    listening.page.mouse.click(box["x"] + box["width"] * 0.97, box["y"] + 20)
    listening.until("document.querySelector('.time')?.textContent.startsWith('2:4')")
    listening.plays()


def test_second_browser_at_once_loses_nothing_and_sees_the_other(workspace: Workspace, browser) -> None:
    with served(workspace, "small") as (_, address):
        ann, bob = (Listening(browser, f"{address}/") for _ in range(2))
        for window, name in ((ann, "ann"), (bob, "bob")):
            window.page.fill("#listener", name)
            window.press("Enter")
            window.page.click(".clip >> nth=0")
        ann.press("5", "p")
        bob.press("2", "x")
        for window in (ann, bob):
            window.saved()
        bob.until(
            "document.querySelector('.clip.current')?.getAttribute('aria-label').includes('picked by ann')"
        )
        ann.page.reload()
        ann.until("document.querySelector('.clip.picked[data-rating=\"5\"]')")
        assert ann.complaints == bob.complaints == []
        for window in (ann, bob):
            window.context.close()
    assert len(picked(workspace, "small")) == 1
    assert {path.name for path in (workspace.storage.local / "picks").iterdir()} == {"ann", "bob"}


def test_blind_mode_hides_every_name_and_its_marks_are_kept(listening: Listening) -> None:
    listening.page.click("#blind")
    listening.until("document.querySelector('.label .which')?.textContent === 'Model 1'")
    words = listening.page.evaluate(
        "document.querySelector('#wall').outerHTML + document.querySelector('#stage').outerHTML"
    )
    for name in ("dim", "step", "bits", "0001", "0000"):
        assert name not in words
    listening.page.click(".clip >> nth=1")
    listening.plays()
    assert re.match(r"Model 1, \d, clip \d", listening.now())
    listening.press("3")
    listening.saved()
    listening.picture("blind")
    listening.page.click("#blind")
    listening.until("document.querySelectorAll('.clip[data-rating=\"3\"]').length === 1")
    assert "dim" in listening.page.text_content("#wall")


def test_filters_show_what_is_asked_for(listening: Listening) -> None:
    listening.page.click(".clip >> nth=0")
    listening.press("p")
    listening.page.select_option("select[name=shown]", "picked")
    listening.until("document.querySelectorAll('.row:not(.heads)').length === 1")
    assert listening.page.locator(".clip:not(.dim)").count() == 1
    listening.page.select_option("select[name=shown]", "all")
    listening.page.select_option("select[name=bits]", "0.5")
    listening.until("document.querySelectorAll('.row:not(.heads)').length === 1")
    listening.page.select_option("select[name=bits]", "1")
    listening.page.select_option("select[name='value dim']", "8")
    listening.until("document.querySelector('.label .values')?.textContent === 'dim 8'")
    listening.page.select_option("select[name=state]", "interrupted")
    listening.until("!document.querySelector('#empty').hidden")


def test_hostile_reason_is_text(listening: Listening) -> None:
    listening.until(f"[...document.querySelectorAll('.ended')].some((at) => at.textContent === '{HOSTILE}')")
    assert listening.page.locator("img[src=x]").count() == 0


def test_new_checkpoint_appears_without_a_reload_and_moves_nothing(
    listening: Listening, workspace: Workspace
) -> None:
    listening.page.click(".clip >> nth=2")
    listening.plays()
    box = "JSON.stringify(document.querySelector('.clip.current').getBoundingClientRect())"
    before = listening.page.evaluate(box)
    trial = "0001-dim16-rnn2-f4x16"
    write_clips(workspace, "small", trial, 60, [tone(RATE, 3)] * 2, seconds=9.0)
    listening.until("[...document.querySelectorAll('.head')].some((head) => head.textContent === 'step 60')")
    assert listening.page.evaluate(box) == before
    assert listening.page.evaluate("document.activeElement.classList.contains('clip')")


def test_region_is_marked_dragged_into_the_tracklist_and_becomes_an_album(
    listening: Listening, workspace: Workspace
) -> None:
    page = listening.page
    page.click("#tab-songs")
    page.click(".song .play >> nth=1")
    listening.plays()
    listening.until("document.querySelector('#stage').classList.contains('song')")
    box = page.locator("#wave").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20, steps=30)
    page.mouse.up()
    region = page.locator(".regions li").first
    region.wait_for()
    region.drag_to(page.locator("#tracklist"))
    page.click(".song .add >> nth=0")
    page.wait_for_selector(".tracklist li >> nth=1")
    page.fill("#album input[name=name]", "first")
    page.fill("#album input[name=title]", "First Album")
    listening.picture("album")
    page.click("#album button")
    line = page.text_content("#album-said code")
    assert line.startswith("orchestrator album ")
    body = yaml.safe_load(workspace.album("first").read("album.yaml"))
    AlbumConfig.model_validate(body)
    assert [track["song"] for track in body["tracklist"]] == ["0001", "0000"]
    assert body["tracklist"][0]["start"] == pytest.approx(1.5, abs=0.1)
    assert body["tracklist"][0]["stop"] == pytest.approx(3.0, abs=0.1)
    page.reload()
    page.click("#tab-songs")
    page.wait_for_selector(".regions li")
    assert page.locator(".tracklist li").count() == 2


def test_album_that_can_not_be_written_is_told_and_the_tracklist_is_kept(
    listening: Listening, workspace: Workspace
) -> None:
    page = listening.page
    workspace.storage.write("albums", b"a file is in the way")
    page.click("#tab-songs")
    page.click(".song .add >> nth=0")
    page.fill("#album input[name=name]", "first")
    page.click("#album button")
    listening.until("document.querySelector('#album-said .wrong')?.textContent.includes('check space')")
    workspace.storage.delete("albums")
    page.reload()
    page.click("#tab-songs")
    page.fill("#album input[name=name]", "first")
    page.click("#album button")
    listening.until("document.querySelector('#album-said code')")
    assert len(yaml.safe_load(workspace.album("first").read("album.yaml"))["tracklist"]) == 1
    listening.complaints = [said for said in listening.complaints if "507" not in said]


def test_command_is_copied_here_and_from_another_machine(workspace: Workspace, browser) -> None:
    add_mark(workspace, "ann", "sweeps", "small", ("0001-dim16-rnn2-f4x16", 40), Mark(verdict="pick"))
    with served(workspace, "small", host=ELSEWHERE) as (room, address):
        for at in (address, address.replace("127.0.0.1", ELSEWHERE)):
            window = Listening(browser, f"{at}/")
            assert window.page.evaluate("isSecureContext") == (at == address)
            window.page.click("#tab-picks")
            window.page.click(".command button")
            window.until("document.querySelector('.command button')?.textContent === 'Copied'")
            window.page.click("#note")
            window.press("Control+v")
            assert window.page.input_value("#note") == room.generate_line()
            window.context.close()


def test_clip_that_copies_shows_it_and_plays_the_passage(listening: Listening, workspace: Workspace) -> None:
    dataset = Dataset.open(workspace.dataset("toy"), workspace.storage.local / "copies")
    copied = dataset.tracks[0][4_000:44_000] // 2
    trial = "0001-dim16-rnn2-f4x16"
    write_clips(workspace, "small", trial, 60, [copied], seconds=9.0, music=TrainingMusic(dataset))
    listening.page.click(".clip[data-badges~=copy]")
    listening.plays()
    with listening.page.expect_response("**/passage/*") as answer:
        listening.page.click(".beside")
    assert answer.value.headers["content-type"] == "audio/flac"
    listening.until("!document.querySelector('#stage').classList.contains('playing')")


def test_sweep_that_has_only_begun_says_so_and_its_first_clips_appear(workspace: Workspace, browser) -> None:
    write_sweep(workspace, "early", clips=1)
    folder = workspace.sweep("early").local
    manifests = {path: path.read_bytes() for path in folder.glob("trials/*/clips/*/manifest.json")}
    for path, data in manifests.items():
        path.write_bytes(data[:40])
    with served(workspace, "early") as (_, address):
        window = Listening(browser, f"{address}/", shows="#empty:not([hidden])")
        assert window.page.text_content("#empty").startswith("No clips yet")
        for tab in ("curves", "songs", "picks", "wall"):
            window.page.click(f"#tab-{tab}")
        window.page.click("#empty")
        window.press("n", " ", "ArrowRight", "p")
        for path, data in manifests.items():
            path.write_bytes(data)
        window.page.wait_for_selector(".clip")
        window.context.close()
    assert window.complaints == []


def test_mark_that_can_not_be_saved_is_told_and_saved_later(
    listening: Listening, workspace: Workspace
) -> None:
    workspace.storage.write("picks", b"a file is in the way")
    listening.page.click(".clip >> nth=0")
    listening.press("3")
    listening.until("document.querySelector('#saved').textContent.includes('not saved yet')")
    workspace.storage.delete("picks")
    listening.saved()
    listening.complaints = [said for said in listening.complaints if "507" not in said]


def test_mark_on_a_disk_that_is_full_is_saved_when_there_is_room(
    listening: Listening, workspace: Workspace
) -> None:
    folder = workspace.storage.local / "picks"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no root: a small disk can't be mounted")
    try:
        with pytest.raises(OSError, match="No space"):
            (folder / "filler").write_bytes(b"x" * 2**20)
        listening.page.click(".clip >> nth=0")
        listening.press("4")
        listening.until("document.querySelector('#saved').textContent.includes('No space left')")
        (folder / "filler").unlink()
        listening.saved()
        listening.page.reload()
        listening.until("document.querySelector('.clip[data-rating=\"4\"]')")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    listening.complaints = [said for said in listening.complaints if "507" not in said]


def test_clip_that_does_not_decode_is_shown_as_such(listening: Listening, workspace: Workspace) -> None:
    path = sorted((workspace.sweep("small").local / "trials").glob("0001-*/clips/*20.0001/clip-0.flac"))[0]
    path.write_bytes(b"fLaC")
    listening.page.click(".row:has([title^='0001']) .clip >> nth=0")
    listening.until("document.querySelector('#about').textContent.includes(\"can't be played\")")
    listening.until("document.querySelector('.clip.broken')")
    listening.complaints = [said for said in listening.complaints if "422" not in said]


def test_sweep_that_vanishes_is_told_on_the_page(listening: Listening, workspace: Workspace) -> None:
    folder = workspace.sweep("small").local
    folder.rename(folder.with_name("away"))
    listening.until(
        "document.querySelector('#trouble').textContent.includes('not in the workspace any more')"
    )
    listening.page.click(".clip >> nth=0")
    listening.until("document.querySelector('#about').textContent.includes(\"can't be played\")")
    folder.with_name("away").rename(folder)
    listening.until("document.querySelector('#trouble').hidden")
    listening.page.click(".clip >> nth=1")
    listening.plays()
    listening.complaints = [said for said in listening.complaints if "404" not in said]


def test_every_control_is_reached_by_the_tab_key_and_has_a_name(
    listening: Listening, workspace: Workspace
) -> None:
    page = listening.page
    for tab in ("wall", "curves", "songs", "picks"):
        page.click(f"#tab-{tab}")
        if tab == "songs":
            page.wait_for_selector(".song .add")
            for _ in range(2):
                page.click(".song .add >> nth=0")
        assert page.evaluate(NAMELESS) == []
        page.evaluate("document.activeElement.blur()")
        wanted = page.evaluate(f"{CONTROLS}.map((at) => (at.dataset.wanted = true))").count(True)
        assert wanted > 15
        for _ in range(wanted + 5):
            page.keyboard.press("Tab")
            page.evaluate("delete document.activeElement.dataset.wanted")
        missed = page.evaluate("[...document.querySelectorAll('[data-wanted]')].map((at) => at.outerHTML)")
        assert missed == [], tab


def test_tracks_are_moved_by_keys_and_the_focus_stays_with_them(listening: Listening) -> None:
    page = listening.page
    page.click("#tab-songs")
    assert page.is_disabled("#album button[type=submit]")
    for nth in (0, 1, 0):
        page.click(f".song .add >> nth={nth}")
    assert page.is_enabled("#album button[type=submit]")
    page.fill(".tracklist input >> nth=0", "First")
    said = "document.activeElement.getAttribute('aria-label')"
    page.focus("[aria-label='Move down track 1']")
    listening.press("Enter")
    assert page.evaluate(said) == "Move down track 2"
    listening.press("Enter")
    titles = "[...document.querySelectorAll('.tracklist input')].map((at) => at.value)"
    assert page.evaluate(titles)[2] == "First"
    page.focus("[aria-label='Take off track 1']")
    listening.press("Enter", "Enter")
    assert page.evaluate(said) == "Take off track 1"
    assert page.evaluate(titles) == ["First"]
    page.reload()
    page.click("#tab-songs")
    assert page.evaluate(titles) == ["First"]


def test_keys_seek_in_what_plays(listening: Listening) -> None:
    listening.page.click("#tab-songs")
    listening.page.click(".song .play >> nth=0")
    listening.plays()
    listening.press(" ", *"," * 12)  # back to where it began
    listening.until("document.querySelector('.time')?.textContent.startsWith('0:00')")
    listening.press(*"." * 6)
    listening.until("document.querySelector('.time')?.textContent.startsWith('0:03')")
    listening.press(*"," * 3)
    listening.until("document.querySelector('.time')?.textContent.startsWith('0:01')")


def test_blind_listener_does_not_come_upon_the_curves_by_the_arrow_keys(listening: Listening) -> None:
    page = listening.page
    page.click("#blind")
    page.focus("#tab-wall")
    listening.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-songs"
    assert page.is_hidden("#panel-curves")


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [1440, 800, 400])
def test_pictures_of_the_room_and_its_contrast(
    workspace: Workspace, browser, scheme: str, width: int
) -> None:
    """Every view: contrast of AA, nothing wider than the window, no text cut off without its whole as a title."""
    with served(workspace, "small") as (_, address):
        window = Listening(browser, f"{address}/", width, color_scheme=scheme)
        window.press("n")
        window.plays()
        window.press("4", "p")
        window.saved()
        window.until("document.querySelector('.sheet img.there')")
        for tab, there in (
            ("wall", ".clip"),
            ("curves", "#legend li"),
            ("songs", ".song"),
            ("picks", "code"),
        ):
            window.page.click(f"#tab-{tab}")
            window.page.wait_for_selector(f"#panel-{tab} {there}")
            if tab == "songs":
                window.page.click(".song .add >> nth=0")
            window.picture(f"{tab}-{scheme}-{width}")
            assert window.page.evaluate(CONTRAST) == [], tab
            assert window.page.evaluate(CUT) == [], tab
            assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
        window.context.close()
    assert window.complaints == []


CONTROLS = """[...document.querySelectorAll("button, input, select, summary, a[href], [tabindex='0']")].filter(
  (at) => at.checkVisibility() && !at.disabled && at.tabIndex >= 0)"""
"""What the tab key must come to; of a grid's clips one, of the tabs the one that is chosen."""
NAMELESS = """() => [...document.querySelectorAll("button, input, select, [role=grid], [role=region]")].filter((at) =>
  at.checkVisibility() && !(at.ariaLabel || at.labels?.[0]?.textContent || at.textContent).trim()
).map((at) => at.outerHTML)"""
CUT = """() => [...document.querySelectorAll("body *:not(svg *)")].filter((at) => {
  const text = [...at.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  const style = getComputedStyle(at);
  if (!text || !at.checkVisibility() || style.overflowX === "visible" || style.overflowX === "auto") return false;
  return at.scrollWidth > at.clientWidth + 1 && !at.title;
}).map((at) => at.outerHTML)"""


CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (at) => {
    for (; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((numbers(colour)[3] ?? 1) === 1) return colour;
    }
    return getComputedStyle(document.documentElement).backgroundColor;
  };
  const wrong = [];
  for (const at of document.querySelectorAll("body *:not(.clip):not(option)")) {
    const text = [...at.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!text || !at.checkVisibility() || at.disabled) continue;
    const [a, b] = [light(getComputedStyle(at).color), light(ground(at))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) wrong.push(`${at.tagName}.${at.className} ${at.textContent.slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return wrong;
}"""
