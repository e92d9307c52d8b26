"""Work on every node of the cluster at once: one probe a node, pinned there, that asks for no core and no GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

ANSWER_S = 45.0
"""A node that has not started a worker and answered by then is told as unanswering: it is lost, or overloaded."""
_PINGS = 5


@dataclass(frozen=True)
class Node:
    """One alive node."""

    id: str
    host: str
    address: str
    gpus: float = 0.0
    """GPUs that Ray counts there."""


@dataclass(frozen=True)
class Silent:
    """A node that did not answer, and why."""

    reason: str


class _Probe:
    def now(self) -> float:
        """The node's clock, in seconds since 1970."""
        return time.time()

    def call(self, function: Callable[..., Any], *words: Any) -> Any:
        """What the function says here."""
        return function(*words)


@dataclass
class Probes:
    """A probe on every node."""

    actors: dict[Node, Any]
    silent: dict[Node, Silent] = field(default_factory=dict)
    """Nodes that did not answer once; they are not asked again."""

    def ask(self, function: Callable[..., Any], *words: Any, own: bool = False) -> dict[Node, Any]:
        """What the function says on every node that answers; with `own`, its node comes first in its arguments."""
        return self._answers(
            {
                node: actor.call.remote(function, *((node, *words) if own else words))
                for node, actor in self._answering()
            }
        )

    def clocks(self) -> dict[Node, tuple[float, float]]:
        """(difference from this process's clock, how far that may be wrong) of every node, in seconds.

        The node's time is taken for the middle of the way there and back (Cristian 1989), the median of a few tries.
        """
        self._answers(
            {node: actor.now.remote() for node, actor in self._answering()}
        )  # it is up: now it is quick
        tries: dict[Node, list[tuple[float, float]]] = {}
        for _ in range(_PINGS):
            for node, actor in self._answering():
                before = time.time()
                theirs = self._answers({node: actor.now.remote()}).get(node)
                after = time.time()
                if theirs is not None:
                    tries.setdefault(node, []).append((theirs - (before + after) / 2, (after - before) / 2))
        return {
            node: (statistics.median(o for o, _ in seen), statistics.median(w for _, w in seen))
            for node, seen in tries.items()
        }

    def _answering(self) -> list[tuple[Node, Any]]:
        return [(node, actor) for node, actor in self.actors.items() if node not in self.silent]

    def _answers(self, asked: dict[Node, Any]) -> dict[Node, Any]:
        import ray
        from ray.exceptions import RayError

        ready, _ = (
            ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
        )
        told: dict[Node, Any] = {}
        for node, answer in asked.items():
            if answer not in ready:
                self.silent[node] = Silent(f"no answer within {ANSWER_S:.0f} s")
                continue
            try:
                told[node] = ray.get(answer)
            except RayError as error:
                self.silent[node] = Silent(str(error).strip().splitlines()[-1])
        return told


@contextmanager
def probes() -> Iterator[Probes]:
    """A probe on every alive node for the length of a with block. Ray must be connected."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    kind = ray.remote(num_cpus=0, max_restarts=0)(_Probe)
    actors = {
        node: kind.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote()
        for node in alive_nodes()
    }
    try:
        yield Probes(actors)
    finally:
        for actor in actors.values():
            ray.kill(actor)


def alive_nodes() -> list[Node]:
    """Every node that is alive, in the order of their names. Ray must be connected."""
    import ray

    nodes = [
        Node(
            node["NodeID"],
            node["NodeManagerHostname"],
            node["NodeManagerAddress"],
            node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(nodes, key=lambda node: (node.host, node.address, node.id))
