"""The whole line on real music: ingest, a small sweep, songs, and an album whose figures an independent tool checks.

    python benchmarks/whole_line.py [--quick] [--json FILE] [--music FOLDER] [--keep FOLDER]

At least ten minutes of the soundtrack of Battle for Wesnoth (benchmarks/music.py) become a dataset, two small models,
twenty songs of 20 s and an album of six tracks, by the commands that a person types. ffmpeg's ebur128 measures loudness
and true peak of every track, and ffmpeg decodes them end to end to count the samples.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import music
import yaml
from report import Report

LOUDNESS, CEILING, TRACKS = -16.0, -1.0, 6
SWEEP = {
    "base": {
        "model": {"dim": 128, "n_rnn": 1, "skip_conn": False, "weight_norm": False, "emb_size": 32},
        "train": {
            "max_steps": 600, "batch_size": 16, "seq_len": 256, "chunk_seconds": 1, "learning_rate": 0.002,
            "checkpoint_every": 300, "eval_seconds": 20, "clips": 1, "clip_seconds": 1,
        },
    },
    "space": {"model.frame_sizes": [[8], [16]]},
    "schedule": {"type": "none"},
    "run": {"tracking": {"wandb": "off"}},
}  # fmt: skip
OFF = "run.tracking.wandb=off"


def orchestrator(workspace: Path, *words: str) -> float:
    """Run a command to its end; its seconds. Raises SystemExit with what it said when it fails."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "orchestrator.cli", *words, "-w", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    seconds = time.perf_counter() - began
    print(f"{words[0]:10} {seconds:6.1f} s", flush=True)
    return seconds


def ebur128(track: Path) -> tuple[float, float]:
    """Integrated loudness in LUFS and true peak in dBTP, as ffmpeg measures them."""
    command = [
        "ffmpeg",
        "-hide_banner",
        "-nostats",
        "-i",
        str(track),
        "-af",
        "ebur128=peak=true",
        "-f",
        "null",
        "-",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    summary = said[said.rindex("Summary:") :]
    loudness, peak = (
        re.search(r"I:\s+(-?[\d.]+) LUFS", summary),
        re.search(r"Peak:\s+(-?[\d.]+) dBFS", summary),
    )
    if loudness is None or peak is None:
        raise SystemExit(f"ffmpeg's ebur128 said nothing of {track}:\n{summary}")
    return float(loudness[1]), float(peak[1])


def samples(tracks: list[Path]) -> int:
    """Samples of all tracks, decoded by ffmpeg one after the other."""
    total = 0
    for track in tracks:
        command = ["ffmpeg", "-hide_banner", "-v", "error", "-i", str(track), "-f", "s16le", "-"]
        total += len(subprocess.run(command, capture_output=True, check=True).stdout) // 2
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="eight songs of 8 s, a fifth of the training")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--music", type=Path, help="a folder of music instead of the package")
    parser.add_argument("--keep", type=Path, help="the workspace, to look at afterwards")
    options = parser.parse_args()
    songs, seconds = (8, 8) if options.quick else (20, 20)
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        workspace = options.keep or Path(scratch) / "workspace"
        folder = Path(scratch) / "music"
        folder.mkdir()
        for path in music.get(10, options.music):
            shutil.copy(path, folder)
        sweep = Path(scratch) / "line.yaml"
        sweep.write_text(yaml.safe_dump({"dataset": "line", **SWEEP}))
        less = ["max_steps=120", "checkpoint_every=60"] if options.quick else []
        report.add(
            "ingest",
            "s",
            [orchestrator(workspace, "ingest", str(folder), "name=line", "sample_rate=16000", OFF)],
        )
        report.add("sweep", "s", [orchestrator(workspace, "sweep", str(sweep), *less)])
        made = orchestrator(
            workspace, "generate", "line", f"songs={songs}", f"seconds={seconds}", "temperature=0.95"
        )
        report.add("songs, page included", "s", [made])
        orchestrator(workspace, "album", "line-songs", "--propose", str(TRACKS))
        tracklist = str(workspace / "albums" / "line-songs" / "album.yaml")
        for crossfade in (0, 2):
            name, settings = (
                f"album-{crossfade}",
                [f"loudness={LOUDNESS}", f"ceiling={CEILING}", "archive=false"],
            )
            took = orchestrator(
                workspace, "album", tracklist, f"name={name}", f"crossfade={crossfade}", *settings
            )
            report.add(f"album, crossfade {crossfade} s", "s", [took])
            check(report, workspace, name, crossfade)
        offsets = [
            abs(json.loads(path.read_text())["measures"]["dc"])
            for path in sorted((workspace / "songs" / "line-songs" / "songs").glob("*/song.json"))
        ]
        print(
            f"DC of the songs: at most {report.add('DC of the songs, at most', 'of full scale', [max(offsets)]):.1e}"
        )
    if options.json:
        report.write(options.json)


def check(report: Report, workspace: Path, name: str, crossfade: int) -> None:
    """The album's figures by ffmpeg, beside what was asked for."""
    tracks = sorted((workspace / "albums" / name).glob("*.flac"))
    measured = [ebur128(track) for track in tracks]
    off = report.add(
        f"{name}: loudness off by at most", "LU", [max(abs(lufs - LOUDNESS) for lufs, _ in measured)]
    )
    peak = report.add(f"{name}: true peak at most", "dBTP", [max(peak for _, peak in measured)])
    credits_ = json.loads((workspace / "albums" / name / "credits.json").read_text())
    about = [
        json.loads((workspace / "songs" / one["batch"] / "songs" / one["song"] / "song.json").read_text())
        for one in credits_["tracks"]
    ]
    wanted = sum(one["samples"] for one in about) - (len(tracks) - 1) * crossfade * about[0]["sample_rate"]
    gap = report.add(f"{name}: samples too many or too few", "samples", [samples(tracks) - wanted])
    print(
        f"{name}: {len(tracks)} tracks, loudness off by at most {off:.2f} LU, true peak at most {peak:.1f} dBTP, "
        f"{gap:+.0f} samples end to end",
        flush=True,
    )


if __name__ == "__main__":
    main()
