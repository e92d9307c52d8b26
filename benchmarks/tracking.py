"""What tracking costs training: the same trial with the shipper beside it, whatever W&B does, and without.

    python benchmarks/tracking.py [--rounds 5] [--seconds 30] [--threads 1] [--quick] [--json FILE]

A block is one trial of a small model, trained in this process by --threads threads, with checkpoints and clips. With
fewer threads than cores the shipper has a core of its own; where every core trains it takes its share, niced by 10.
Blocks without tracking and with it take turns: offline runs; an endpoint that refuses the connection; one that hangs;
one that answers 429; one that dies within each answer. Told is the time of a block against the mean of those without
tracking before and after it, and, free of that noise, the CPU seconds of the shipper and of W&B's own process from
their start on. Offline a run folder is written in every block, not every ten minutes as in a sweep; the shipper starts
before a block and is ended after it, outside of its time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import torch
from report import Report
from sweep import made_workspace

from orchestrator.config import Schedule, SweepConfig, Tracking
from orchestrator.journal import Journal
from orchestrator.plan import plan
from orchestrator.tracking.group import Group
from orchestrator.tracking.start import Shipping, start_shipper
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.chunks import Dataset, cache_folder
from samplernn.config import Experiment, ModelConfig, TrainConfig
from samplernn.train import train

GOAL = 1.01
SIDES = ("offline", "refuses", "hangs", "429", "dies")
ENDPOINT = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def answer(self):
        if sys.argv[1] == "hangs":
            time.sleep(3600)
        if sys.argv[1] == "dies":
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1000\\r\\n\\r\\n{")
            self.close_connection = True
            return
        self.send_response(429)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_GET = do_POST = do_PUT = answer
    def log_message(self, *_): pass
ThreadingHTTPServer.daemon_threads = True
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
CLOSED = "http://127.0.0.1:9"
KEY = "0" * 40


def experiment(steps: int) -> Experiment:
    """A small model with a row every ten steps and two checkpoints with clips."""
    return Experiment(
        model=ModelConfig(frame_sizes=(4, 16), dim=128, n_rnn=2, emb_size=64, q_levels=256),
        train=TrainConfig(
            max_steps=steps, checkpoint_every=max(1, steps // 2), log_every=10, batch_size=8, seq_len=256,
            chunk_seconds=1.0, num_chunks=200, eval_seconds=1.0, clips=2, clip_seconds=0.5, diverge_after=None,
        ),
    )  # fmt: skip


@contextmanager
def endpoint(side: str) -> Iterator[str]:
    """URL of a W&B that does nothing good."""
    if side not in ("hangs", "429", "dies"):
        yield CLOSED
        return
    process = subprocess.Popen([sys.executable, "-c", ENDPOINT, side], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def block(
    workspace: Workspace, name: str, steps: int, side: str | None, flush_s: float, poll_s: float | None
) -> tuple[float, float]:
    """Seconds of one trial's training with tracking in this way (None: without), and CPU seconds of the shipper."""
    config = SweepConfig(name=name, dataset="noise", base=experiment(steps), schedule=Schedule(type="none"))
    folder = workspace.sweep(name)
    commit.write_record(folder, CONFIG, config.model_dump(mode="json"))
    (trial,) = plan(config)
    journal = Journal(folder)
    journal.add("start", trial.name, attempt=1, step=0)
    dataset = Dataset.open(workspace.dataset("noise"), cache_folder())
    with endpoint(side or "") as url:
        shipping = None if side is None else shipped(workspace, name, side, url, flush_s, poll_s)
        started = time.perf_counter()
        for _ in train(
            trial.experiment, dataset, workspace.trial(name, trial.name), device=torch.device("cpu")
        ):
            pass
        took = time.perf_counter() - started
        journal.add("end", trial.name, state="done", reason="max_steps")
        cpu_s = 0.0
        if shipping is not None:
            cpu_s = cpu_seconds(shipping.process.pid)
            assert shipping.process.poll() is None, f"the shipper ended early, see {shipping.folder}"
            shipping.finish(10 if side == "offline" else 1)
    return took, cpu_s


def cpu_seconds(pid: int) -> float:
    """What a process, its children that live, and those that it has waited for have used."""
    whole = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        times = process.cpu_times()
        whole += times.user + times.system + times.children_user + times.children_system
    return whole


def shipped(
    workspace: Workspace, name: str, side: str, url: str, flush_s: float, poll_s: float | None
) -> Shipping:
    """The shipper at work, W&B's library imported."""
    os.environ |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
    mode = Tracking(wandb="offline" if side == "offline" else "online")
    options = ["--flush-s", str(flush_s)] + ([] if poll_s is None else ["--poll-s", str(poll_s)])
    shipping = start_shipper(workspace, Group("sweep", name), mode, options=options)
    assert shipping is not None
    log = shipping.folder / "shipper.log"
    while f"pid {shipping.process.pid}" not in log.read_text():
        assert shipping.process.poll() is None, f"the shipper did not start, see {log}"
        time.sleep(0.1)
    return shipping


def main() -> None:
    """Print the table, and write the JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="blocks of each kind")
    parser.add_argument("--seconds", type=float, default=30.0, help="about how long a block takes")
    parser.add_argument("--threads", type=int, default=1, help="of training")
    parser.add_argument(
        "--quick", action="store_true", help="one round of blocks of 5 s; the shipper looks each second"
    )
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rounds, seconds, poll_s = (1, 5.0, 1.0) if asked.quick else (asked.rounds, asked.seconds, None)
    torch.set_num_threads(asked.threads)
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        workspace = made_workspace(Path(folder), seconds=60)
        block(workspace, "warm", 100, None, 0, None)
        steps = round(200 * seconds / block(workspace, "calibration", 200, None, 0, None)[0])
        ratios: dict[str, list[float]] = {side: [] for side in SIDES}
        cpu: dict[str, list[float]] = {side: [] for side in SIDES}
        before, _ = block(workspace, "none", steps, None, 0, None)
        bare = [before]
        for number in range(rounds):
            for side in SIDES:
                tracked, used = block(workspace, f"{side}-{number}", steps, side, seconds / 2, poll_s)
                after, _ = block(workspace, f"none-{side}-{number}", steps, None, 0, None)
                cpu[side].append(used)
                ratios[side].append(tracked / ((before + after) / 2))
                bare.append(after)
                before = after
        noise = [2 * b / (a + c) for a, b, c in zip(bare, bare[1:], bare[2:], strict=False)]
    print(f"a block: {steps} steps, {np.median(bare):.1f} s; {asked.threads} threads train\n")
    print(f"{'training time with tracking / without':40} {'ratio':>8}   samples")
    for side, samples in ratios.items():
        value = report.add(f"time_{side}", "ratio", samples)
        within = "" if value <= GOAL else f"   above the goal of {GOAL}"
        print(f"{side:40} {value:8.4f}   {' '.join(f'{one:.4f}' for one in samples)}{within}")
    value = report.add("time_without", "ratio", noise)
    print(
        f"{'without, against its neighbours: noise':40} {value:8.4f}   {' '.join(f'{one:.4f}' for one in noise)}"
    )
    for side, samples in cpu.items():
        value = report.add(f"cpu_{side}", "s", samples)
        print(
            f"{f'CPU of the shipper, {side}':40} {value:8.2f} s {' '.join(f'{one:.2f}' for one in samples)}"
        )
    report.add("block_seconds", "s", bare)
    if asked.json:
        report.write(asked.json, threads_training=asked.threads)


if __name__ == "__main__":
    main()
