"""How fast music becomes a dataset, beside the original's method and beside decoding alone; and how fast it is read.

    python benchmarks/ingest.py [--quick] [--json FILE] [--music FOLDER] [--minutes 84] [--only speed,memory,reading]

speed: an album of 84 minutes, as it is (Ogg Vorbis), as FLAC and as WAV. Ours is everything from the scan to the
report's page, on a Ray that is up already (its start and the first import of everything are reported apart). The
original's method is a call of ffmpeg for each of 3,200 chunks of 8 s out of one long WAV: 100 calls are measured, all
over the recording. Decoding alone is soundfile and soxr over the same files, in as many processes as there are cores.
All sides take turns; medians are quoted.
bytes: the dataset of 45 minutes, page and all, against 3,200 float16 chunks.
memory: the worker and its decoder together, on a file of ten hours.
reading: shuffled batches of 32 chunks of 8 s, in one and in eight processes, beside plain np.memmap.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import music
import numpy as np
import psutil
import soundfile
import soxr
from report import Report

from samplernn.chunks import Dataset
from samplernn.storage import Storage

RATE = 16_000
CHUNKS, CHUNK_SECONDS = 3200, 8
FLOAT16_BYTES = CHUNKS * CHUNK_SECONDS * RATE * 2
BATCH = 32
TURNS, CALLS = 3, 100
HOURS = 10
GIB = 2**30


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one turn each, and no ten-hour file")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--music", type=Path, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=84.0)
    parser.add_argument("--only", default="speed,memory,reading")
    asked = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="samplernn-bench-") as folder:
        work = Path(folder)
        parts = asked.only.split(",")
        if "speed" in parts or "reading" in parts:
            speed(report, work, music.get(asked.minutes, asked.music), asked.quick)
        if "reading" in parts:
            reading(report, work, 1 if asked.quick else 5)
        if "memory" in parts and not asked.quick:
            memory(report, work, music.get(20, asked.music))
    if asked.json:
        report.write(asked.json)


def speed(report: Report, work: Path, files: list[Path], quick: bool) -> None:
    """Ours, the original's method and decoding alone, in turn, for the album in each format."""
    from cluster.connect import connect

    minutes = sum(soundfile.info(path).duration for path in files) / 60
    print(f"{minutes:.1f} minutes of music, {len(files)} files")
    long = _one_wav(files, work / "long.wav") if shutil.which("ffmpeg") else None
    if not long:
        print("ffmpeg is not installed: the original's method is not measured")
    few = sorted(files, key=lambda path: path.stat().st_size)[:6]
    start = time.perf_counter()
    with connect():
        _ingest(_folder(work / "few", few), work / "few-dataset")
        seconds = report.add("ray_start_and_imports", "s", [time.perf_counter() - start])
        print(f"Ray's start and first imports   {seconds:8.1f} s")
        for kind in ("as it is", "FLAC", "WAV"):
            album = files if kind == "as it is" else _encoded(files, work / kind, kind)
            _side_by_side(report, work, album, kind, minutes, long, 1 if quick else TURNS)
        _bytes(report, work, files)


