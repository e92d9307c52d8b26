"""What fits where: what a trial takes, how many run at once on this cluster, and why none can be placed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ray.tune import PlacementGroupFactory

from cluster.connect import Node, alive_nodes
from orchestrator.config import Resources
from samplernn.errors import BadInput

REPORT_EVERY_S = 2.0
"""Seconds between two reports of a trial, where there are few."""
REPORTS_PER_S = 80.0
"""Reports a second of all trials together, checkpoints left out; Tune itself takes 150 to 200."""
UNPLACED_S = 60.0
"""Seconds without a trial at work after which a person is told what is missing."""
NAMED = 3
ROUNDING = 1e-9
"""A third of a GPU has room for three."""

Share = dict[str, float]
"""What one trial takes: {"CPU": 1.0, "GPU": 0.25}."""


def per_trial(resources: Resources) -> Share:
    """What one trial takes on this cluster. Raises BadInput when no node could ever place it."""
    nodes = alive_nodes()
    gpus = resources.gpus
    if gpus is None:
        gpus = float(any(node.resources.get("GPU", 0) >= 1 for node in nodes))
    share = {"CPU": resources.cpus or 1.0, "GPU": gpus}
    if lack := missing(share, nodes):
        raise BadInput(f"{lack}; lower {_setting(share, nodes)} or add a larger node")
    return share


def missing(share: Share, nodes: Sequence[Node]) -> str | None:
    """Why no node could ever place a trial; None where one can."""
    if any(_room(share, node) for node in nodes):
        return None
    for name, amount in share.items():
        has = max((node.resources.get(name, 0.0) for node in nodes), default=0.0)
        if amount > has:
            return f"a trial asks for {amount:g} {name} and the largest node has {has:g}"
    both = " and ".join(f"{amount:g} {name}" for name, amount in share.items() if amount)
    return f"a trial asks for {both} and no node has as much of each"


def slots(share: Share, nodes: Sequence[Node]) -> list[int]:
    """Trials that run at once on each node that takes any, the most first."""
    fit = (_room(share, node) for node in without_head(share, nodes))
    return sorted(filter(None, fit), reverse=True)


def without_head(share: Share, nodes: Sequence[Node]) -> Sequence[Node]:
    """The nodes that trials run on: not the head, whose work is the cluster's, where others can do it.

    A head with GPUs is used like every other node by trials that take some: an idle GPU would be worse.
    """
    others = [node for node in nodes if not node.is_head]
    spared = missing(share, others) is None and not any(
        node.is_head and share["GPU"] and node.resources.get("GPU") for node in nodes
    )
    return others if spared else nodes


def placement(share: Share, nodes: Sequence[Node], strategy: str = "PACK") -> PlacementGroupFactory:
    """One placement a trial, which keeps off the head where it can."""
    bundle = {name: amount for name, amount in share.items() if amount}
    kept = {node.id for node in without_head(share, nodes)}
    left_out = [node.id for node in nodes if node.id not in kept]
    if not left_out:
        return PlacementGroupFactory([bundle], strategy)
    return PlacementGroupFactory(
        [bundle], strategy, bundle_label_selector=[{"ray.io/node-id": f"!{left_out[0]}"}]
    )


def report_every_s(concurrent: int) -> float:
    """Seconds between two reports of a trial, so that all together stay below 100 a second."""
    return max(REPORT_EVERY_S, concurrent / REPORTS_PER_S)


class Unplaced:
    """Notices that trials wait and none is at work."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._since: float | None = None
        self._told: str | None = None

    def look(self, waiting: Sequence[str], working: bool) -> str | None:
        """What to tell the person now: once each time that it happens, and again when the reason is another."""
        if working or not waiting:
            self._since = self._told = None
            return None
        if self._since is None:
            self._since = time.monotonic()
        if time.monotonic() - self._since < UNPLACED_S:
            return None
        lack = (
            missing(self._share, alive_nodes())
            or "what a trial takes is in use by other work on this cluster"
        )
        if lack == self._told:
            return None
        self._told = lack
        more = f" and {len(waiting) - NAMED:,} more" if len(waiting) > NAMED else ""
        return (
            f"no trial could be placed for {UNPLACED_S:g} s: {lack}. {', '.join(waiting[:NAMED])}{more} wait, and "
            "start as soon as there is such a node"
        )


def _room(share: Share, node: Node) -> int:
    """Trials that fit on one node; fractions of a GPU don't add up over two."""
    cpus, gpus = node.resources.get("CPU", 0.0), node.resources.get("GPU", 0.0)
    fit = int(cpus / share["CPU"] + ROUNDING)
    return min(fit, int(gpus) * int(1 / share["GPU"] + ROUNDING)) if share["GPU"] else fit


def _setting(share: Share, nodes: Sequence[Node]) -> str:
    short = [
        name
        for name, amount in share.items()
        if all(node.resources.get(name, 0.0) < amount for node in nodes)
    ]
    return " and ".join(f"resources.{name.lower()}s" for name in short or share)
