"""The listening room at scale: 300 trials x 20 checkpoints x 10 clips in a real browser, by the browser's own tracing.

    python benchmarks/audition.py [--quick] [--json FILE] [--music FOLDER] [--keep FOLDER] [--chromium PATH]

Metadata are made up, audio is real: twelve clips of the demo's music (or of FOLDER's FLAC and Ogg files), hard-linked
60,000 times. The server is the verb itself in a process of its own. Goals: first paint below 1 s, no task of the page's
main thread over 100 ms while scrolling, and the server's peak memory below 300 MB. `--old` leaves out what newer sweeps
commit beside their clips, so that the room makes thumbnails itself. What that costs when clips are made is measured
beside the making of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
import soxr
from dataset import write_dataset
from report import Report

from orchestrator.config import SweepConfig
from orchestrator.plan import plan
from orchestrator.workspace import CONFIG
from samplernn import commit
from samplernn.audio import encode_flac
from samplernn.chunks import Dataset
from samplernn.clips import measure_clips
from samplernn.config import ModelConfig
from samplernn.copying import Passage, TrainingMusic, likeness
from samplernn.folding import fold
from samplernn.generate.backends import choose_backend
from samplernn.generate.engine import Engine, generate_whole
from samplernn.generate.song import Song
from samplernn.model import SampleRNN
from samplernn.preview import PREVIEWS, Preview, make_preview, pack
from samplernn.storage import Storage

RATE, SECONDS, SOUNDS = 16_000, 6, 12
CHECKPOINTS, CLIPS = 20, 10
SPACE = {
    "model.dim": [128, 192, 256, 320, 384, 512, 640, 768, 896, 1024],
    "model.n_rnn": [2, 3, 4, 5, 6],
    "model.frame_sizes": [[4], [8], [16], [2, 8], [4, 16], [8, 32]],
}
WHEEL_PIXELS, WHEELS, JUMPS = 500, 80, 15
LONG_MS = 100.0
TRACED = ["devtools.timeline", "disabled-by-default-devtools.timeline", "blink.user_timing", "__metadata"]
SEEN = """
(() => {
  const look = () => {
    const clip = document.querySelector(".clip");
    if (clip) window.clipsAt ??= performance.now();
    if (document.querySelector(".sheet img.there")) window.picturesAt ??= performance.now();
    if (!window.picturesAt) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})();
"""
"""Notes when the first clip and the first picture are on the page."""


def make_workspace(root: Path, music: Path, trials: int, old: bool) -> int:
    """Write the sweep `big`; returns its number of clips. Written as the real parts write it, but for fsync."""
    space = {**SPACE, "model.dim": SPACE["model.dim"][: max(1, trials // 30)]}
    base = {"train": {"max_steps": 20_000, "checkpoint_every": 1000, "clips": CLIPS, "clip_seconds": SECONDS}}
    config = SweepConfig.model_validate(
        {"name": "big", "dataset": "music", "base": base, "space": space, "schedule": {"type": "none"}}
    )
    sweep = root / "sweeps" / "big"
    write(sweep / CONFIG, commit.record_bytes(config.model_dump(mode="json")))
    sounds = make_sounds(root / "sounds", music)
    planned = plan(config)
    for number, trial in enumerate(planned):
        make_trial(sweep / "trials" / trial.name, number, sounds, old)
        entry = {"seq": number + 1, "kind": "end", "trial": trial.name, "state": "done", "reason": ""}
        write(sweep / "journal" / f"{number + 1:08d}.json", commit.record_bytes(entry))
    return len(planned) * CHECKPOINTS * CLIPS


def make_trial(folder: Path, number: int, sounds: list[Sound], old: bool) -> None:
    """One trial: an attempt, its evaluations, and the clips of its checkpoints."""
    write(folder / "attempts" / "0001.json", commit.record_bytes({"attempt": 1, "start_step": 0}))
    rows = []
    for at in range(1, CHECKPOINTS + 1):
        step = 1000 * at
        bits = 3 + 3 / (1 + at) + 0.001 * (number * 37 % 300)
        rows.append({"kind": "eval", "step": step, "seconds": step / 5, "valid_bits": bits})
        clips = folder / "clips" / f"step-{step:08d}.0001"
        clips.mkdir(parents=True)
        chosen = [sounds[(number + at + clip) % len(sounds)] for clip in range(CLIPS)]
        for clip, sound in enumerate(chosen):
            os.link(sound.path, clips / f"clip-{clip}.flac")
        files = {f"clip-{clip}.flac": sound.entry for clip, sound in enumerate(chosen)}
        beside = {"measures.json": commit.to_json([sound.measures for sound in chosen])}
        if not old:
            beside[PREVIEWS] = pack([sound.preview for sound in chosen])
        for name, data in beside.items():
            files[name] = entry_of(data)
            write(clips / name, data)
        about = {"step": step, "attempt": 1, "seconds": step / 5}
        body = {"schema": commit.SCHEMA, "files": files, "about": about}
        write(clips / commit.MANIFEST, commit.record_bytes(body))
    write(folder / "metrics" / "0001.00000001.json", commit.record_bytes({"rows": rows}))


@dataclass(frozen=True)
class Sound:
    """A clip that is linked into many checkpoints."""

    path: Path
    entry: dict[str, Any]
    """Its line of a manifest."""
    measures: dict[str, Any]
    preview: Preview


def entry_of(data: bytes) -> dict[str, Any]:
    """A file's line of a manifest."""
    return {"bytes": len(data), "sha256": commit.sha256(data)}


def make_sounds(folder: Path, music: Path) -> list[Sound]:
    """SOUNDS clips of the music, measured as clips are, as if one place of it were nearest to all."""
    files = sorted(path for path in music.rglob("*") if path.suffix in (".ogg", ".flac"))
    if not files:
        raise SystemExit(f"{music} holds no FLAC or Ogg files")
    folder.mkdir(parents=True)
    made = []
    for number in range(SOUNDS):
        audio, rate = soundfile.read(files[number % len(files)], dtype="float32", always_2d=True)
        mono = soxr.resample(audio.mean(axis=1), rate, RATE)
        first = number * SECONDS * RATE // 2 % max(1, len(mono) - SECONDS * RATE)
        pcm = (np.clip(mono[first : first + SECONDS * RATE], -1, 1) * 32767).astype(np.int16)
        data, path = encode_flac(pcm, RATE, {}), folder / f"{number}.flac"
        path.write_bytes(data)
        (measures,) = measure_clips([pcm], RATE)
        nearest = Passage(at=1.0, likeness=0.25, track=number, track_at=12.5)
        made.append(Sound(path, entry_of(data), measures | likeness([nearest]), make_preview(pcm, RATE)))
    return made


def write(path: Path, data: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@contextmanager
def server(workspace: Path) -> Iterator[tuple[str, psutil.Process, float]]:
    """The verb in a process of its own: its address, the process, and the seconds until all clips are known."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "orchestrator.cli", "audition", "big", "-w", str(workspace), "port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = next(line.split()[1] for line in process.stdout or () if line.startswith("open "))
        while not json.load(urllib.request.urlopen(f"{address}news?listener=bench&since=999.0.0"))["ready"]:
            time.sleep(0.1)
        yield address, psutil.Process(process.pid), time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(20)


def peak_mb(process: psutil.Process) -> float:
    """The process's largest resident memory so far, in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024 / 1e6


def open_page(browser: Any, address: str) -> tuple[Any, dict[str, float]]:
    """A page on the room, and when it showed what, in ms after the navigation began."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.add_init_script(SEEN)
    page.goto(address)
    page.wait_for_selector(".sheet img.there", timeout=60_000)
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    shown = {"first paint": page.evaluate(paint), "first clips": page.evaluate("clipsAt")}
    return page, {**shown, "first pictures": page.evaluate("picturesAt")}


def scroll(browser: Any, page: Any) -> list[float]:
    """Scroll down by the wheel, to the right, and jump about; the page's main thread tasks, in ms."""
    page.mouse.move(600, 500)
    browser.start_tracing(page=page, categories=TRACED)
    for _ in range(WHEELS):
        page.mouse.wheel(0, WHEEL_PIXELS)
    for _ in range(WHEELS // 4):
        page.mouse.wheel(WHEEL_PIXELS // 2, 0)
    reached, height, drawn = page.evaluate(
        "(wall => [wall.scrollTop, wall.scrollHeight, wall.querySelectorAll('.clip').length])"
        "(document.querySelector('#wall'))"
    )
    if reached < min(WHEELS * WHEEL_PIXELS, height) / 2 or drawn < 100:
        raise SystemExit(f"the wheel did not scroll the wall (at {reached} px, {drawn} clips drawn)")
    for jump in range(JUMPS):
        share = (jump * 7 % JUMPS) / JUMPS
        page.evaluate(
            f"(wall => wall.scrollTop = {share} * wall.scrollHeight)(document.querySelector('#wall'))"
        )
        page.wait_for_timeout(120)
    return tasks(json.loads(browser.stop_tracing()))


def tasks(trace: dict[str, Any]) -> list[float]:
    """Durations of the tasks of renderer main threads, in ms."""
    events = trace["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event.get("name") == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    found = [
        event["dur"] / 1000
        for event in events
        if event.get("name") == "RunTask" and "dur" in event and (event["pid"], event["tid"]) in mains
    ]
    if not found:
        raise SystemExit("the trace holds no tasks of a page: another browser's tracing?")
    return found


def measure_room(workspace: Path, chromium: str, repeats: int) -> Report:
    """Every figure of one workspace; the first scroll makes the pictures, later ones find them."""
    from playwright.sync_api import sync_playwright

    report = Report()
    with server(workspace) as (address, process, seconds), sync_playwright() as playwright:
        report.add("all clips known after", "s", [seconds])
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--mute-audio"])
        shown: list[dict[str, float]] = []
        for run in range(repeats):
            page, times = open_page(browser, address)
            found = scroll(browser, page)
            kind = "cold" if run == 0 else "warm"
            if run < 2:
                report.add(f"longest task while scrolling, {kind}", "ms", [max(found)])
                report.add(
                    f"tasks over {LONG_MS:.0f} ms while scrolling, {kind}",
                    "count",
                    [sum(t > LONG_MS for t in found)],
                )
            shown.append(times)
            page.close()
        for name in shown[0]:
            report.add(name, "ms", [times[name] for times in shown])
        browser.close()
        report.add("server's peak memory", "MB", [peak_mb(process)])
    return report


def measure_clip_making(report: Report, music: Path, repeats: int) -> None:
    """Making CLIPS clips with a model of dim 512 x 3, and measuring and picturing them against the music, in turns."""
    with tempfile.TemporaryDirectory() as scratch:
        sounds = [
            soundfile.read(sound.path, dtype="int16")[0] for sound in make_sounds(Path(scratch) / "s", music)
        ]
        write_dataset(Storage.open(f"{scratch}/music"), "music", [np.concatenate(sounds)] * 8, RATE)
        compared = TrainingMusic(Dataset.open(Storage.open(f"{scratch}/music"), Path(scratch) / "cache"))
        folded = fold(SampleRNN.seeded(ModelConfig(dim=512, n_rnn=3), seed=0))
        engine = Engine(folded, choose_backend(folded, folded.table.device)[0], RATE)
        songs = [Song(seed=0, index=clip, samples=SECONDS * RATE) for clip in range(CLIPS)]
        making, measuring = [], []
        for _ in range(repeats):
            began = time.perf_counter()
            pcm = [made.pcm for made in generate_whole(engine, songs)]
            between = time.perf_counter()
            commit.to_json(measure_clips(pcm, RATE, compared))
            pack([make_preview(clip, RATE) for clip in pcm])
            measuring.append(1000 * (time.perf_counter() - between) / CLIPS)
            making.append(1000 * (between - began) / CLIPS)
    report.add("making a clip", "ms", making)
    report.add("its measures and preview", "ms", measuring)


def main() -> None:
    """Make the workspace, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="60 trials instead of 300")
    parser.add_argument("--json", type=Path, help="write machine and figures there")
    parser.add_argument(
        "--old", action="store_true", help="clips without previews, as older sweeps have them"
    )
    parser.add_argument("--music", type=Path, default=Path(__file__).parent.parent / "demo" / "music")
    parser.add_argument("--keep", type=Path, help="make the workspace there, or use the one that is there")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = asked.keep or Path(scratch)
        trials = 60 if asked.quick else 300
        clips = trials * CHECKPOINTS * CLIPS
        if not (root / "sweeps" / "big").exists():
            clips = make_workspace(root, asked.music, trials, asked.old)
        report = measure_room(root, asked.chromium, repeats=2 if asked.quick else 4)
    measure_clip_making(report, asked.music, repeats=3 if asked.quick else 5)
    print(f"{clips:,} clips of {clips // CHECKPOINTS // CLIPS} trials")
    for name, figure in report.figures.items():
        spread = "  ".join(f"{sample:.0f}" for sample in figure["samples"])
        print(f"{name:45} {figure['value']:9.1f} {figure['unit']:6} {spread}")
    if asked.json:
        report.write(asked.json)


if __name__ == "__main__":
    main()
