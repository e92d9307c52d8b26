"""The listening room's server: what it shows and keeps, and what it refuses."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import typer
import yaml
from PIL import Image

from orchestrator.album.tracklist import tracklist
from orchestrator.asked import album_asked, songs_asked
from orchestrator.audition.badges import BADGES, BROKEN, flags, gain_db
from orchestrator.audition.index import Sound
from orchestrator.audition.preview import previews, sheet
from orchestrator.audition.room import Room
from orchestrator.audition.serve import bind
from orchestrator.cli import app
from orchestrator.lease import hold
from orchestrator.picks import Marks, picked
from orchestrator.workspace import SOURCES, Workspace
from samplernn import commit
from samplernn.audio import decode_flac
from samplernn.chunks import Dataset
from samplernn.copying import TrainingMusic
from samplernn.errors import BadInput
from samplernn.measures import measure
from samplernn.preview import PEAKS, PREVIEWS, STRIP_HEIGHT, STRIP_WIDTH, make_preview, pack, peaks
from tests.made import tone, write_dataset
from tests.orchestrator.made_sweep import RATE, write_batch, write_clips, write_sweep
from tests.orchestrator.served import served
from tests.orchestrator.test_cli import run

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
TRIAL = "0003-dim128-rnn3-f16"
TRIALS = ("0000-dim64-rnn2-f16", "0001-dim128-rnn2-f16")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(str(tmp_path / "workspace"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a sweep and two songs, to be copied: writing it is mostly waiting for the disk."""
    workspace = Workspace.open(str(tmp_path_factory.mktemp("audition") / "workspace"))
    write_sweep(workspace)
    write_batch(workspace, sounds=[tone(RATE, 1), tone(2 * RATE, 2)])
    commit.write_record(workspace.batch("toy-songs"), "config.json", {"sweep": "toy-sweep"})
    return Path(workspace.storage.root)


@pytest.fixture
def room(written: Path, workspace: Workspace) -> Iterator[tuple[Room, httpx.Client]]:
    shutil.copytree(written, workspace.storage.root)
    with served(workspace, "toy-sweep") as (made, address), httpx.Client(base_url=address) as client:
        yield made, client


def news(client: httpx.Client, since: str = "0.0.0", listener: str = "ann") -> dict:
    answer = client.get("/news", params={"since": since, "listener": listener})
    assert answer.status_code == 200, answer.text
    return answer.json()


def cells(told: dict) -> dict[tuple[str, int], list]:
    """(trial, step) -> [cell id, step, seconds, bits, clips]."""
    return {(trial["name"], cell[1]): cell for trial in told["trials"] for cell in trial["cells"]}


def clip(told: dict, trial: str = TRIAL, step: int = 100, number: int = 0) -> str:
    return f"{cells(told)[trial, step][0]}.{number}"


def file_of(workspace: Workspace, trial: str = TRIAL, step: int = 100, number: int = 0) -> Path:
    folder = workspace.trial("toy-sweep", trial).local
    assert folder is not None
    return folder / "clips" / f"step-{step:08d}.0001" / f"clip-{number}.flac"


def mark(client: httpx.Client, found: str, listener: str = "ann", **fields: object) -> httpx.Response:
    return client.post("/marks", json={"listener": listener, "id": found, "set": fields})


# What it shows


def test_news_tells_every_trial_and_clip_once_and_then_only_what_is_new(room, workspace: Workspace) -> None:
    _, client = room
    told = news(client)
    assert [trial["name"][:4] for trial in told["trials"]] == ["0000", "0001", "0002", "0003"]
    assert sorted(step for name, step in cells(told) if name == TRIAL) == [100, 200, 300]
    assert [song["song"] for song in told["songs"]] == ["0000", "0001"]
    since = ".".join(map(str, told["versions"]))
    assert news(client, since) == {**told, "trials": [], "songs": [], "marks": {}}
    write_clips(workspace, "toy-sweep", TRIAL, 400, [tone(800)], seconds=9.0)
    again = news(client, since)
    assert list(cells(again)) == [(TRIAL, step) for step in (100, 200, 300, 400)]
    since = ".".join(map(str, again["versions"]))
    write_batch(workspace, sounds=[tone(RATE, 1), tone(RATE, 2), tone(RATE, 3)])
    assert [song["song"] for song in news(client, since)["songs"]] == ["0002"]