def _side_by_side(
    report: Report, work: Path, files: list[Path], kind: str, minutes: float, long: Path | None, turns: int
) -> None:
    album = _folder(work / f"album-{kind}", files)
    tag = "" if kind == "as it is" else f"_{kind.lower()}"
    ours, pages, alone, calls = [], [], [], []
    for turn in range(turns):
        shutil.rmtree(work / "dataset", ignore_errors=True)
        ours.append(_seconds(lambda: pages.append(_ingest(album, work / "dataset"))))
        alone.append(_seconds(lambda: _decode_alone(files)))
        if long:
            count = -(-CALLS // TURNS)
            calls += [_ffmpeg(long, minutes * 60, turn * count + at, turns * count) for at in range(count)]
    name = files[0].suffix.lstrip(".").upper()
    page = report.add(f"page_of_it{tag}", "s", pages)
    seconds = report.add(f"ingest{tag}", "s", ours)
    only = report.add(f"decode_and_resample_alone{tag}", "s", alone)
    shares = [a / b for a, b in zip(alone, ours, strict=True)]
    share = report.add(f"share_of_decoding_alone{tag}", "ratio", shares)
    rate = report.add(f"minutes_of_audio_per_second{tag}", "min/s", [minutes / one for one in ours])
    print(
        f"{name:<4} ingest                     {seconds:8.2f} s   {rate:.1f} min/s; its page {page:.2f} s of it"
    )
    print(f"     decoding and resampling    {only:8.2f} s   alone ({share:.0%} of ingest; at least 70 %)")
    if calls:
        call = report.add(f"ffmpeg_call{tag}", "s", calls)
        faster = report.add(f"faster_than_original{tag}", "ratio", [CHUNKS * call / one for one in ours])
        told = f"{call:.3f} s each, {len(calls)} measured"
        print(
            f"     {CHUNKS:,} calls of ffmpeg      {CHUNKS * call:8.1f} s   ({told}): {faster:.0f} x; at least 40"
        )


def _encoded(files: list[Path], folder: Path, kind: str) -> list[Path]:
    """The same music in another format, 16 bits."""
    folder.mkdir()
    paths = []
    for number, path in enumerate(files):
        audio, rate = soundfile.read(path, dtype="int16")
        paths.append(folder / f"{number:02d}.{kind.lower()}")
        soundfile.write(paths[-1], audio, rate)
    return paths


def _bytes(report: Report, work: Path, files: list[Path]) -> None:
    seconds, part = 0.0, []
    for path in files:
        if seconds < 45 * 60:
            part.append(path)
            seconds += soundfile.info(path).duration
    _ingest(_folder(work / "album45", part), work / "dataset45")
    kept = sum(path.stat().st_size for path in (work / "dataset45").rglob("*") if path.is_file())
    # To 45 minutes exactly: the last file may go beyond.
    share = report.add("bytes_of_original", "ratio", [kept * 45 * 60 / seconds / FLOAT16_BYTES])
    print(
        f"bytes of 45 minutes             {share * FLOAT16_BYTES / 1e6:8.1f} MB  (1/{1 / share:.1f} of float16 chunks)"
    )


def memory(report: Report, work: Path, files: list[Path]) -> None:
    """The most that a worker and its decoder hold while they ingest ten hours."""
    from cluster.connect import connect

    hours = _folder(work / "hours", [])
    pcm = np.concatenate([soundfile.read(path, dtype="int16", always_2d=True)[0][:, 0] for path in files])
    rate = soundfile.info(files[0]).samplerate
    with soundfile.SoundFile(hours / "ten-hours.flac", "w", rate, 1, "PCM_16") as out:
        for _ in range(-(-HOURS * 3600 * rate // len(pcm))):
            out.write(pcm)
    with connect(), _watching() as peaks:
        seconds = _seconds(lambda: _ingest(hours, work / "hours-dataset"))
    peak = report.add("peak_bytes_ten_hours", "byte", [max(peaks)])
    report.add("ingest_ten_hours", "s", [seconds])
    print(
        f"{HOURS} hours in one file            {seconds:8.1f} s   {peak / 2**20:.0f} MiB at most (below 1,024)"
    )


def reading(report: Report, work: Path, turns: int) -> None:
    """Megabytes a second of shuffled batches, beside np.memmap."""
    folder = Storage.open(work / "dataset")
    dataset = Dataset.open(folder, work / "cache")
    rows = dataset.chunks("train", CHUNK_SECONDS * RATE, CHUNKS)
    with (work / "plain.bin").open("wb") as plain:
        starts = [0]
        for track in dataset.tracks:
            plain.write(track[:].tobytes())
            starts.append(starts[-1] + len(track))
    flat = np.array([[starts[track] + start, starts[track] + stop] for track, start, stop in rows])
    del dataset
    for readers in (1, 8):
        sides: dict[str, list[float]] = {"ours": [], "memmap": []}
        for _ in range(turns):
            sides["ours"].append(_together(readers, _read_ours, str(work), rows))
            sides["memmap"].append(_together(readers, _read_plain, str(work / "plain.bin"), flat))
        ours = report.add(f"read_{readers}", "MB/s", sides["ours"])
        plain_rate = report.add(f"read_memmap_{readers}", "MB/s", sides["memmap"])
        share = report.add(
            f"read_share_{readers}",
            "ratio",
            [a / b for a, b in zip(sides["ours"], sides["memmap"], strict=True)],
        )
        who = "1 reader " if readers == 1 else f"{readers} readers"
        print(
            f"reading, {who}              {ours:8.0f} MB/s, np.memmap {plain_rate:.0f} ({share:.0%}; at least 90 %)"
        )


def _ingest(source: Path, folder: Path) -> float:
    """Ingest, and make the page; the seconds that the page took."""
    from orchestrator.config import IngestConfig
    from orchestrator.on_ray.ingest import ingest
    from orchestrator.pages.dataset_page import write_dataset_page

    config = IngestConfig(name="album", source=str(source), sample_rate=RATE)
    storage = Storage.open(folder)
    report = ingest(config, storage, lambda *_: None)
    start = time.perf_counter()
    write_dataset_page(storage, report)
    return time.perf_counter() - start


def _decode_alone(files: list[Path]) -> None:
    """soundfile and soxr over the files, the longest first, a process a core."""
    ordered = sorted(files, key=lambda path: -path.stat().st_size)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("fork")) as pool:
        list(pool.map(_decode_one, ordered))


def _decode_one(path: Path) -> int:
    samples = 0
    with soundfile.SoundFile(path) as audio:
        stream = soxr.ResampleStream(audio.samplerate, RATE, 1, dtype="float32", quality="VHQ")
        while len(block := audio.read(2**17, dtype="float32", always_2d=True)):
            mono = (block[:, 0] + block[:, -1]) * np.float32(0.5)
            samples += len(stream.resample_chunk(mono))
        samples += len(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    return samples


def _ffmpeg(long: Path, seconds: float, number: int, of: int) -> float:
    """Seconds of one of the original's calls: a chunk of 8 s from one long file, mono, at the dataset's rate."""
    start = number / of * (seconds - CHUNK_SECONDS)
    out = long.with_name("chunk.flac")
    command = (
        f"ffmpeg -v error -y -ss {start:.3f} -t {CHUNK_SECONDS} -i {long} -ac 1 -ab 16k -ar {RATE} {out}"
    )
    return _seconds(lambda: subprocess.run(command, shell=True, check=True))  # as os.system does there


def _one_wav(files: list[Path], long: Path) -> Path:
    first = soundfile.info(files[0])
    with soundfile.SoundFile(long, "w", first.samplerate, first.channels, "PCM_16") as out:
        for path in files:
            with soundfile.SoundFile(path) as audio:
                while len(block := audio.read(2**20, dtype="int16", always_2d=True)):
                    out.write(block)
    return long


def _folder(folder: Path, files: list[Path]) -> Path:
    folder.mkdir()
    for number, path in enumerate(files):
        os.link(path, target) if _same_disk(
            path, target := folder / f"{number:02d}{path.suffix}"
        ) else shutil.copy(path, target)
    return folder


def _same_disk(path: Path, target: Path) -> bool:
    return path.stat().st_dev == target.parent.stat().st_dev


class _watching:
    """Polls the memory of every decoder and of the worker that waits for it."""

    def __enter__(self) -> list[int]:
        self._over, self._peaks = threading.Event(), [0]
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self._peaks

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            for decoder in self._decoders():
                try:
                    pair = (decoder, decoder.parent())
                    self._peaks.append(sum(process.memory_info().rss for process in pair if process))
                except psutil.Error:
                    continue

    def _decoders(self) -> Iterator[psutil.Process]:
        for process in psutil.Process().children(recursive=True):
            try:
                if "samplernn.decode_process" in process.cmdline():
                    yield process
            except psutil.Error:
                continue


def _together(readers: int, read: Callable[..., None], where: str, rows: np.ndarray) -> float:
    """Megabytes a second of so many processes that begin at once, each in an order of its own."""
    context = multiprocessing.get_context("fork")
    barrier, done = context.Barrier(readers + 1), context.Barrier(readers + 1)
    batches = 60 if readers == 1 else 16
    children = [
        context.Process(target=read, args=(where, rows, seed, batches, barrier, done))
        for seed in range(readers)
    ]
    for child in children:
        child.start()
    barrier.wait()
    seconds = _seconds(done.wait)
    for child in children:
        child.join()
    return readers * batches * BATCH * CHUNK_SECONDS * RATE * 2 / seconds / 1e6


def _read_ours(work: str, rows: np.ndarray, seed: int, batches: int, barrier: Any, done: Any) -> None:
    dataset = Dataset.open(Storage.open(Path(work) / "dataset"), Path(work) / "cache")
    order = np.random.default_rng(seed).integers(len(rows), size=(batches, BATCH))
    barrier.wait()
    for batch in order:
        out = np.empty((BATCH, CHUNK_SECONDS * RATE), np.int16)
        for row, (track, start, stop) in zip(out, rows[batch].tolist(), strict=True):
            dataset.tracks[track].read(start, stop, row)
    done.wait()


def _read_plain(where: str, rows: np.ndarray, seed: int, batches: int, barrier: Any, done: Any) -> None:
    pcm = np.memmap(where, np.int16, "r")
    order = np.random.default_rng(seed).integers(len(rows), size=(batches, BATCH))
    barrier.wait()
    for batch in order:
        out = np.empty((BATCH, CHUNK_SECONDS * RATE), np.int16)
        for row, (start, stop) in zip(out, rows[batch].tolist(), strict=True):
            row[: stop - start] = pcm[start:stop]
    done.wait()


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
