"""How fast songs are made: the native backend against a plain PyTorch loop and against what the machine can do at most.

    python benchmarks/generation.py [--quick] [--json FILE] [--models S,L] [--songs 1,32] [--isa avx2] [--threads 2]

Samples a second of all songs together. Both sides of a ratio run in turn (A B A B) in one process; medians are quoted.
FLOPs are those of the folded model's arithmetic, two for a multiply-add: what must be computed, for the plain loop
too. The floor is the larger of two times: those FLOPs at the rate of multiply-adds in vector registers (a CPU with AMX
makes bf16 and int8 products in tiles, beyond that rate: above 100 %), and one pass over the weights at the rate at
which all threads read memory of that size. Weights are random: only speed counts, and levels are drawn more evenly
than music has them, which is the worst case for the table's rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from plain import PlainSampler
from report import Report

from samplernn.config import ModelConfig
from samplernn.folding import FoldedModel, fold
from samplernn.generate.backend import Backend, Request
from samplernn.generate.native_backend import PRECISIONS, NativeBackend, Precision, cpus
from samplernn.generate.native_library import Library, load
from samplernn.generate.torch_backend import TorchBackend
from samplernn.model import SampleRNN

RATE = 16_000
"""Hz, for real-time factors."""
GRU = {"frame_sizes": (16, 64), "rnn_type": "GRU"}
MODELS = {
    "S": ModelConfig(dim=256, n_rnn=2),
    "M": ModelConfig(dim=512, n_rnn=3),
    "L": ModelConfig(dim=1024, n_rnn=5),
    "S3": ModelConfig(**GRU, dim=256, n_rnn=1, skip_conn=False),
    "L3": ModelConfig(**GRU, dim=1024, n_rnn=4),
}
SONGS = (1, 8, 32, 128)
SONGS_3_TIERS = (1, 8, 16, 32, 128)
"""With 16, for which the public implementations are known."""
READS = (1, 3, 8, 32, 128, 512)
"""MB that memory bandwidth is measured over."""
WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}


def weights(model: FoldedModel) -> tuple[float, float]:
    """(matrix weights that are read for one sample, a frame's share of them; all matrix weights)."""
    own = model.w3.numel() + model.w_out.numel()
    each, total = float(own), float(own)
    for tier in model.tiers:
        size = tier.up.numel() + (0 if tier.expand is None else tier.expand[0].numel())
        for layer in tier.layers:
            size += layer.w_x.numel() + layer.w_h.numel()
            size += 0 if layer.to_out is None else layer.to_out.numel()
        each += size / tier.frame_size
        total += size
    return each, total


def flops(model: FoldedModel) -> float:
    """Floating-point (or integer) operations a sample of the folded model: products, and sums of table rows."""
    return 2 * weights(model)[0] + model.config.frame_sizes[0] * model.config.dim


def request(slots: int, songs: int, samples: int, start: int) -> Request:
    """One block of the first `songs` slots, at temperature 1."""
    return Request(
        active=np.arange(slots) < songs,
        seed=np.zeros(slots, dtype=np.uint32),
        song=np.arange(slots, dtype=np.uint32),
        start=np.full(slots, start, dtype=np.int64),
        temperature=np.ones((slots, samples), dtype=np.float32),
        top_k=np.zeros(slots, dtype=np.int32),
        top_p=np.ones(slots, dtype=np.float32),
    )


def rate(run: Callable[[], int], seconds: float) -> float:
    """Samples a second: the median over calls of run() (which returns how many it made) for about `seconds`."""
    run()
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates) < 2:
        start = time.perf_counter()
        made = run()
        rates.append(made / (time.perf_counter() - start))
    return statistics.median(rates)


def native_run(backend: NativeBackend, songs: int) -> Callable[[], int]:
    """A block as the engine asks for it, of 1,024 samples a song; shorter for many songs, to save the reader's time."""
    return block_run(backend, songs, 1024 if songs <= 8 else 256)


def block_run(backend: Backend, songs: int, samples: int) -> Callable[[], int]:
    """Block after block of so many samples a song."""
    at = [0]

    def run() -> int:
        backend.advance(request(backend.slots, songs, samples, at[0]))
        at[0] += samples
        return songs * samples

    return run


