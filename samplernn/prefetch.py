"""The next batches, made ready by a thread while this one is trained on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
AHEAD = 2
_WAKE_S = 0.5


class Prefetch(Generic[T]):
    """Iterate over make(first), make(first + 1), ... made in a thread, at most AHEAD of them early.

    What make raises is raised where the item would have come. Close it to end the thread.
    """

    def __init__(self, make: Callable[[int], T], first: int) -> None:
        self._items: queue.Queue[T | BaseException] = queue.Queue(maxsize=AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make, first), name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._items.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """End the thread; what it has made ready is dropped."""
        self._closed.set()
        self._thread.join()

    def _run(self, make: Callable[[int], T], number: int) -> None:
        while not self._closed.is_set():
            item: T | BaseException
            try:
                item = make(number)
            except Exception as error:  # noqa: BLE001 - handed over to whoever iterates
                item = error
            while not self._closed.is_set():
                try:
                    self._items.put(item, timeout=_WAKE_S)
                    break
                except queue.Full:
                    continue
            if isinstance(item, BaseException):
                return
            number += 1
