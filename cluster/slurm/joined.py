"""Wait until the nodes of a job have joined its head: python -m cluster.slurm.joined COUNT, with $RAY_ADDRESS set."""

from __future__ import annotations

import sys

from cluster.connect import Unreachable, alive_nodes, connect
from cluster.token import use_token
from cluster.wait import wait_for

WAIT_S = 180.0
"""Nodes that have not joined by then are done without; with none at all nothing can run."""
LOOK_S = 1.0


def joined(count: int, wait_s: float = WAIT_S) -> int:
    """How many nodes have joined, the head not counted: `count`, or fewer after `wait_s` seconds. Ray is connected."""
    return wait_for(count, _workers, wait_s, LOOK_S)


def _workers() -> int:
    return sum(not node.is_head for node in alive_nodes())


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