def floors(library: Library, threads: int, report: Report, found: dict[str, float]) -> None:
    """Register peaks in FLOP/s and read rates in bytes/s, all threads together: the best seen so far into `found`."""
    for index, precision in enumerate(PRECISIONS):
        samples = [library.c.snn_peak(index, threads, 0.1) for _ in range(5)]
        report.add(f"peak {precision}", "FLOP/s", samples)
        found[precision] = max(*samples, found.get(precision, 0.0))
    for megabytes in READS:
        samples = [library.c.snn_bandwidth(megabytes << 20, threads, 0.1) for _ in range(3)]
        report.add(f"read {megabytes} MB", "B/s", samples)
        found[str(megabytes)] = max(*samples, found.get(str(megabytes), 0.0))
    peaks = ", ".join(f"{precision} {found[precision] / 1e9:,.0f}" for precision in PRECISIONS)
    reads = ", ".join(f"{megabytes} MB {found[str(megabytes)] / 1e9:,.0f}" for megabytes in READS)
    print(f"multiply-adds in registers, GFLOP/s: {peaks}; reads, GB/s: {reads}")


def floor(found: dict[str, float], model: FoldedModel, precision: Precision, songs: int) -> tuple[float, str]:
    """(samples a second at most, what binds).

    Reading: every weight once a step for all songs; the sample tier's at the rate of memory of their own size, which a
    cache may hold, the frame tiers' at that of all weights.
    """
    each, total = weights(model)
    own = model.w3.numel() + model.w_out.numel()

    def read(count: float) -> float:
        size = count * WEIGHT_BYTES[precision] / 2**20
        return found[str(next((mb for mb in READS if size <= mb), READS[-1]))]

    seconds = ((each - own) / read(total) + own / read(own)) * WEIGHT_BYTES[precision]
    by_flops, by_bytes = found[precision] / flops(model), songs / seconds
    return (by_flops, "FLOPs") if by_flops <= by_bytes else (by_bytes, "reading")


def measure(name: str, options: argparse.Namespace, found: dict[str, float], report: Report) -> None:
    """One model: the table's rows, and the figures."""
    config = MODELS[name]
    torch.manual_seed(0)
    plain, model = PlainSampler(config), fold(SampleRNN.seeded(config, 0))
    backends, slots = {}, max(options.songs or SONGS)
    for precision in options.precisions:
        start = time.perf_counter()
        backends[precision] = NativeBackend(model, slots, options.threads, precision, options.isa)
        backends[precision].advance(request(slots, 1, config.context, 0))
        report.add(f"{name} {precision} start-up", "s", [time.perf_counter() - start])
    for songs in options.songs or (SONGS_3_TIERS if len(config.frame_sizes) > 1 else SONGS):
        plain_rates: list[float] = []
        rates: dict[Precision, list[float]] = {precision: [] for precision in backends}
        for _ in range(options.rounds):
            plain_rates.append(rate(lambda: len(plain.generate(songs, 64).flatten()), options.seconds))  # noqa: B023
            for precision, backend in backends.items():
                rates[precision].append(rate(native_run(backend, songs), options.seconds))
        base = report.add(f"{name} plain {songs} songs", "samples/s", plain_rates)
        print(
            f"{name:3} plain {songs:4} songs {base:12,.0f} samples/s {base / songs / RATE:8.2f} x real time each"
        )
        for precision, seen in rates.items():
            key = f"{name} {precision} {songs} songs"
            value = report.add(key, "samples/s", seen)
            ratio = report.add(
                f"{key} to plain", "ratio", [a / b for a, b in zip(seen, plain_rates, strict=True)]
            )
            most, binds = floor(found, model, precision, songs)
            peak = report.add(
                f"{key} of FLOP peak", "ratio", [v * flops(model) / found[precision] for v in seen]
            )
            share = report.add(f"{key} of floor", "ratio", [v / most for v in seen])
            print(
                f"{name:3} {precision:5} {songs:4} songs {value:12,.0f} samples/s {value / songs / RATE:8.2f} x real "
                f"time each {ratio:6.1f} x plain {peak:5.0%} of the FLOP peak {share:5.0%} of the floor ({binds})",
                flush=True,
            )


