"""Wait for something of a cluster to be there, a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(count: int, there: Callable[[], int], wait_s: float, look_s: float) -> int:
    """How many are there: `count` or more, or fewer after `wait_s` seconds. It looks at least once."""
    until = time.monotonic() + wait_s
    while (found := there()) < count and (left := until - time.monotonic()) > 0:
        time.sleep(min(look_s, left))
    return found