def state(told: dict[str, Any]) -> str:
    return str(next(trial["state"] for trial in told["trials"] if trial["name"] == TRIAL))


def test_news_of_a_running_trial_tells_a_new_checkpoint_when_its_manifest_is_there(
    room, workspace: Workspace
) -> None:
    _, client = room
    folder = workspace.sweep("toy-sweep").at("journal")
    seq = len(folder.names()) + 1
    entry = {"seq": seq, "kind": "start", "trial": TRIAL, "attempt": 1, "step": 300}
    commit.write_record(folder, f"{seq:08d}.json", entry)
    with hold(workspace.sweep("toy-sweep")):
        assert state(news(client)) == "running"
    told = news(client)
    since = ".".join(map(str, told["versions"]))
    assert state(told) == "interrupted"
    at = workspace.trial("toy-sweep", TRIAL).at("clips", "step-00000400.0001")
    at.write("clip-0.flac", b"half")
    assert news(client, since)["trials"] == []
    at.delete("clip-0.flac")
    write_clips(workspace, "toy-sweep", TRIAL, 400, [tone(800)], seconds=9.0)
    assert (TRIAL, 400) in cells(news(client, since))


def test_about_tells_waveform_measures_and_a_gain_that_levels(room) -> None:
    _, client = room
    about = client.get(f"/about/{clip(news(client))}").json()
    assert about["seconds"] == pytest.approx(0.1)
    assert len(about["peaks"]) == PEAKS
    assert about["gain"] == pytest.approx(-20 - about["measures"]["rms_dbfs"], abs=1e-6)


def test_sheet_and_picture_are_pictures(room) -> None:
    _, client = room
    told = news(client)
    sheet_png = Image.open(io.BytesIO(client.get(f"/sheet/{cells(told)[TRIAL, 100][0]}").content))
    assert sheet_png.size == (STRIP_WIDTH, 2 * STRIP_HEIGHT)
    assert Image.open(io.BytesIO(client.get(f"/picture/{clip(told)}").content)).height == 72
    assert b"<svg" in client.get("/curves").content


def test_audio_is_sent_whole_in_ranges_and_not_again(room, workspace: Workspace) -> None:
    _, client = room
    path, whole = f"/audio/{clip(news(client))}", file_of(workspace).read_bytes()
    answer = client.get(path)
    assert (answer.status_code, answer.content) == (200, whole)
    for asked, start, stop in (
        ("0-9", 0, 10),
        (f"{len(whole) - 5}-", -5, None),
        ("-7", -7, None),
        ("5-999999999", 5, None),
    ):
        part = client.get(path, headers={"Range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, whole[start:stop])
    assert part.headers["content-range"] == f"bytes 5-{len(whole) - 1}/{len(whole)}"
    assert client.get(path, headers={"Range": "bytes=999999999-"}).status_code == 416
    assert client.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))


def test_page_has_no_inline_script_or_style_and_refers_to_itself_alone(room) -> None:
    _, client = room
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    for tag, attributes in Page(answer.text).elements:
        assert tag != "style"
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("/static/", "#"))
                assert attributes[name][0] == "#" or client.get(attributes[name]).status_code == 200
        if tag == "script":
            assert attributes["src"]


