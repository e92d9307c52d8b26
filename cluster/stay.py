"""Keep this machine a node of its cluster: Ray in the foreground, started again whenever it ends.

A node that was cut off is declared dead; when the link is back its raylet hears so and exits, and Ray must be started
anew. `ray stop`, Ctrl-C and SIGTERM end it, and so does a head that is gone for good.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Literal

import psutil

from cluster.connect import Unreachable

AGAIN_S = 5.0
"""Seconds between two tries."""
GONE_S = float(os.environ.get("CLUSTER_GONE_S", "600"))
"""A head whose machine answers, and says for so long that there is none, was ended: then so does its node. A link that
is down is waited for as long as it takes."""
_ENDING_S = 30.0
"""Ray has so long to end before it is killed."""
_LOOK_S = 1.0
_KNOCK_S = 5.0
_STOPPED_LOOKS, _WITHOUT_RAYLET_LOOKS = 5, 20


def stay(address: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run `ray start --block` against the head at host:port until it is told to end.

    Raises Unreachable when the head was ended.
    """
    told: list[int] = []

    def end(signum: int, frame: FrameType | None) -> None:
        told.append(signum)

    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, end)
    refused_since: float | None = None
    while not told:
        answer = knock(address)
        if answer == "open":
            refused_since = None
            if _run(command, environment, told) == "stopped":
                return
        elif answer == "refused":
            refused_since = refused_since or time.monotonic()
            if time.monotonic() - refused_since > GONE_S:
                raise Unreachable(
                    f"there has been no head at {address} for {GONE_S:.0f} s, although its machine answers: this node "
                    "ends, too; start the head and join again (`ray up` does both)"
                )
        else:
            refused_since = None
        _pause(AGAIN_S, told)


def knock(address: str) -> Literal["open", "refused", "silent"]:
    """Whether somebody listens at host:port, nobody does, or the machine itself does not answer."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "silent"
    return "open"


def _run(
    command: Sequence[str], environment: Mapping[str, str], told: list[int]
) -> Literal["ended", "stopped"]:
    """Ray until it ends ("stopped": by `ray stop`, after which `ray start --block` itself waits on for ever)."""
    node = subprocess.Popen(command, env=dict(environment), start_new_session=True)
    lived, empty, headless = False, 0, 0
    while node.poll() is None and not told:
        time.sleep(_LOOK_S)
        names = {child.name() for child in _alive(node.pid)}
        lived = lived or "raylet" in names
        empty = empty + 1 if lived and not names else 0
        headless = headless + 1 if lived and "raylet" not in names else 0
        if empty >= _STOPPED_LOOKS or headless >= _WITHOUT_RAYLET_LOOKS:
            break
    _end(node)
    if told or empty >= _STOPPED_LOOKS:
        return "stopped"
    sys.stderr.write(f"Ray has ended here (code {node.returncode}); joining again in {AGAIN_S:.0f} s\n")
    return "ended"


def _end(node: subprocess.Popen[bytes]) -> None:
    """End Ray with everything that it started."""
    family = _alive(node.pid, recursive=True)
    node.terminate()
    for process in family:
        _signal(process, signal.SIGTERM)
    _, left = psutil.wait_procs(family, _ENDING_S)
    for process in left:
        _signal(process, signal.SIGKILL)
    try:
        node.wait(_LOOK_S)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()
    with suppress(ProcessLookupError):  # what it had only just started when it was told
        os.killpg(node.pid, signal.SIGKILL)


def end_earlier() -> None:
    """End every other `cluster.start join` of this user on this machine, and the node that it keeps."""
    own = psutil.Process()
    mine = {own.pid, *(parent.pid for parent in own.parents())}
    earlier = [
        process
        for process in psutil.process_iter(["cmdline", "uids"])
        if process.pid not in mine
        and process.info["uids"] is not None
        and process.info["uids"].real == os.getuid()
        and (process.info["cmdline"] or [])[1:4] == ["-m", "cluster.start", "join"]
    ]
    for process in earlier:
        _signal(process, signal.SIGTERM)
    psutil.wait_procs(earlier, _ENDING_S + _KNOCK_S + _LOOK_S)


def _alive(pid: int, recursive: bool = False) -> list[psutil.Process]:
    try:
        children = psutil.Process(pid).children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []
    return [child for child in children if _status(child) not in (None, psutil.STATUS_ZOMBIE)]


def _status(process: psutil.Process) -> str | None:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return None


def _signal(process: psutil.Process, signum: int) -> None:
    try:
        process.send_signal(signum)
    except psutil.NoSuchProcess:
        return


def _pause(seconds: float, told: list[int]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not told:
        time.sleep(0.2)
