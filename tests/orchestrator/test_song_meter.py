"""What a person sees while songs are made: how far, how fast, how long yet; on a terminal, in a file, in the log."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator import live, song_meter
from orchestrator.config import GenerateJob, GenerateRun
from orchestrator.event_log import EventLog
from orchestrator.generate import generate
from orchestrator.live import Clock
from orchestrator.on_ray.song_actor import Progress
from orchestrator.on_ray.song_pool import SongPool
from orchestrator.song_meter import SongMeter
from orchestrator.songs import plan_songs
from orchestrator.sources import choose_sources
from orchestrator.workspace import Workspace
from samplernn.config import GenerateConfig
from samplernn.storage import Storage
from tests.made import tiny_experiment, wait_until, write_dataset
from tests.orchestrator.test_songs import train_one

RATE, SONGS, SECONDS = 16_000, 10, 100
LENGTH = RATE * SECONDS
LINE = re.compile(
    r"songs \S+(?: \((?P<since>[^)]+)\))?: (?P<done>\d+) of (?P<of>\d+)(?: \((?P<failed>\d+) failed\))?; "
    r"(?P<workers>\d+) workers?(?: on (?P<nodes>\d+) nodes)?"
    r"(?: \((?P<waiting>\d+) waits? for a place\))?, "
    r"(?P<speed>[\d,]+) samples/s, (?P<factor>[\d.]+) x real time"
    r"(?:; (?P<left>\d+ s|\d+ min|\d+ h \d+ min) left(?P<besides> besides measuring)?)?"
    r"(?:[;,] (?P<last>writing(?: and measuring)? the last))?\Z"
)


def seconds(said: str | None) -> float:
    """The seconds of "45 s", "12 min" or "3 h 20 min"."""
    assert said is not None
    units = {"s": 1, "min": 60, "h": 3600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (\w+)", said))


def events(path: Path) -> list[tuple[datetime, str, dict[str, str]]]:
    """The log as a person's tools would read it; fails at a line that is none."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        when, event, *rest = shlex.split(line)
        found.append((datetime.strptime(when, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC), event, dict(
            pair.split("=", 1) for pair in rest
        )))  # fmt: skip
    return found


