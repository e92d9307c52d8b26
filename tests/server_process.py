"""A server of a test's own, in a process of its own that ends with the with block."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def server_process(script: str) -> Iterator[int]:
    """The port that the script prints as its first line; it is to end when its stdin does."""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield int(process.stdout.readline())
    finally:
        process.communicate()
