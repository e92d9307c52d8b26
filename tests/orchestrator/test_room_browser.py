"""The listening room in a real browser: hear, switch, rate, pick, blind, live, and from a region to an album.

Pictures are left in build/screenshots, for the eyes and for CI to keep.
"""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from orchestrator.config import AlbumConfig
from orchestrator.picks import Mark, add_mark, picked
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.chunks import Dataset
from samplernn.copying import TrainingMusic
from tests.made import tone
from tests.orchestrator.listening import ELSEWHERE, HOSTILE, Listening
from tests.orchestrator.made_sweep import RATE, write_batch, write_clips, write_sweep
from tests.orchestrator.served import served

pytestmark = pytest.mark.system


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
