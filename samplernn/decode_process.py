"""Decoding in a process of its own, with limits on memory, CPU and wall time.

A decoder written in C meets files from anywhere: if it crashes, hangs or takes all memory, that one file is named and
nothing else is touched. Before the decoder sees a byte its process gives up the right to open anything, file or socket.

Importing what decodes takes longer than decoding a song. So a server, one for each process that asks, imports it once
and forks a child for every file; it never looks at a file itself. It gets a request and the write end of a pipe; the
child writes blocks into the pipe, each behind its length in four bytes; a length of 0 ends them, and the verdict
follows as JSON. Then the server says how the child ended.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import fcntl
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from samplernn.audio import Signal, Source, decode_signal, to_pcm
from samplernn.errors import BadAudio
from samplernn.mono import MEAN

Pcm = npt.NDArray[np.int16]
_MODULE = "samplernn.decode_process"
_MEMORY_BYTES = 4 * 2**30
_CPU_SECONDS, _CPU_SECONDS_PER_MB = 30, 3
_WALL_PER_CPU = 10
_MOST_BLOCK = 2**28
_MOST_REQUEST = 2**16
_PIPE_BYTES = 2**20
"""So that the decoder works on while its last block is measured and written."""


def decode_apart(path: str | bytes | Path, sample_rate: int) -> tuple[Pcm, Source]:
    """PCM int16 [samples], mono at sample_rate Hz, of an audio file, decoded in a process of its own.

    Raises BadAudio with the reason when the file can't be used, also when its decoder crashed or ran into a limit;
    OSError when it can't be read.
    """
    with decoding(path, sample_rate) as decoder:
        blocks = [to_pcm(signal) for signal in decoder.signal()]
        return np.concatenate(blocks), decoder.source


@contextmanager
def decoding(
    path: str | bytes | Path, sample_rate: int, mono: str = MEAN, cut: tuple[int, int | None] | None = None
) -> Iterator[Decoder]:
    """A process that decodes a file of any length, or the seconds [start, stop) of it; it is gone at the end of the
    with block."""
    cpu = _CPU_SECONDS + _CPU_SECONDS_PER_MB * (os.stat(path).st_size // 2**20)  # noqa: PTH116
    request = {"path": os.fsdecode(path), "sample_rate": sample_rate, "cpu": cpu, "mono": mono, "cut": cut}
    with _a_server() as server:
        with server.forked(request) as pipe:
            watchdog = threading.Timer(cpu * _WALL_PER_CPU, server.kill)
            watchdog.daemon = True
            watchdog.start()
            try:
                yield Decoder(server, pipe, cpu)
            finally:
                watchdog.cancel()
        server.ended()


class Decoder:
    """A child at work."""

    source: Source
    """What the file was; there when `signal` has ended."""

    def __init__(self, server: _Server, pipe: BinaryIO, cpu: int) -> None:
        self._server, self._pipe, self._cpu = server, pipe, cpu

    def signal(self) -> Iterator[Signal]:
        """Blocks float32 [samples], full scale 1. Raises BadAudio, or OSError when the file can't be read."""
        while size := int.from_bytes(self._exactly(4), "little"):
            yield np.frombuffer(self._exactly(size), dtype=np.float32)
        verdict = json.loads(self._pipe.read() or "null")
        if self._server.ended() != 0 or verdict is None:
            raise BadAudio(self._died())
        if "errno" in verdict:
            raise OSError(verdict["errno"], verdict["reason"])
        if "reason" in verdict:
            raise BadAudio(verdict["reason"])
        self.source = Source(**verdict["source"])

    def _exactly(self, size: int) -> bytes:
        data = self._pipe.read(size) if size <= _MOST_BLOCK else b""
        if len(data) < size:
            raise BadAudio(self._died())
        return data

    def _died(self) -> str:
        code = self._server.ended()
        if code is None:
            return f"decoding took more than {self._cpu * _WALL_PER_CPU:,} s; damaged, or its disk is stuck"
        return _died(code, self._cpu)


