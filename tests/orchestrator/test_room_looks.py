"""How the listening room looks and moves: contrast, the tab key, nothing cut off, nothing that flashes or jumps.

Pictures are left in build/screenshots, for the eyes and for CI to keep.
"""

from __future__ import annotations

import pytest

from orchestrator.workspace import Workspace
from tests.made import tone
from tests.orchestrator.flashes import watched
from tests.orchestrator.listening import Listening
from tests.orchestrator.made_sweep import RATE, write_clips
from tests.orchestrator.served import served

pytestmark = pytest.mark.system


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


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_nothing_flashes_or_jumps(workspace: Workspace, browser, scheme: str) -> None:
    """While the room loads, plays, is marked, gets news and shows its other parts."""
    with served(workspace, "small") as (_, address):
        window = Listening(browser, f"{address}/", color_scheme=scheme)
        page = window.page
        page.goto("about:blank")
        page.wait_for_timeout(500)
        with watched(page) as seen:
            page.goto(f"{address}/")
            page.wait_for_selector(".clip")
            page.wait_for_timeout(1500)
            for key in ("n", "4", "p", "ArrowRight", "x", "ArrowDown", "b"):
                window.press(key)
                page.wait_for_timeout(500)
            window.saved()
            sounds = [tone(RATE, 3)] * 2
            write_clips(workspace, "small", "0001-dim16-rnn2-f4x16", 60, sounds, seconds=9.0)
            window.until("[...document.querySelectorAll('.head')].some((at) => at.textContent === 'step 60')")
            page.wait_for_timeout(1500)
            for tab, there in (
                ("curves", "#legend li"),
                ("songs", ".song"),
                ("picks", "code"),
                ("wall", ".clip"),
            ):
                page.click(f"#tab-{tab}")
                page.wait_for_selector(f"#panel-{tab} {there}")
                page.wait_for_timeout(1500)
        assert len(seen.at) > 20
        assert seen.flashes() == {}
        assert page.evaluate(JUMPS) == []
        with watched(page) as seen:
            for colour in ("white", "black", "white", "black"):
                page.evaluate(f"document.body.replaceChildren(); document.body.style.background = '{colour}'")
                page.wait_for_timeout(200)
        assert seen.flashes()  # what is looked for would be found
        window.context.close()


JUMPS = """() => new Promise((told) => new PerformanceObserver((list) => told(list.getEntries()
  .filter((entry) => !entry.hadRecentInput && entry.value > 0.001)
  .map((entry) => `${entry.value} at ${Math.round(entry.startTime)} ms: ` +
    entry.sources.map((from) => from.node?.outerHTML?.slice(0, 80)))
)).observe({ type: "layout-shift", buffered: true }) || setTimeout(() => told([]), 500))"""
"""Layout shifts since the page was loaded that no press of a key or the mouse explains."""


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
