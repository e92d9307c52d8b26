"""Decoding in a process of its own, with limits on memory, CPU and wall time.

A decoder written in C meets files from anywhere: if it crashes, hangs or takes all memory, that one file is named and
nothing else is touched. The child writes the PCM to its standard output, then its verdict as JSON, then the
verdict's length in four bytes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from samplernn.audio import Source, decode
from samplernn.errors import BadAudio

Pcm = npt.NDArray[np.int16]
_MEMORY_BYTES = 4 * 2**30
_CPU_SECONDS, _CPU_SECONDS_PER_MB = 30, 3
_WALL_PER_CPU = 10


def decode_apart(path: str | bytes | Path, sample_rate: int) -> tuple[Pcm, Source]:
    """PCM int16 [samples], mono at sample_rate Hz, of an audio file, decoded in a child process.

    Raises BadAudio with the reason when the file can't be used, also when its decoder crashed or ran into a limit;
    OSError when it can't be read.
    """
    cpu = _CPU_SECONDS + _CPU_SECONDS_PER_MB * (os.stat(path).st_size // 2**20)  # noqa: PTH116
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    command: list[str | bytes] = [
        sys.executable,
        "-P",
        "-m",
        __name__,
        str(sample_rate),
        str(cpu),
        os.fsencode(path),
    ]
    try:
        child = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, timeout=cpu * _WALL_PER_CPU, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BadAudio(
            f"decoding took more than {cpu * _WALL_PER_CPU:,} s; damaged, or its disk is stuck"
        ) from error
    if child.returncode != 0:
        raise BadAudio(_died(child.returncode, cpu))
    return _parse(child.stdout)


def _parse(output: bytes) -> tuple[Pcm, Source]:
    end = len(output) - 4
    start = end - int.from_bytes(output[end:], "little")
    verdict = json.loads(output[start:end])
    if "errno" in verdict:
        raise OSError(verdict["errno"], verdict["reason"])
    if "reason" in verdict:
        raise BadAudio(verdict["reason"])
    source = Source(**verdict["source"])
    return np.frombuffer(output, dtype=np.int16, count=source.samples), source


def _died(code: int, cpu: int) -> str:
    if code == -signal.SIGXCPU:
        return f"decoding took more than {cpu:,} s of CPU; damaged: write the file anew with an audio editor"
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return f"its decoder died ({how}); damaged: write the file anew with an audio editor"


def main(sample_rate: int, cpu_seconds: int, path: bytes, out: BinaryIO) -> None:
    """The child: decode `path` to `out` under the limits, and say how it went."""
    _limit(cpu_seconds)

    def sink(pcm: Pcm) -> None:
        out.write(pcm.tobytes())

    verdict = json.dumps(_verdict(path, sample_rate, sink)).encode()
    out.write(verdict + len(verdict).to_bytes(4, "little"))
    out.flush()


def _verdict(path: bytes, sample_rate: int, sink: Callable[[Pcm], None]) -> dict[str, object]:
    try:
        return {"source": dataclasses.asdict(decode(path, sample_rate, sink))}
    except BadAudio as error:
        return {"reason": str(error)}
    except BrokenPipeError:
        raise
    except OSError as error:
        return {"reason": error.strerror or str(error), "errno": error.errno}


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
    main(int(sys.argv[1]), int(sys.argv[2]), os.fsencode(sys.argv[3]), sys.stdout.buffer)
