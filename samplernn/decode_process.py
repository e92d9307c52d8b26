"""Decoding in a process of its own, with limits on memory, CPU and wall time.

A decoder written in C meets files from anywhere: if it crashes, hangs or takes all memory, that one file is named and
nothing else is touched. Before the decoder sees a byte the child gives up the right to open anything, file or socket.

The child writes blocks to its standard output, each behind its length in four bytes; a length of 0 ends them, and the
verdict follows as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from samplernn.audio import Signal, Source, decode_signal, to_pcm
from samplernn.errors import BadAudio
from samplernn.mono import MEAN

Pcm = npt.NDArray[np.int16]
_MEMORY_BYTES = 4 * 2**30
_CPU_SECONDS, _CPU_SECONDS_PER_MB = 30, 3
_WALL_PER_CPU = 10
_MOST_BLOCK = 2**28


def decode_apart(path: str | bytes | Path, sample_rate: int) -> tuple[Pcm, Source]:
    """PCM int16 [samples], mono at sample_rate Hz, of an audio file, decoded in a child process.

    Raises BadAudio with the reason when the file can't be used, also when its decoder crashed or ran into a limit;
    OSError when it can't be read.
    """
    with decoding(path, sample_rate) as decoder:
        blocks = [to_pcm(signal) for signal in decoder.signal()]
        return np.concatenate(blocks), decoder.source


@contextmanager
def decoding(path: str | bytes | Path, sample_rate: int, mono: str = MEAN) -> Iterator[Decoder]:
    """A child process that decodes a file of any length; it is gone at the end of the with block."""
    cpu = _CPU_SECONDS + _CPU_SECONDS_PER_MB * (os.stat(path).st_size // 2**20)  # noqa: PTH116
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    command: list[str | bytes] = [sys.executable, "-P", "-m", __name__, str(sample_rate), str(cpu), mono]
    with subprocess.Popen(
        [*command, os.fsencode(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as child:
        decoder = Decoder(child, cpu)
        watchdog = threading.Timer(cpu * _WALL_PER_CPU, decoder.give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield decoder
        finally:
            watchdog.cancel()
            child.kill()


class Decoder:
    """A child at work."""

    source: Source
    """What the file was; there when `signal` has ended."""

    def __init__(self, child: subprocess.Popen[bytes], cpu: int) -> None:
        self._child, self._cpu, self._late = child, cpu, False
        self._out: Any = child.stdout

    def signal(self) -> Iterator[Signal]:
        """Blocks float32 [samples], full scale 1. Raises BadAudio, or OSError when the file can't be read."""
        while size := int.from_bytes(self._exactly(4), "little"):
            yield np.frombuffer(self._exactly(size), dtype=np.float32)
        verdict = json.loads(self._out.read() or "null")
        if self._child.wait() != 0 or verdict is None:
            raise BadAudio(self._died())
        if "errno" in verdict:
            raise OSError(verdict["errno"], verdict["reason"])
        if "reason" in verdict:
            raise BadAudio(verdict["reason"])
        self.source = Source(**verdict["source"])

    def give_up(self) -> None:
        """End a child that took too long."""
        self._late = True
        self._child.kill()

    def _exactly(self, size: int) -> bytes:
        data = self._out.read(size) if size <= _MOST_BLOCK else b""
        if len(data) < size:
            self._child.wait()
            raise BadAudio(self._died())
        return data

    def _died(self) -> str:
        if self._late:
            return f"decoding took more than {self._cpu * _WALL_PER_CPU:,} s; damaged, or its disk is stuck"
        return _died(self._child.returncode, self._cpu)


def _died(code: int, cpu: int) -> str:
    if code == -signal.SIGXCPU:
        return f"decoding took more than {cpu:,} s of CPU; damaged: write the file anew with an audio editor"
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return f"its decoder died ({how}); damaged: write the file anew with an audio editor"


def main(sample_rate: int, cpu_seconds: int, mono: str, path: bytes, out: BinaryIO) -> None:
    """The child: decode `path` to `out` under the limits, and say how it went."""
    _limit(cpu_seconds)

    def sink(signal: Signal) -> None:
        out.write(signal.nbytes.to_bytes(4, "little"))
        out.write(signal.data)

    verdict = json.dumps(_verdict(path, sample_rate, sink, mono)).encode()
    out.write(bytes(4) + verdict)
    out.flush()


def _verdict(path: bytes, sample_rate: int, sink: Callable[[Signal], None], mono: str) -> dict[str, object]:
    try:
        return {"source": dataclasses.asdict(decode_signal(path, sample_rate, sink, mono, _open_no_more))}
    except BadAudio as error:
        return {"reason": str(error)}
    except BrokenPipeError:
        raise
    except OSError as error:
        return {"reason": error.strerror or str(error), "errno": error.errno}


def _open_no_more() -> None:
    """From here on neither a file nor a socket can be opened; those that are open serve on."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _limit(cpu_seconds: int) -> None:
    limits = [
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ]
    for kind, limit in limits:
        _, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY or hard > limit:
            resource.setrlimit(kind, (limit, hard))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], os.fsencode(sys.argv[4]), sys.stdout.buffer)
