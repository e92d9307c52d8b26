"""Wait until the nodes of a job have joined its head: python -m cluster.slurm.joined COUNT, with $RAY_ADDRESS set."""

from __future__ import annotations

import sys
import time

from cluster.connect import Unreachable, alive_nodes, connect
from cluster.token import use_token

WAIT_S = 180.0
"""Nodes that have not joined by then are done without; with none at all nothing can run."""


def joined(count: int, wait_s: float = WAIT_S) -> int:
    """How many nodes have joined, the head not counted: `count`, or fewer after `wait_s` seconds. Ray is connected."""
    until = time.monotonic() + wait_s
    while True:
        there = sum(not node.is_head for node in alive_nodes())
        if there >= count or time.monotonic() > until:
            return there
        time.sleep(1)


def main() -> None:
    """Entry point."""
    count = int(sys.argv[1])
    try:
        use_token()
        with connect():
            there = joined(count)
    except Unreachable as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(3) from error
    sys.stdout.write(f"{there} of {count} nodes have joined\n")
    raise SystemExit(0 if there else 3)


if __name__ == "__main__":
    main()
