"""Ask an autoscaler for nodes and wait for them, before a sweep: python -m cluster.grow COUNT

A sweep runs as many trials at once as there is room for when it starts, and refuses a cluster without any. COUNT nodes
with a GPU each then stay, idle or not, and lost ones are replaced, until `python -m cluster.grow 0` or `ray down`.
"""

from __future__ import annotations

import os
import sys

from cluster.connect import Unreachable, alive_nodes, connect
from cluster.token import use_token
from cluster.wait import wait_for

WAIT_S = 1200.0
"""A machine, its driver and an image of gigabytes take minutes."""
LOOK_S = 5.0


def grow(count: int, wait_s: float = WAIT_S) -> int:
    """Ask for `count` GPUs, each on a node; how many there are, after `wait_s` at most. Ray must be connected."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"GPU": 1}] * count)
    return wait_for(count, _gpus, wait_s, LOOK_S)


def _gpus() -> int:
    return round(sum(node.resources.get("GPU", 0) for node in alive_nodes()))


def main() -> None:
    """Entry point."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.stderr.write(f"{__doc__}\n")
        raise SystemExit(2)
    count = int(sys.argv[1])
    os.environ.setdefault("RAY_ADDRESS", "auto")
    try:
        use_token()
        with connect():
            there = grow(count)
    except Unreachable as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(3) from error
    sys.stdout.write(f"{there} GPUs are there; {count} were asked for\n")
    raise SystemExit(0 if there >= count else 1)


if __name__ == "__main__":
    main()
