"""Ctrl-C and SIGTERM: the first ends the work in order, the second at once; the same command goes on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
SHOW_CURSOR = b"\x1b[?25h"


@contextmanager
def orderly(say: Callable[[str], None], at_once: str) -> Iterator[None]:
    """For the length of a with block the first signal raises KeyboardInterrupt and the second ends the process.

    `say` tells the person that the first was heard; `at_once` is the last line when the second comes. Ray's processes
    end by themselves when their driver is gone, as after a kill.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal heard
        if heard:
            if sys.stdout.isatty():
                os.write(1, SHOW_CURSOR)  # a live view hid it
            os.write(2, f"\n{at_once}\n".encode())
            os._exit(INTERRUPTED)
        heard = True
        say("stopping: a few seconds, everything committed is kept (once more stops at once)")
        raise KeyboardInterrupt

    before = {sign: signal.signal(sign, handle) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


@contextmanager
def stopping_tune() -> Iterator[Callable[[], bool]]:
    """For the length of Tuner.fit(): Ctrl-C is noted, for the scheduler to wind up, and raised afterwards.

    Yields whether it came. Tune's own handler of SIGINT would leave the trials where they are, says nothing and is left
    in place when fit() returns, so that a later Ctrl-C is lost: it is switched off.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: False
        return
    usual, asked = signal.getsignal(signal.SIGUSR1), False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        try:
            before(signum, frame)
        except KeyboardInterrupt:
            if signal.getsignal(signal.SIGUSR1) == usual:
                raise  # Tune's loop, which sets it, has not begun
            asked = True

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGUSR1, usual)
    if asked:
        raise KeyboardInterrupt
