"""How a batch of songs comes on: songs done, speed of all and of each node, time left."""

from __future__ import annotations

from collections import Counter, deque

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
PACE_S = 60.0
"""Speeds are those of so many last seconds: workers come and go."""


class Pace:
    """Samples a second of late."""

    def __init__(self) -> None:
        self._heard: deque[tuple[float, int]] = deque()
        self._sum, self._since = 0, 0.0

    def add(self, now: float, samples: int) -> None:
        """Samples that were made in about the second before `now`, in seconds of any clock."""
        if not self._heard and not self._sum:
            self._since = now - 1
        self._heard.append((now, samples))
        self._sum += samples

    def at(self, now: float) -> float:
        """Samples a second, up to now."""
        while self._heard and self._heard[0][0] < now - PACE_S:
            self._since, samples = self._heard.popleft()
            self._sum -= samples
        return self._sum / max(1.0, now - self._since)


class Effort:
    """What songs cost a worker: the seconds of making them, as of late, and of writing and measuring whole ones."""

    def __init__(self) -> None:
        self._making: deque[tuple[int, float]] = deque()
        self._samples, self._seconds = 0, 0.0
        self._finished, self._finishing = 0, 0.0

    def add(self, said: Progress, length: int) -> None:
        """A worker made samples, and finished a song of that length, or none (0)."""
        if said.seconds:
            self._making.append((said.samples, said.seconds))
            self._samples, self._seconds = self._samples + said.samples, self._seconds + said.seconds
            while self._seconds - self._making[0][1] > PACE_S:
                samples, seconds = self._making.popleft()
                self._samples, self._seconds = self._samples - samples, self._seconds - seconds
        if said.finishing:
            self._finished, self._finishing = self._finished + length, self._finishing + said.finishing

    @property
    def knows_finishing(self) -> bool:
        """Whether a song was finished yet."""
        return self._finished > 0

    def seconds(self, to_make: int, to_finish: int) -> float | None:
        """Seconds of one worker for so many samples; None as long as nothing is known."""
        if not self._samples:
            return None
        finishing = self._finishing / self._finished * to_finish if self._finished else 0.0
        return to_make * self._seconds / self._samples + finishing