class Hands(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    @property
    def seconds(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """A workspace with one trained trial."""
    folder = tmp_path_factory.mktemp("meter")
    workspace = Workspace.open(str(folder / "workspace"))
    write_dataset(workspace.dataset("toy"))
    train_one(workspace, "toy", tiny_experiment(clips=0), folder / "cache")
    return workspace


class Crew(SongPool):
    """A pool of workers who are always at work."""

    @property
    def at_work(self) -> int:
        return self.alive


class Shift:
    """Workers that make songs while the hands of the clock are moved; Ray is not there."""

    def __init__(self, workspace: Workspace, log: EventLog) -> None:
        job = GenerateJob(name="night", sweep="toy", generate=GenerateConfig(songs=SONGS, seconds=SECONDS))
        self.clock, self.log = Hands(), log
        self.meter = SongMeter("night", plan_songs(choose_sources(workspace, job)), self.log, self.clock)
        self.pool = self.meter.pool = Crew(
            workspace, "night", GenerateRun(), gpus=0, agree=lambda _: None, progress=self.meter.add, tick=lambda: None
        )  # fmt: skip
        self.at = {f"{song:04d}": 0 for song in range(SONGS)}
        self.made: list[str] = []

    def staff(self, *nodes: str) -> None:
        self.pool.nodes = dict(enumerate(nodes))
        self.pool.pids = dict.fromkeys(range(len(nodes)), 0)

    def work(self, seconds: int, songs: list[str], speed: int, node: str = "a") -> None:
        """An actor makes these songs side by side, at `speed` samples a second of all of them."""
        for _ in range(seconds):
            self.clock.now += 1
            for song in songs:
                self.at[song] = min(LENGTH, self.at[song] + speed // len(songs))
            self.meter.add(Progress(speed, {song: self.at[song] for song in songs}, 1.0), node)

    def finish(self, song: str, seconds: int = 0) -> None:
        """A song that is made is written and measured."""
        self.clock.now += seconds
        self.meter.add(Progress(0, {song: LENGTH}, 0.0, song, finishing=seconds), "a")

    def said(self) -> dict[str, str | None]:
        found = LINE.match(self.meter.line())
        assert found, self.meter.line()
        return found.groupdict()


@pytest.fixture
def shift(workspace, tmp_path) -> Iterator[Shift]:
    with EventLog(Storage.open(str(tmp_path))) as log:
        yield Shift(workspace, log)


SONG_IDS = [f"{song:04d}" for song in range(SONGS)]


def test_time_left_is_what_is_left_at_the_speed_there_is(shift):
    assert shift.meter.line() == "songs night: 0 of 10; starting"
    shift.staff("a")
    for passed in (1, 10, 100, 400):
        shift.work(passed - int(shift.clock.now), SONG_IDS, 32_000)
        said = shift.said()
        assert (said["done"], said["of"], said["workers"], said["speed"]) == ("0", "10", "1", "32,000")
        assert said["factor"] == "2.00"
        assert seconds(said["left"]) == pytest.approx(SONGS * LENGTH / 32_000 - passed, abs=31)
    shift.work(100, SONG_IDS, 32_000)
    assert shift.said()["last"], "every sample is made, no song is written"
    for song in SONG_IDS[:9]:
        shift.finish(song)
    assert (shift.said()["done"], bool(shift.said()["last"])) == ("9", True)
    shift.finish(SONG_IDS[9])
    assert (shift.said()["done"], shift.said()["left"], shift.said()["last"]) == ("10", None, None)


def test_speed_and_time_left_follow_workers_that_join_and_leave_within_a_minute(shift):
    shift.staff("a")
    shift.work(200, SONG_IDS[:5], 16_000)
    assert seconds(shift.said()["left"]) == pytest.approx(800, abs=31)
    shift.staff("a", "b")
    for _ in range(70):
        shift.work(1, SONG_IDS[:5], 16_000)
        shift.clock.now -= 1
        shift.work(1, SONG_IDS[5:], 16_000, "b")
    said = shift.said()
    assert (said["workers"], said["nodes"], said["speed"]) == ("2", "2", "32,000")
    assert seconds(said["left"]) == pytest.approx((1000 - 340) / 2, abs=31)
    assert [(node, actors, round(speed)) for node, actors, speed in shift.meter.by_node()] == [
        ("a", 1, 16_000), ("b", 1, 16_000),
    ]  # fmt: skip
    shift.staff("a")
    shift.work(70, SONG_IDS[:5], 16_000)
    assert shift.said()["speed"] == "16,000"
    assert shift.said()["nodes"] is None
    assert [node for node, _, _ in shift.meter.by_node()] == ["a"]


def test_what_is_there_lost_and_given_up_counts_in_the_time_left(shift):
    """Songs that another run began are taken up where they are; a killed worker's samples are to be made again."""
    shift.staff("a")
    half = dict.fromkeys(SONG_IDS, LENGTH // 2)
    shift.at |= half
    shift.work(10, SONG_IDS, 16_000)
    assert seconds(shift.said()["left"]) == pytest.approx(490, abs=31)
    shift.work(100, SONG_IDS, 16_000)
    shift.at |= half  # killed before anything was committed
    shift.work(10, SONG_IDS, 16_000)
    assert seconds(shift.said()["left"]) == pytest.approx(490, abs=31)
    shift.pool.failed = dict.fromkeys(SONG_IDS[:5], "no luck")
    said = shift.said()
    assert said["failed"] == "5"
    assert seconds(said["left"]) == pytest.approx(245, abs=16)
    for song in SONG_IDS[5:]:
        shift.finish(song)
    assert shift.said()["left"] is None


def test_time_left_counts_measuring_once_a_song_was_measured_and_says_so_before(shift):
    """A worker makes 5 songs side by side in 250 s and measures each for 10 s, and then 5 more."""
    shift.staff("a")
    shift.work(200, SONG_IDS[:5], 32_000)
    said = shift.said()
    assert seconds(said["left"]) == pytest.approx(300, abs=31)
    assert said["besides"], "what measuring takes is not known, and not said to be left out"
    shift.work(50, SONG_IDS[:5], 32_000)
    for measured, song in enumerate(SONG_IDS[:5], start=1):
        shift.finish(song, seconds=10)
        said = shift.said()
        assert (said["besides"], said["last"]) == (None, None)
        assert seconds(said["left"]) == pytest.approx(250 + 10 * (10 - measured), abs=31)
    shift.work(250, SONG_IDS[5:], 32_000)
    assert (seconds(shift.said()["left"]), shift.said()["last"]) == (50, "writing and measuring the last")
    for measured, song in enumerate(SONG_IDS[5:], start=1):
        shift.finish(song, seconds=10)
        assert seconds(shift.said()["left"] or "0 s") == 50 - 10 * measured
    assert shift.said()["done"] == "10"


def test_nothing_that_moves_gives_no_time_left(shift):
    shift.staff("a")
    shift.work(30, SONG_IDS, 16_000)
    shift.clock.now += 200
    said = shift.said()
    assert (said["speed"], said["left"]) == ("0", None)
    shift.work(30, SONG_IDS, 16_000)
    assert seconds(shift.said()["left"]) == pytest.approx(940, abs=31)


def test_nodes_have_a_line_each_and_many_are_told_to_be_in_the_log(shift):
    nodes = [f"host{number:02d}" for number in range(10)]
    shift.staff(*nodes)
    for node, song in zip(nodes, SONG_IDS, strict=True):
        shift.work(10, [song], 16_000, node)
    screen = Console(width=120, record=True, file=io.StringIO())
    screen.print(shift.meter.render())
    lines = screen.export_text().splitlines()
    assert len([line for line in lines if re.fullmatch(r"  host0\d: 1 worker, [\d,]+ samples/s", line)]) == 8
    assert lines[-1] == f"  and 2 nodes more, in {shift.log.path}"
    assert lines[0].count("━") == 60


def test_log_has_a_line_a_minute_with_all_figures(shift):
    shift.staff("a")
    shift.work(301, SONG_IDS, 32_000)
    told = [what for _, event, what in events(shift.log.path) if event == "progress"]
    assert len(told) == 4
    assert [int(what["left_s"]) for what in told] == pytest.approx([439, 378, 317, 256], abs=2)
    assert told[0] | {"left_s": ""} == {
        "songs": "0", "of": "10", "workers": "1", "samples_per_s": "32000", "left_s": "", "node-a": "32000",
    }  # fmt: skip


def test_log_is_one_readable_line_an_event_that_is_there_at_once(tmp_path):
    folder, before = Storage.open(str(tmp_path)), datetime.now(UTC) - timedelta(seconds=1)
    odd = 'two words, a "quote", an = and\na new line; Käse'
    with suppress(ValueError), EventLog(folder) as log:
        log.add("lost", number=3, reason=odd, songs=["0001", "0002"], resumed=None)
        ((when, event, what),) = events(log.path)
        assert before <= when <= datetime.now(UTC) + timedelta(seconds=1)
        assert event == "lost"
        assert (what["number"], what["resumed"]) == ("3", "null")
        assert json.loads(what["songs"]) == ["0001", "0002"]
        assert what["reason"] == odd.replace("\n", "\\n")
        raise ValueError("went wrong")
    assert events(log.path)[-1][1:] == ("end", {"error": "ValueError: went wrong"})
    with pytest.raises(KeyboardInterrupt), EventLog(folder) as second:
        raise KeyboardInterrupt
    with EventLog(folder) as third:
        pass
    assert events(second.path)[-1][2] == {"error": "KeyboardInterrupt"}
    assert events(third.path)[-1][2] == {"error": "null"}
    assert [path.name for path in sorted((tmp_path / "logs").iterdir())] == [
        "0001.log",
        "0002.log",
        "0003.log",
    ]


@pytest.mark.cluster
def test_generate_into_a_file_prints_lines_whose_time_left_comes_true(
    workspace, ray_local, monkeypatch, tmp_path
):
    monkeypatch.setattr(live, "LINE_EVERY_S", 0.4)
    monkeypatch.setattr(song_meter, "LOG_EVERY_S", 0.5)
    job = GenerateJob(name="told", sweep="toy", generate=GenerateConfig(songs=12, seconds=4))
    run, out = (
        GenerateRun(actors=3, slots=3, measures=False, page=False, backend="torch"),
        tmp_path / "out.txt",
    )
    stamps: list[tuple[float, str]] = []
    with out.open("w") as file:
        screen = Console(file=file, width=140)
        write = file.write

        def stamped(text: str) -> int:
            stamps.extend((time.monotonic(), line) for line in text.splitlines())
            return write(text)

        monkeypatch.setattr(file, "write", stamped)
        assert generate(workspace, job, run, screen) == {}
    end = stamps[-1][0]
    text = out.read_text()
    assert "\x1b" not in text, "escape codes in a file"
    assert "0 of 12 songs are there" in text
    told = [(at, found.groupdict()) for at, line in stamps if (found := LINE.match(line))]
    assert len(told) >= 4, text
    assert [int(said["done"]) for _, said in told] == sorted(int(said["done"]) for _, said in told)
    assert told[-1][1]["done"] == "12"
    assert {said["of"] for _, said in told} == {"12"}
    assert {said["waiting"] for _, said in told[1:-1]} == {"1"}
    assert told[-2][1]["workers"] == "2"
    for at, said in told[1:]:
        if said["left"]:
            left, really = seconds(said["left"]), end - at
            assert really / 3 - 3 <= left <= 3 * really + 3, text
    logged = events(next((workspace.batch("told").at("logs").local or Path()).iterdir()))
    names = [event for _, event, _ in logged]
    assert (names[0], names[-1]) == ("begin", "end")
    assert names.count("song") == 12
    assert names.count("worker") == names.count("load") == 2
    assert names.count("progress") >= 2
    assert sorted(what["song"] for _, event, what in logged if event == "song") == [
        f"{n:04d}" for n in range(12)
    ]


@pytest.mark.cluster
@pytest.mark.system
def test_person_at_a_terminal_sees_it_live_stops_it_and_goes_on_in_a_file(workspace, tmp_path):
    command = [
        sys.executable, "-m", "orchestrator.cli", "generate", "toy", "name=live", "songs=3", "seconds=12",
        "run.actors=2", "run.backend=torch", "run.slots=2", "run.commit_seconds=1", "run.measures=false",
        "-w", str(workspace.storage),
    ]  # fmt: skip
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "110", "RAY_ADDRESS": "local"}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def screen() -> str:
        with suppress(BlockingIOError, OSError):
            while read := os.read(ours, 65_536):
                seen.extend(read)
        return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", seen.decode("utf-8", "replace")).replace("\r", "\n")

    def shown() -> list[re.Match[str]]:
        return [found for line in screen().splitlines() if (found := LINE.match(line.rstrip()))]

    wait_until(process, lambda: any(found["left"] for found in shown()), "a line with the time left")
    wait_until(process, lambda: "━" * 60 in screen(), "a bar")
    parts = workspace.batch("live").at("parts")
    wait_until(process, lambda: any(parts.at(song).names() for song in parts.names()), "a part of a song")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    said = screen()
    assert "engine: portable PyTorch" in said
    assert "stopping: a few seconds" in said
    assert "stopped; this goes on where it was: orchestrator generate toy name=live" in said
    assert "Traceback" not in said
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l"), "the cursor is still hidden"
    os.close(ours)
    again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    lines = again.stdout.splitlines()
    assert lines[0].startswith("workspace ")
    assert any(line.startswith("checkpoint ") for line in lines)
    assert any(re.fullmatch(r"songs live( \(.*\))?: 3 of 3; .* x real time", line) for line in lines), (
        again.stdout
    )
    assert lines[-1] == f"next: orchestrator album live --workspace {workspace.storage}"
    first, second = (events(path) for path in sorted(workspace.batch("live").at("logs").local.iterdir()))
    assert first[-1][1:] == ("end", {"error": "KeyboardInterrupt"})
    assert second[-1][1:] == ("end", {"error": "null"})
    assert any(int(what["resumed"]) > 0 for _, event, what in second if event == "song")