def test_scripts_import_only_what_is_served(room) -> None:
    _, client = room
    for name in ("room", "wall", "stage", "listen", "songs", "marks", "view", "library", "net"):
        script = client.get(f"/static/{name}.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert "http://" not in script.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in script.text
    assert "BSD" in client.get("/static/vendor/LICENSE-wavesurfer.txt").text


def test_page_escapes_a_hostile_dataset(workspace: Workspace) -> None:
    write_sweep(workspace, "hostile", dataset=HOSTILE, space={"model.rnn_type": ["LSTM", "GRU"]})
    with served(workspace, "hostile") as (_, address):
        text = httpx.get(address).text
    page = Page(text)
    assert not [tag for tag, attributes in page.elements if tag == "img" and attributes.get("src") == "x"]
    body = next(attributes for tag, attributes in page.elements if tag == "body")
    assert json.loads(body["data-facts"])["dataset"] == HOSTILE


# What it keeps


def test_marks_of_two_listeners_are_kept_and_told_to_each_other_and_to_a_new_server(
    room, workspace: Workspace
) -> None:
    _, client = room
    found = clip(news(client))
    assert mark(client, found, "ann", heard=True).status_code == 200
    assert mark(client, found, "ann", rating=4, verdict="pick", note=HOSTILE).status_code == 200
    assert mark(client, found, "bob", rating=2).status_code == 200
    expected = {
        "heard": True,
        "rating": 4,
        "verdict": "pick",
        "note": HOSTILE,
        "others": {"bob": {"rating": 2}},
    }
    assert news(client)["marks"] == {found: expected}
    theirs = news(client, listener="bob")["marks"][found]
    assert theirs["others"]["ann"] == {"rating": 4, "verdict": "pick", "note": HOSTILE}
    assert picked(workspace, "toy-sweep") == {(TRIAL, 100)}
    with served(workspace, "toy-sweep") as (_, address), httpx.Client(base_url=address) as other:
        assert news(other)["marks"] == {found: expected}


def test_marks_of_a_song_keep_its_regions(room, workspace: Workspace) -> None:
    _, client = room
    song = news(client)["songs"][1]["id"]
    region = {"start": 0.5, "stop": 1.5, "title": "riff"}
    assert mark(client, song, regions=[region]).status_code == 200
    assert news(client)["marks"][song]["regions"] == [region]
    marks = Marks(workspace, "songs", "toy-songs")
    assert marks.refresh() == {("0001",)}


def parsed(line: str) -> dict[str, Any]:
    """What the command line's own parser makes of a line that the page shows."""
    program, verb, *words = shlex.split(line)
    assert program == "orchestrator"
    command = typer.main.get_command(app)
    return dict(command.commands[verb].make_context(verb, words).params)  # type: ignore[attr-defined]


def test_generate_gives_one_command_for_all_picks_and_a_new_batch_when_they_are_others(
    room, workspace: Workspace
) -> None:
    _, client = room
    assert client.get("/generate").json() == {"picked": [], "line": ""}
    mark(client, clip(news(client), step=200), verdict="pick")
    mark(client, clip(news(client), step=300), "bob", verdict="pick")
    told = client.get("/generate").json()
    assert [one["step"] for one in told["picked"]] == [200, 300]
    there = f" --workspace {workspace.storage}"
    assert told["line"] == f"orchestrator generate toy-sweep picks=true songs=20 seconds=120{there}"
    begun = [{"section": 0, "sweep": "toy-sweep", "trial": TRIAL, "step": step} for step in (200, 300)]
    commit.write_record(workspace.batch("toy-sweep-picks"), SOURCES, {"sources": begun})
    assert client.get("/generate").json() == told
    mark(client, clip(news(client), step=300), "bob", verdict=None)
    line = client.get("/generate").json()["line"]
    assert line.removesuffix(there).endswith(" seconds=120 name=toy-sweep-picks-2")
    for shown, name in ((told["line"], "toy-sweep-picks"), (line, "toy-sweep-picks-2")):
        given = parsed(shown)
        job = songs_asked([given["sweep_name"], *given["settings"]]).job
        assert (job.name, job.sweep, job.picks) == (name, "toy-sweep", True)
        assert (job.generate.songs, job.generate.seconds) == (20, 120)
        assert Workspace.open(given["workspace"]) == workspace


def test_album_is_written_as_a_tracklist_of_regions_and_its_command_makes_it(
    room, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, client = room
    first, second = (song["id"] for song in news(client)["songs"])
    tracks = [{"id": second, "start": 0.25, "stop": 1.75, "title": "Riff"}, {"id": first}]
    workspace.album("first").write("album.yaml", b"{name: first, songs: old, loudness: -14, tracklist: [x]}")
    answer = client.post("/album", json={"name": "first", "title": "First", "tracks": tracks})
    assert answer.status_code == 200, answer.text
    file = Path(answer.json()["file"])
    body = yaml.safe_load(file.read_text())
    title = body["tracklist"][1].pop("title")
    assert title
    assert body == {
        "name": "first",
        "songs": "toy-songs",
        "loudness": -14.0,
        "title": "First",
        "tracklist": [{"song": "0001", "title": "Riff", "start": 0.25, "stop": 1.75}, {"song": "0000"}],
    }
    assert shlex.split(answer.json()["line"])[:3] == ["orchestrator", "album", str(file)]
    made = tracklist(workspace, album_asked(str(file), []))
    assert [(track.start, track.stop) for track in made] == [(RATE // 4, RATE * 7 // 4), (0, RATE)]
    code, _, error = run(monkeypatch, capsys, *shlex.split(answer.json()["line"])[1:])
    assert code == 0, error
    assert sorted(path.name for path in file.parent.glob("*.flac")) == [made[0].file, made[1].file]


def test_album_that_is_there_and_no_album_is_left_alone(room, workspace: Workspace) -> None:
    _, client = room
    workspace.album("first").write("album.yaml", b"mine: 1")
    body = {"name": "first", "tracks": [{"id": news(client)["songs"][0]["id"]}]}
    assert "is no album" in client.post("/album", json=body).text
    assert workspace.album("first").read("album.yaml") == b"mine: 1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "../up"}, "must be 1 to 64"),
        ({"tracks": []}, "tracks"),
        ({"tracks": [{"id": "nothing"}]}, "not there"),
        ({"tracks": [{"id": "SONG", "start": 0.5, "stop": 9.0}]}, "no part"),
        ({"tracks": [{"id": "SONG", "start": 0.5, "stop": 0.2}]}, "no part"),
    ],
)
def test_album_that_can_not_be_is_refused_and_nothing_written(
    room, workspace: Workspace, change: dict, said: str
) -> None:
    _, client = room
    song = news(client)["songs"][0]["id"]
    body = {"name": "first", "tracks": [{"id": song}], **change}
    answer = client.post("/album", content=json.dumps(body).replace("SONG", song), headers=JSON)
    assert answer.status_code == 422
    assert said in answer.text
    assert not workspace.storage.exists("albums")


def test_song_that_copies_has_a_badge_and_the_passage_to_hear_beside_it(workspace: Workspace) -> None:
    write_dataset(workspace.dataset("toy"), samples=64_000)
    write_sweep(workspace)
    nearest = {"at": 0.0, "likeness": 0.9, "track": 1, "track_at": 0.5}
    measures = {"novelty": 0.1, "nearest": nearest, "lufs": None, "rms_dbfs": -20.0, "peak_dbfs": -6.0}
    write_batch(workspace, sounds=[tone(RATE, 1)], extra={"measures": measures})
    commit.write_record(workspace.batch("toy-songs"), "config.json", {"sections": [{"sweep": "toy-sweep"}]})
    with served(workspace, "toy-sweep") as (_, address), httpx.Client(base_url=address) as client:
        song = news(client)["songs"][0]
        pcm, rate = decode_flac(client.get(f"/passage/{song['id']}").content)
        assert client.get(f"/passage/{clip(news(client))}").status_code == 404
    assert [badge.name for at, badge in enumerate(BADGES) if song["flags"] & (1 << at)] == ["copy"]
    assert rate == RATE
    assert (pcm == tone(64_000, 1)[RATE // 2 : RATE // 2 + 2 * RATE]).all()


def test_clip_that_copies_has_a_badge_its_passage_and_the_least_novelty(
    workspace: Workspace, tmp_path: Path
) -> None:
    sounds = [tone(6 * RATE, seed) for seed in (1, 2)]
    write_dataset(workspace.dataset("toy"), sounds=sounds)
    music = TrainingMusic(Dataset.open(workspace.dataset("toy"), tmp_path / "cache"))
    write_sweep(workspace, space={"model.dim": [64, 128]})
    copied, other = sounds[1][RATE : 4 * RATE] // 2, tone(3 * RATE, 77)
    write_clips(workspace, "toy-sweep", TRIALS[0], 400, [copied, other], seconds=9.0, music=music)
    write_clips(workspace, "toy-sweep", TRIALS[1], 400, [other, other], seconds=9.0, music=music)
    with served(workspace, "toy-sweep") as (_, address), httpx.Client(base_url=address) as client:
        told = news(client)
        ids = [clip(told, TRIALS[0], 400, number) for number in (0, 1)]
        badges = [flags & (1 << [badge.name for badge in BADGES].index("copy")) for _, flags in
                  cells(told)[TRIALS[0], 400][4]]  # fmt: skip
        assert [bool(bit) for bit in badges] == [True, False]
        novelty = [trial["sorts"]["novelty"] for trial in told["trials"]]
        assert novelty[0] < novelty[1]
        about = client.get(f"/about/{ids[0]}").json()
        assert about["gain"] == pytest.approx(
            min(-20 - about["measures"]["lufs"], -about["measures"]["peak_dbfs"])
        )
        pcm, _ = decode_flac(client.get(f"/passage/{ids[0]}").content)
        at = round((1 + about["measures"]["nearest"]["at"]) * RATE)
        assert abs(np.corrcoef(pcm, sounds[1][at : at + len(pcm)])[0, 1]) > 0.9


# What it refuses


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "path",
    [
        "/audio/..%2f..%2f..%2fetc%2fpasswd", "/audio/../config.json", "/audio/%2e%2e", "/audio/0003-dim128-rnn3-f16",
        "/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/",
        "/sheet/%2e%2e", "/picture/x", "/about/x.0", "/workspace/sweeps/toy-sweep/config.json", "/static/room.js%00",
    ],
)  # fmt: skip
def test_path_that_is_no_id_is_not_there(room, path: str) -> None:
    _, client = room
    answer = client.send(client.build_request("GET", httpx.URL(client.base_url, raw_path=path.encode())))
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_clip_that_is_a_link_out_of_the_workspace_is_refused(
    room, workspace: Workspace, tmp_path: Path
) -> None:
    _, client = room
    found, path = clip(news(client)), file_of(workspace)
    outside = tmp_path / "outside.flac"
    shutil.move(path, outside)
    path.symlink_to(outside)
    answer = client.get(f"/audio/{found}")
    assert answer.status_code == 422
    assert "link out of the workspace" in answer.text


def test_clip_that_is_damaged_or_no_audio_is_shown_as_such_and_the_others_play(
    room, workspace: Workspace
) -> None:
    _, client = room
    told = news(client)
    file_of(workspace).write_bytes(b"fLaC but not really")
    assert client.get(f"/audio/{clip(told)}").status_code == 422
    assert "SHA-256" in client.get(f"/about/{clip(told)}").json()["error"]
    assert client.get(f"/sheet/{cells(told)[TRIAL, 100][0]}").status_code == 200
    assert client.get(f"/audio/{clip(told, number=1)}").status_code == 200
    since = ".".join(map(str, told["versions"]))
    assert cells(news(client, since))[TRIAL, 100][4] == [[0, BROKEN], [1, 0]]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "a@localhost"]
)
def test_host_that_is_not_ours_is_refused(room, host: str) -> None:
    _, client = room
    assert client.get("/news?listener=ann", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8765"])
def test_host_of_a_tunnel_is_ours(room, host: str) -> None:
    _, client = room
    assert client.get("/news?listener=ann", headers={"Host": host}).status_code == 200


def test_host_of_all_addresses_takes_addresses_but_no_names(workspace: Workspace) -> None:
    write_sweep(workspace)
    with served(workspace, "toy-sweep", host="0.0.0.0") as (_, address):
        codes = [
            httpx.get(address, headers={"Host": host}).status_code for host in ("10.1.2.3:80", "evil.example")
        ]
    assert codes == [200, 421]


def test_token_is_asked_for_once_and_then_kept_in_a_cookie(workspace: Workspace) -> None:
    write_sweep(workspace)
    with (
        served(workspace, "toy-sweep", token="s3cret") as (_, address),
        httpx.Client(base_url=address) as client,
    ):
        assert [
            client.get(at).status_code for at in ("/", "/news?listener=a", "/?token=wrong", "/static/room.js")
        ] == [401] * 4
        assert client.get("/", headers={"Cookie": "listening_room=wrong"}).status_code == 401
        entered = client.get("/?token=s3cret")
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert "HttpOnly" in entered.headers["set-cookie"]
        assert "SameSite=strict" in entered.headers["set-cookie"]
        assert client.get("/").status_code == 200


def test_writing_from_another_site_or_as_a_form_is_refused(room, workspace: Workspace) -> None:
    _, client = room
    body = {"listener": "ann", "id": clip(news(client)), "set": {"rating": 5}}
    text = json.dumps(body)
    for headers, status in (
        ({**JSON, "Origin": "http://evil.example"}, 403),
        ({**JSON, "Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ):
        assert client.post("/marks", content=text, headers=headers).status_code == status
    assert not workspace.storage.exists("picks")
    own = {**JSON, "Origin": str(client.base_url).rstrip("/")}
    assert client.post("/marks", content=text, headers=own).status_code == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"listener": "../bob"}, 422), ({"id": "../../x"}, 422), ({"set": {"rating": 9}}, 422),
        ({"set": {"path": "/"}}, 422), ({"more": 1}, 422), ({"set": {"note": "x" * 300_000}}, 413),
    ],
)  # fmt: skip
def test_mark_that_breaks_a_rule_is_refused(room, workspace: Workspace, change: dict, status: int) -> None:
    _, client = room
    body = {"listener": "ann", "id": clip(news(client)), "set": {"rating": 3}, **change}
    assert client.post("/marks", json=body).status_code == status
    assert not workspace.storage.exists("picks")


def test_mark_that_storage_does_not_take_is_told_and_taken_later(room, workspace: Workspace) -> None:
    _, client = room
    found = clip(news(client))
    workspace.storage.write("picks", b"a file is in the way")
    answer = mark(client, found, rating=3)
    assert answer.status_code == 507
    assert "can't" in answer.text
    workspace.storage.delete("picks")
    assert mark(client, found, rating=3).status_code == 200
    assert news(client)["marks"][found]["rating"] == 3


# Bad workspaces


def test_sweep_that_vanishes_is_told_and_what_was_read_stays(room, workspace: Workspace) -> None:
    _, client = room
    told = news(client)
    folder = workspace.sweep("toy-sweep").local
    assert folder is not None
    folder.rename(folder.with_name("away"))
    gone = news(client)
    assert "not in the workspace any more" in gone["trouble"]
    assert len(gone["trials"]) == 4
    assert client.get(f"/audio/{clip(told)}").status_code == 404
    folder.with_name("away").rename(folder)
    assert news(client)["trouble"] == ""
    assert client.get(f"/audio/{clip(told)}").status_code == 200


def test_sweep_without_clips_and_half_written_is_a_room_and_no_sweep_is_not(workspace: Workspace) -> None:
    write_sweep(workspace, "early")
    folder = workspace.sweep("early").local
    assert folder is not None
    for path in folder.glob("trials/*/clips/*/manifest.json"):
        path.write_bytes(path.read_bytes()[:40])
    shutil.rmtree(folder / "trials" / "0000-dim64-rnn2-f16")
    with served(workspace, "early") as (_, address), httpx.Client(base_url=address) as client:
        told = news(client)
        assert [trial["cells"] for trial in told["trials"]] == [[], [], [], []]
        assert told["trouble"] == ""
    with pytest.raises(BadInput, match="early"):
        Room(workspace, "other")


def test_sweep_whose_clips_were_pruned_loses_them(room, workspace: Workspace) -> None:
    _, client = room
    told = news(client)
    shutil.rmtree(file_of(workspace).parent)
    assert (TRIAL, 100) not in cells(news(client, ".".join(map(str, told["versions"]))))
    assert client.get(f"/audio/{clip(told)}").status_code == 404


# The parts


def test_gain_levels_by_lufs_where_measured_and_never_clips() -> None:
    assert gain_db({"lufs": -26.0, "rms_dbfs": -30.0, "peak_dbfs": -12.0}) == pytest.approx(6.0)
    assert gain_db({"rms_dbfs": -26.0, "peak_dbfs": -2.0}) == pytest.approx(2.0)
    assert gain_db({"rms_dbfs": -10.0, "peak_dbfs": 0.0}) == pytest.approx(-10.0)
    assert gain_db({"rms_dbfs": -90.0, "peak_dbfs": -80.0}) == 24.0
    assert gain_db({}) == 0.0


def test_flags_are_the_badges_whose_measures_are_there_and_beyond_their_limits() -> None:
    def names(measures: dict[str, float]) -> list[str]:
        return [badge.name for at, badge in enumerate(BADGES) if flags(measures) & (1 << at)]

    noise = np.random.default_rng(0).normal(0, 0.2, RATE).astype(np.float32)
    assert names(measure(noise)) == ["noise"]
    assert names(measure(np.zeros(RATE, np.float32))) == ["silence"]
    assert names(measure((tone(RATE) / 32768).astype(np.float32))) == []
    assert names({"dc": -0.2, "novelty": 0.1, "repetition": 0.99, "lufs": None}) == ["loop", "dc", "copy"]


def test_peaks_are_the_largest_amplitudes_of_their_parts() -> None:
    pcm = np.zeros(1000, np.int16)
    pcm[250], pcm[999] = -32768, 16384
    heights = peaks(pcm, 10)
    assert heights.tolist() == [0, 0, 127, 0, 0, 0, 0, 0, 0, 63]
    assert peaks(pcm[:0], 4).tolist() == [0, 0, 0, 0]
    assert len(peaks(pcm[:3], 8)) == 8


def sounds_of(workspace: Workspace) -> tuple[Sound, ...]:
    """The clips of the first checkpoint of a sweep."""
    made = Room(workspace, "toy-sweep")
    made.look()
    return next(iter(made.index.cells.values())).sounds


def test_previews_come_with_the_clips_and_of_a_file_that_is_gone_comes_the_reason(
    workspace: Workspace,
) -> None:
    write_sweep(workspace, space={}, clips=3)
    sounds, cache = sounds_of(workspace), workspace.cache("audition")
    file = sounds[1].folder.local / sounds[1].file
    file.write_bytes(file.read_bytes()[:-1])
    (sounds[2].folder.local / sounds[2].file).unlink()
    ready, short, gone = previews(cache, sounds)
    assert (ready.strip == make_preview(*decode_flac((file.parent / "clip-0.flac").read_bytes())).strip).all()
    assert "SHA-256" in short
    assert "not on storage" in gone
    assert not workspace.storage.exists("cache")


def test_previews_of_older_clips_are_made_once_and_anew_when_the_cache_is_torn(workspace: Workspace) -> None:
    write_sweep(workspace, space={}, clips=1)
    folder = sounds_of(workspace)[0].folder
    files = {name: data for name, data in commit.read_commit(folder).items() if name != PREVIEWS}
    commit.write_commit(folder, files, **commit.read_manifest(folder)["about"])
    (sound,), cache = sounds_of(workspace), workspace.cache("audition")
    (first,) = previews(cache, [sound])
    gone = replace(sound, folder=sound.folder.at("gone"))
    assert pack(previews(cache, [gone])) == pack([first])  # from the cache: the file is not there
    cache.at(sound.sha256[:2]).write(f"{sound.sha256}.safetensors", b"torn")
    assert isinstance(previews(cache, [gone])[0], str)
    assert pack(previews(cache, [sound])) == pack([first])
    assert Image.open(io.BytesIO(sheet([first] * 4 + ["broken"]))).size == (2 * STRIP_WIDTH, 3 * STRIP_HEIGHT)


# The verb


@pytest.mark.parametrize(("host", "token"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_verb_serves_until_it_is_interrupted(workspace: Workspace, host: str, token: bool) -> None:
    write_sweep(workspace)
    words = ["audition", "toy-sweep", "-w", str(workspace.storage), "port=0", f"host={host}", "listener=ann"]
    command = [sys.executable, "-m", "orchestrator.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = next(line.split()[1] for line in process.stdout if line.startswith("open "))
    local = re.sub("//[^:]+:", "//127.0.0.1:", address)
    with httpx.Client(follow_redirects=True) as client:
        assert client.get(local).status_code == 200
    assert ("?token=" in address) == token
    assert httpx.get(local.partition("?")[0]).status_code == (401 if token else 200)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_port_that_is_taken_is_told(workspace: Workspace) -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(BadInput, match="port=0 for any free one"):
        bind("127.0.0.1", taken.getsockname()[1])
