"""Training speed, its share of the machine's arithmetic, and peak memory, beside the plain path and the public peers.

    python benchmarks/training.py [--setting S] [--rounds 5] [--quick] [--json FILE]

The sides of a setting take turns in one process (A B A B ...); a ratio is the median over the rounds of ours against
the peer in the same round. Memory is the peak of a process of its own for each side, beyond what importing it takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from arithmetic import gemm_peak, step_flops
from plain_training import PlainTrainer
from public_training import PublicTrainer
from report import Report, machine

from samplernn.config import Experiment, ModelConfig, TrainConfig
from samplernn.kernels import keep_heap
from samplernn.step import train_step
from samplernn.train import fresh
from samplernn.windows import Batch, Window

MIB = 2**20
TWO_TIER = {"frame_sizes": (16,), "rnn_type": "LSTM", "skip_conn": False}
THREE_TIER = {"frame_sizes": (16, 64), "rnn_type": "GRU-torch", "skip_conn": False}
SETTINGS: dict[str, tuple[ModelConfig, int]] = {
    "S": (ModelConfig(dim=256, n_rnn=2, **TWO_TIER), 16),
    "M": (ModelConfig(dim=512, n_rnn=3, **TWO_TIER), 16),
    "L": (ModelConfig(dim=1024, n_rnn=5, frame_sizes=(16,), skip_conn=True), 8),
    "S3": (ModelConfig(dim=256, n_rnn=1, **THREE_TIER), 16),
    "M3": (ModelConfig(dim=512, n_rnn=2, **THREE_TIER), 32),
}
"""Name: the model and the batch; a window is 1,024 samples."""
SEQ_LEN = 1024
QUICK = ("S", "S3")
OURS = ("ours fp32", "ours bf16")
Step = Callable[[], object]


def peers(config: ModelConfig) -> tuple[str, ...]:
    """Whom a setting is measured against."""
    return ("public",) if len(config.frame_sizes) > 1 else ("plain lstm", "plain cells")


def make_step(side: str, config: ModelConfig, batch: int) -> Step:
    """One optimiser step of a side, on random codes."""
    codes = np.random.default_rng(0).integers(0, config.q_levels, (batch, config.context + SEQ_LEN))
    tensor = torch.from_numpy(codes)
    if side == "public":
        public = PublicTrainer(config)
        return lambda: public.step(tensor)
    if side.startswith("plain"):
        plain = PlainTrainer(config, batch, cells=side == "plain cells")
        return lambda: plain.step(tensor)
    keep_heap()
    precision = side.removeprefix("ours ")
    experiment = Experiment(
        model=config, train=TrainConfig(batch_size=batch, seq_len=SEQ_LEN, precision=precision)
    )
    run = fresh(experiment, torch.device("cpu"))
    window = Window(codes.astype(np.int16), None, None, starts_chunk=False)
    return lambda: train_step(run, Batch.of(window, config.context, torch.device("cpu")), experiment.train)


def timed(step: Step, seconds: float) -> float:
    """Steps a second, over at least two steps and `seconds`."""
    step()
    count, start = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - start < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - start)


def measure(name: str, rounds: int, seconds: float, report: Report) -> None:
    """All sides of a setting in turn."""
    config, batch = SETTINGS[name]
    sides = {side: make_step(side, config, batch) for side in (*peers(config), *OURS)}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    peaks: dict[str, list[float]] = {"ours fp32": [], "ours bf16": []}
    for _ in range(rounds):
        for side, step in sides.items():
            rates[side].append(timed(step, seconds) * batch * SEQ_LEN)
        peaks["ours fp32"].append(gemm_peak(torch.float32))
        peaks["ours bf16"].append(gemm_peak(torch.bfloat16))
    speeds = {
        side: report.add(f"{name} {side} samples_per_s", "samples/s", values)
        for side, values in rates.items()
    }
    peer = max(peers(config), key=lambda side: speeds[side])
    flops = step_flops(config, batch, SEQ_LEN) / (batch * SEQ_LEN)
    print(f"\n{name}: dim {config.dim} x {config.n_rnn} {config.rnn_type}, frames {list(config.frame_sizes)}, "
          f"batch {batch}, window {SEQ_LEN:,}; {flops / 1e6:.2f} MFLOP a sample")  # fmt: skip
    for side, value in speeds.items():
        line = f"  {side:12} {value:>11,.0f} samples/s"
        if side in OURS:
            pairs = zip(rates[side], rates[peer], strict=True)
            ratio = report.add(f"{name} {side} / {peer}", "ratio", [ours / theirs for ours, theirs in pairs])
            pairs = zip(rates[side], peaks[side], strict=True)
            share = report.add(
                f"{name} {side} share_of_peak", "ratio", [rate * flops / top for rate, top in pairs]
            )
            top = max(peaks[side]) / 1e9
            line += f"   {ratio:5.2f} x {peer};  {share:4.0%} of a GEMM's {top:,.0f} GFLOP/s"
        print(line, flush=True)


def measure_memory(name: str, report: Report) -> None:
    """Peak memory of each side, in processes of their own."""
    config, _ = SETTINGS[name]
    found = {}
    for side in (*peers(config), *OURS):
        command = [sys.executable, str(Path(__file__)), "--one", name, side]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found[side] = told["peak"] - told["before"]
        report.add(f"{name} {side} peak_memory", "MiB", [found[side]])
        print(
            f"  {side:12} {found[side]:7,.0f} MiB beyond imports, {told['peak']:7,.0f} MiB in all", flush=True
        )
    peer = min(peers(config), key=lambda side: found[side])
    for side in OURS:
        ratio = report.add(f"{name} {side} / {peer} memory", "ratio", [found[side] / found[peer]])
        print(f"  {side:12} {ratio:7.2f} of {peer}")


def one(name: str, side: str) -> None:
    """Three steps of one side, then its peak memory in MiB as JSON."""
    config, batch = SETTINGS[name]
    before = peak_memory()
    step = make_step(side, config, batch)
    for _ in range(3):
        step()
    print(json.dumps({"before": before, "peak": peak_memory()}))


def peak_memory() -> float:
    """The most that this program has had resident, in MiB; ru_maxrss would begin with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Read the command line, measure, print, and write JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--setting", action="append", choices=SETTINGS, help="S, M, L, S3, M3; all when left out"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each side in each round")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="the small settings, within a minute")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("SETTING", "SIDE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if asked.one:
        one(*asked.one)
        return
    report = Report()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    for name in asked.setting or (QUICK if asked.quick else SETTINGS):
        measure(name, 3 if asked.quick else asked.rounds, 0.4 if asked.quick else asked.seconds, report)
        measure_memory(name, report)
    if asked.json:
        report.write(asked.json)


if __name__ == "__main__":
    main()
