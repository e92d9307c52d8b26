"""A pool of song actors with the driver's own queue: no song is lost when an actor dies.

ray.util.ActorPool loses the work of a dead actor and never replaces it; here a dead actor's unfinished songs go back to
the queue, up to a number of retries each, and another actor takes its place.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError

from orchestrator.config import GenerateRun
from orchestrator.on_ray.song_actor import Progress, Ready, SongActor
from orchestrator.songs import Checkpoint, PlannedSong
from orchestrator.workspace import Workspace
from samplernn.errors import SampleRNNError

POLL_S = 0.5
_DEAD = (ActorDiedError, ActorUnavailableError, RayActorError)


@dataclass
class _Worker:
    """One actor and what it is doing."""

    actor: Any
    slots: int = 1
    songs: list[PlannedSong] = field(default_factory=list)
    stream: Any = None


class SongPool:
    """Makes songs with `size` actors; `progress(samples, finished song or None, process ids)` hears of it."""

    def __init__(
        self,
        workspace: Workspace,
        batch: str,
        checkpoint: Checkpoint,
        run: GenerateRun,
        *,
        size: int,
        gpus: float,
        agree: Callable[[Ready], None],
        progress: Callable[[Progress], None],
        tick: Callable[[], None],
    ) -> None:
        actor: Any = ray.remote(num_cpus=1, num_gpus=gpus)(SongActor)
        self._make_actor: Callable[[], Any] = lambda: actor.remote(workspace, batch, checkpoint, run)
        self._size, self._retries = size, run.retries
        self._agree, self._progress, self._tick = agree, progress, tick
        self.failed: dict[str, str] = {}
        """Songs that failed for good, and why."""
        self.pids: dict[Any, int] = {}
        """Process id of every actor that is ready."""

    def run(self, songs: list[PlannedSong]) -> None:
        """Make every song or note why it failed. `agree` may refuse an actor's engine by raising."""
        queue, tries = deque(songs), Counter[str]()
        share = max(1, -(-len(songs) // self._size))
        workers = [self._start() for _ in range(min(self._size, len(songs)))]
        try:
            while queue or any(worker.songs for worker in workers):
                for index, worker in enumerate(workers):
                    if worker.stream is None and not (worker.songs or queue):
                        continue
                    try:
                        self._advance(worker, queue, share)
                    except (*_DEAD, RayTaskError) as error:
                        self._give_back(worker, queue, tries, error)
                        ray.kill(worker.actor)
                        workers[index] = self._start()
                self._wait(workers)
                self._tick()
        finally:
            for worker in workers:
                ray.kill(worker.actor)

    def _start(self) -> _Worker:
        worker = _Worker(self._make_actor())
        worker.stream = worker.actor.ready.remote()
        return worker

    def _advance(self, worker: _Worker, queue: deque[PlannedSong], share: int) -> None:
        """Take what a worker has to say without waiting; give it songs when it is free."""
        if isinstance(worker.stream, ray.ObjectRef):
            if not ray.wait([worker.stream], timeout=0)[0]:
                return
            ready: Ready = ray.get(worker.stream)
            self._agree(ready)
            self.pids[worker.actor] = ready.pid
            worker.slots, worker.stream = ready.slots, None
        while worker.stream is not None and ray.wait([worker.stream], timeout=0)[0]:
            try:
                said: Progress = ray.get(next(worker.stream))
            except StopIteration:
                worker.stream, worker.songs = None, []
                break
            worker.songs = [song for song in worker.songs if song.id != said.finished]
            self._progress(said)
        if worker.stream is None and queue:
            worker.songs = [queue.popleft() for _ in range(min(share, worker.slots, len(queue)))]
            worker.stream = worker.actor.make.options(num_returns="streaming").remote(worker.songs)

    def _give_back(
        self, worker: _Worker, queue: deque[PlannedSong], tries: Counter[str], error: Exception
    ) -> None:
        self.pids.pop(worker.actor, None)
        cause = getattr(error, "cause", None)
        if isinstance(cause, SampleRNNError):
            raise cause  # bad input or storage: every song would fail the same way
        for song in worker.songs:
            tries[song.id] += 1
            if tries[song.id] > self._retries:
                self.failed[song.id] = f"failed after {self._retries} retries: {_last_line(error)}"
            else:
                queue.append(song)
        if not worker.songs:  # it died while it loaded the model
            tries[""] += 1
            if tries[""] > self._retries:
                raise error

    def _wait(self, workers: list[_Worker]) -> None:
        busy = [worker.stream for worker in workers if worker.stream is not None]
        if busy:
            ray.wait(busy, num_returns=1, timeout=POLL_S)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
