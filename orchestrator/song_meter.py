"""How a batch of songs comes on: songs done, speed of all and of each node, time left."""

from __future__ import annotations

from collections import Counter

from rich.console import Group
from rich.text import Text

from orchestrator.event_log import EventLog
from orchestrator.live import Clock, bar, span
from orchestrator.on_ray.song_actor import Progress
from orchestrator.on_ray.song_pool import SongPool
from orchestrator.songs import PlannedSong
from orchestrator.sources import sample_rate

NODES_SHOWN = 8
LOG_EVERY_S = 60.0


class SongMeter:
    """Hears of all that is made."""

    def __init__(self, name: str, missing: list[PlannedSong], log: EventLog) -> None:
        """`missing` are the songs to make, one at least."""
        self.engine = "starting"
        self.pool: SongPool | None = None
        self._name, self._songs, self._clock, self._log = name, len(missing), Clock(), log
        rates = {
            key: sample_rate(at) for key, at in {s.checkpoint.key: s.checkpoint for s in missing}.items()
        }
        self._rate = min(rates.values())
        self._total = sum(round(song.recipe["seconds"] * rates[song.checkpoint.key]) for song in missing)
        self._made, self._earlier, self._finished = 0, 0, 0
        self._nodes, self._since = Counter[str](), dict[str, float]()
        self._logged = 0.0

    def add(self, said: Progress, node: str) -> None:
        """An actor on a node made samples, or finished a song."""
        self._since.setdefault(node, max(0.0, self._clock.seconds - 1))
        self._made += said.samples
        self._earlier += said.resumed
        self._nodes[node] += said.samples
        self._finished += said.finished is not None
        if self._clock.seconds - self._logged > LOG_EVERY_S:
            self._logged = self._clock.seconds
            self._log.add("progress", songs=self._finished, of=self._songs, samples_per_s=round(self.speed), **{
                f"node-{node}": round(speed) for node, _, speed in self.by_node()
            })  # fmt: skip

    @property
    def speed(self) -> float:
        """Samples a second of all actors together, since the first of them spoke."""
        began = min(self._since.values(), default=self._clock.seconds)
        return self._made / max(1e-3, self._clock.seconds - began)

    def by_node(self) -> list[tuple[str, int, float]]:
        """(node, actors, samples a second since it first spoke) of every node with an actor that is ready."""
        actors = Counter(self.pool.nodes.values()) if self.pool else Counter[str]()
        return [
            (node, count, self._nodes[node] / max(1e-3, self._clock.seconds - self._since[node]))
            for node, count in sorted(actors.items())
            if node in self._since
        ]

    def line(self) -> str:
        """All of it in one line."""
        text = f"songs {self._name}{self._clock}: {self._finished} of {self._songs}"
        if not self._made or self.pool is None:
            return f"{text}; {self.engine}"
        left = max(0, self._total - self._made - self._earlier) / max(1e-3, self.speed)
        eta = f"; {span(left)} left" if self._finished < self._songs else ""
        workers = f"{self.pool.alive} worker{'s' if self.pool.alive != 1 else ''}"
        nodes = len(set(self.pool.nodes.values()))
        where = f" on {nodes} nodes" if nodes > 1 else ""
        return f"{text}; {workers}{where}, {self.speed:,.0f} samples/s, {self.speed / self._rate:.2f} x real time{eta}"

    def render(self) -> Group:
        """A bar, the line, and a line a node where there are several."""
        lines = [bar(self._made + self._earlier, self._total), Text(self.line(), style="dim")]
        nodes = self.by_node()
        if len(nodes) > 1:
            lines += [
                Text(
                    f"  {node}: {actors} worker{'s' if actors != 1 else ''}, {speed:,.0f} samples/s",
                    style="dim",
                )
                for node, actors, speed in nodes[:NODES_SHOWN]
            ]
        if len(nodes) > NODES_SHOWN:
            lines.append(
                Text(f"  and {len(nodes) - NODES_SHOWN} nodes more, in {self._log.path}", style="dim")
            )
        return Group(*lines)