def measure_portable(name: str, options: argparse.Namespace, report: Report) -> None:
    """What it costs that the native kernel could not be built: a worker of either kind, float32, one thread each."""
    model = fold(SampleRNN.seeded(MODELS[name], 0))
    for songs in (1, 8):
        sides = {
            "native": NativeBackend(model, songs, 1, "fp32", options.isa),
            "portable": TorchBackend(model, songs, threads=1),
        }
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side, backend in sides.items():
                rates[side].append(rate(block_run(backend, songs, 64), options.seconds))
        pairs = zip(rates["native"], rates["portable"], strict=True)
        ratio = report.add(f"{name} native / portable {songs} songs", "ratio", [a / b for a, b in pairs])
        portable = report.add(f"{name} portable {songs} songs", "samples/s", rates["portable"])
        print(
            f"{name:3} portable PyTorch {songs:3} songs {portable:12,.0f} samples/s on one thread, {ratio:.1f} times "
            "slower than the native kernel",
            flush=True,
        )


_START_UP = """
import json, re, sys, time
from pathlib import Path
start = time.perf_counter()
sys.path.insert(0, {folder!r})
from generation import MODELS, NativeBackend, SampleRNN, fold, request
model = fold(SampleRNN.seeded(MODELS[{name!r}], 0))
ready = time.perf_counter()
backend = NativeBackend(model, 32, {threads}, {precision!r}, {isa!r})
backend.advance(request(32, 32, 64, 0))
end = time.perf_counter()
# Not getrusage: its maximum is inherited from the process that started this one.
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps([ready - start, end - ready, peak]))
"""


def start_up(name: str, precision: Precision, options: argparse.Namespace, report: Report) -> None:
    """A fresh process: imports and folding, packing and the first block, peak memory with 32 songs."""
    code = _START_UP.format(
        folder=str(Path(__file__).parent),
        name=name,
        threads=options.threads,
        precision=precision,
        isa=options.isa,
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    folding, packing, memory = json.loads(out.splitlines()[-1])
    report.add(f"{name} {precision} fresh process to folded model", "s", [folding])
    report.add(f"{name} {precision} folded model to first block", "s", [packing])
    report.add(f"{name} {precision} peak memory", "MB", [memory])
    print(
        f"{name:3} {precision:5} fresh process: {folding:.1f} s to a folded model, {packing:.2f} s more to the first "
        f"block of 32 songs, {memory:,.0f} MB at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the main ratios within a minute")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--models", default=None, help="of S, M, L, S3, L3")
    parser.add_argument("--songs", default=None, help="side by side")
    parser.add_argument("--precisions", default=None, help=", ".join(PRECISIONS))
    parser.add_argument(
        "--portable", action="store_true", help="only portable PyTorch beside the native kernel"
    )
    parser.add_argument("--isa", default=None, help="amx, avx512 or avx2; the best there is by default")
    parser.add_argument("--threads", type=int, default=cpus())
    options = parser.parse_args()
    quick = options.quick
    models = (options.models or ("S,L" if quick else ",".join(MODELS))).split(",")
    songs = options.songs or ("1,32" if quick else "")
    options.songs = [int(n) for n in songs.split(",") if n]
    options.precisions = (options.precisions or ("fp32,int8" if quick else ",".join(PRECISIONS))).split(",")
    options.rounds, options.seconds = (2, 0.4) if quick else (3, 0.5)
    library = load(options.isa)
    if isinstance(library, str):
        sys.exit(library)
    torch.set_num_threads(options.threads)
    print(f"native kernel: {library.isa}, {options.threads} threads; plain loop: torch {torch.__version__}")
    report = Report()
    found: dict[str, float] = {}
    for name in models:
        if options.portable:
            measure_portable(name, options, report)
            continue
        if not quick or not found:
            floors(library, options.threads, report, found)
        measure(name, options, found, report)
    for name in models if not options.portable else ():
        for precision in options.precisions if not quick else ("int8",):
            start_up(name, precision, options, report)
    report.add(
        "peak memory of the benchmark", "MB", [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
    )
    if options.json is not None:
        report.write(options.json, isa=library.isa, generation_threads=options.threads)


if __name__ == "__main__":
    main()