class _Server:
    """The process that forks decoders, seen from the one that asks. One file at a time."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[1])
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.module, self.owner = _MODULE, os.getpid()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.module],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self._working = False
        self._code: int | None = None

    @property
    def usable(self) -> bool:
        """Whether it waits for a request of this process."""
        mine = self.owner == os.getpid() and self.module == _MODULE
        return mine and not self._working and self._process.poll() is None

    @contextmanager
    def forked(self, request: dict[str, object]) -> Iterator[BinaryIO]:
        """What a child that works on the request writes."""
        ours, theirs = os.pipe()
        with contextlib.suppress(AttributeError, OSError):  # Linux alone, and up to the user's limit
            fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        with open(ours, "rb", buffering=2**16) as pipe:  # noqa: PTH123
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], [theirs])
            finally:
                os.close(theirs)
            self._working = True
            yield pipe

    def ended(self) -> int | None:
        """How the child ended: its exit code, or the negative number of a signal; None when the server was killed."""
        if self._working:
            answer = self._socket.recv(4)
            self._code = int.from_bytes(answer, "little", signed=True) if len(answer) == 4 else None
            self._working = False
            if self._code is None:
                self._process.wait()
        return self._code

    def kill(self) -> None:
        """End it together with its child: they are a session of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let it end."""
        self._socket.close()
        if self.owner == os.getpid():
            self.kill()
            self._process.wait()


_lock = threading.Lock()
_idle: list[_Server] = []


@contextmanager
def _a_server() -> Iterator[_Server]:
    """An idle server, or a new one; afterwards it is kept for the next file if it is sound."""
    with _lock:
        server = next((one for one in _idle if one.usable), None)
        for one in _idle:
            if one is not server:
                one.close()
        _idle.clear()
    server = server or _Server()
    try:
        yield server
    finally:
        with _lock:
            if server.usable and not _idle:
                _idle.append(server)
            else:
                server.close()


def _close_idle() -> None:
    for server in _idle:
        server.close()


atexit.register(_close_idle)


def _died(code: int, cpu: int) -> str:
    if code == -signal.SIGXCPU:
        return f"decoding took more than {cpu:,} s of CPU; damaged: write the file anew with an audio editor"
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return f"its decoder died ({how}); damaged: write the file anew with an audio editor"


def serve() -> None:
    """The server: fork a child for each request that comes over standard input, until that is closed."""
    gc.freeze()  # no child needs to copy what is imported
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as asking:
        while True:
            message, pipes, _, _ = socket.recv_fds(asking, _MOST_REQUEST, 1)
            if not message:
                return
            child = os.fork()
            if child == 0:
                asking.close()
                _decode(json.loads(message), pipes[0])
            os.close(pipes[0])
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            asking.sendall(code.to_bytes(4, "little", signed=True))


def _decode(request: dict[str, Any], pipe: int) -> NoReturn:
    """The child: decode under the limits, and say how it went."""
    code = 1
    try:
        _limit(request["cpu"])
        with open(pipe, "wb", buffering=2**16) as out:

            def sink(signal: Signal) -> None:
                out.write(signal.nbytes.to_bytes(4, "little"))
                out.write(signal.data)

            path = os.fsencode(request["path"])
            cut = request["cut"] and tuple(request["cut"])
            verdict = _verdict(path, request["sample_rate"], sink, request["mono"], cut)
            out.write(bytes(4) + json.dumps(verdict).encode())
        code = 0
    finally:
        os._exit(code)


def _verdict(
    path: bytes,
    sample_rate: int,
    sink: Callable[[Signal], None],
    mono: str,
    cut: tuple[int, int | None] | None,
) -> dict[str, object]:
    try:
        source = decode_signal(path, sample_rate, sink, mono, _open_no_more, cut)
        return {"source": dataclasses.asdict(source)}
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
    serve()