class SongMeter:
    """Hears of all that is made."""

    def __init__(
        self,
        name: str,
        missing: list[PlannedSong],
        log: EventLog,
        clock: Clock | None = None,
        measured: bool = True,
    ) -> None:
        """`missing` are the songs to make, one at least; `measured` says whether each is when it is whole."""
        self.engine = "starting"
        self.pool: SongPool | None = None
        self._name, self._log, self._clock, self._measured = name, log, clock or Clock(), measured
        rates = {
            key: sample_rate(at) for key, at in {s.checkpoint.key: s.checkpoint for s in missing}.items()
        }
        self._rate = min(rates.values())
        self._lengths = {
            song.id: max(1, round(song.recipe["seconds"] * rates[song.checkpoint.key])) for song in missing
        }
        self._at, self._finished = dict.fromkeys(self._lengths, 0), set[str]()
        self._pace, self._nodes, self._effort = Pace(), dict[str, Pace](), Effort()
        self._heard = self._logged = 0.0

    def add(self, said: Progress, node: str) -> None:
        """An actor on a node made samples, or finished a song."""
        now = self._clock.seconds
        self._at |= said.at
        self._effort.add(said, self._lengths.get(said.finished or "", 0))
        self._heard = now
        if said.samples:
            self._pace.add(now, said.samples)
            self._nodes.setdefault(node, Pace()).add(now, said.samples)
        if said.finished is not None:
            self._finished.add(said.finished)
        if now - self._logged > LOG_EVERY_S:
            self._logged = now
            left = self.seconds_left
            self._log.add(
                "progress",
                songs=len(self._finished),
                of=len(self._lengths),
                workers=self.pool.alive if self.pool else 0,
                samples_per_s=round(self.speed),
                left_s=None if left is None else round(left),
                **{f"node-{node}": round(speed) for node, _, speed in self.by_node()},
            )

    @property
    def speed(self) -> float:
        """Samples a second of all actors together."""
        return self._pace.at(self._clock.seconds)

    @property
    def done(self) -> int:
        """Samples that need not be made any more: made by whomever and not lost since, or given up with their song."""
        over = self._over
        return sum(length if song in over else self._at[song] for song, length in self._lengths.items())

    @property
    def seconds_left(self) -> float | None:
        """Until the last song is made, written and measured, shared by those at work, at the speed of late.

        What measuring takes is counted once a song was measured. None when nothing is being made.
        """
        at_work = self.pool.at_work if self.pool else 0
        if not at_work or self._clock.seconds - self._heard > PACE_S:
            return None
        over = self._over
        unfinished = sum(length for song, length in self._lengths.items() if song not in over)
        effort = self._effort.seconds(sum(self._lengths.values()) - self.done, unfinished)
        return None if effort is None else effort / at_work

    def by_node(self) -> list[tuple[str, int, float]]:
        """(node, actors, samples a second) of every node with an actor that is ready and has made something."""
        actors = Counter(self.pool.nodes.values()) if self.pool else Counter[str]()
        return [
            (node, count, self._nodes[node].at(self._clock.seconds))
            for node, count in sorted(actors.items())
            if node in self._nodes
        ]

    def line(self) -> str:
        """All of it in one line."""
        text = f"songs {self._name}{self._clock}: {len(self._finished)} of {len(self._lengths)}"
        if self.pool is None:
            return f"{text}; {self.engine}"
        text += f" ({len(self.pool.failed)} failed)" if self.pool.failed else ""
        if not any(self._at.values()):
            return f"{text}; {self._waiting if self.pool.waiting and not self.pool.alive else self.engine}"
        nodes = len(set(self.pool.nodes.values()))
        workers = _count(self.pool.alive) + (f" on {nodes} nodes" if nodes > 1 else "")
        workers += f" ({self._waiting})" if self.pool.waiting else ""
        speed = self.speed
        return f"{text}; {workers}, {speed:,.0f} samples/s, {speed / self._rate:.2f} x real time{self._left}"

    def render(self) -> Group:
        """A bar, the line, and a line a node where there are several."""
        lines = [bar(self.done, sum(self._lengths.values())), Text(self.line(), style="dim")]
        nodes = self.by_node()
        if len(nodes) > 1:
            lines += [
                Text(f"  {node}: {_count(actors)}, {speed:,.0f} samples/s", style="dim")
                for node, actors, speed in nodes[:NODES_SHOWN]
            ]
        if len(nodes) > NODES_SHOWN:
            lines.append(
                Text(f"  and {len(nodes) - NODES_SHOWN} nodes more, in {self._log.path}", style="dim")
            )
        return Group(*lines)

    @property
    def _over(self) -> set[str]:
        return self._finished | (self.pool.failed.keys() if self.pool else set())

    @property
    def _waiting(self) -> str:
        assert self.pool
        return f"{self.pool.waiting} {'wait' if self.pool.waiting > 1 else 'waits'} for a place"

    @property
    def _left(self) -> str:
        """What is still to come, for a person."""
        unfinished, left = self._lengths.keys() - self._over, self.seconds_left
        if not unfinished:
            return ""
        told = "" if left is None else f"; {span(left)} left"
        if all(self._at[song] >= self._lengths[song] for song in unfinished):
            what = "writing and measuring the last" if self._measured else "writing the last"
            return f"{told}, {what}" if told and self._effort.knows_finishing else f"; {what}"
        uncounted = " besides measuring" if self._measured and not self._effort.knows_finishing else ""
        return told and told + uncounted


def _count(workers: int) -> str:
    return f"{workers} worker{'s' if workers != 1 else ''}"
