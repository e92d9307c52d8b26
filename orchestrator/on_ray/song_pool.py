"""A pool of song actors with the driver's own queue: no song is lost when an actor dies.

ray.util.ActorPool loses the work of a dead actor and never replaces it; here a dead actor's unfinished songs go back to
the queue, and whoever takes them goes on from what was committed of them. Each actor keeps its model as long as there
are songs for it. Actors are added while the cluster grows; one for which there is no place waits, and holds no songs.
One that finds no song left takes over half of those of whoever would need longest.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import count
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError

from cluster.connect import Unreachable, resources
from orchestrator.config import GenerateRun
from orchestrator.journal import Journal
from orchestrator.on_ray.song_actor import Progress, Ready, SongActor
from orchestrator.on_ray.song_worker import SongWorker
from orchestrator.recipe import SLOTS_IN_ID
from orchestrator.songs import PlannedSong, is_made
from orchestrator.sources import Checkpoint
from orchestrator.workspace import Workspace
from samplernn.errors import SampleRNNError
from samplernn.memory import is_out_of_memory

POLL_S = 0.5
GROW_EVERY_S = 5.0
STARTING_S = 30.0
"""Songs are left for a new worker, where there is a place for it, as long as this."""
WAITING_PER_ACTOR = 1
"""Songs given to an actor beyond its places, so that a place that falls free is taken at once."""
WORTH_MOVING_S = 60.0
"""A worker that is done sooner keeps its songs: to move them costs a commit of each, and perhaps a model to load."""
ASK_AGAIN_S = 30.0
"""A worker that was asked for songs is given so much time before it is asked again."""
PAUSE_S = 60.0
"""When too many workers in a row died at their start, those that work go on without new ones for so long."""
_NODE_LOST = "node has died"
"""What Ray says of an actor on a node that went away."""
_DEAD = (ActorDiedError, ActorUnavailableError, RayActorError)


class SongPool:
    """Makes songs with as many actors as there is room for."""

    def __init__(
        self,
        workspace: Workspace,
        batch: str,
        run: GenerateRun,
        *,
        gpus: float,
        agree: Callable[[Ready], None],
        progress: Callable[[Progress, str], None],
        tick: Callable[[], None],
        log: Callable[..., None] = lambda event, **what: None,
    ) -> None:
        """An actor takes `gpus` of a GPU, or a CPU core where that is 0; `agree` may refuse its engine by raising.

        `progress` hears of all that is made, and on which node; `tick` is called at every turn; `log` gets every event.
        """
        actor: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_concurrency=2)(SongActor)
        self._make_actor: Callable[[], Any] = lambda: actor.remote(workspace, batch, self._run)
        self._workspace, self._batch, self._run = workspace, batch, run
        self._takes, self._places = "GPU" if gpus else "CPU", 0
        self._agree, self._progress, self._tick = agree, progress, tick
        self._journal, self._log = Journal(workspace.batch(batch)), log
        self._numbers, self._workers = count(1), list[SongWorker]()
        self._checkpoints: dict[str, Checkpoint] = {}
        self._queues: dict[str, deque[PlannedSong]] = {}
        self._songs: dict[str, PlannedSong] = {}
        self._asked: dict[int, float] = {}
        """When each worker was asked for songs."""
        self._tries = Counter[str]()
        self._stillborn, self._paused = 0, 0.0
        """Workers in a row that died before they had a song, and when the last of them did."""
        self.failed: dict[str, str] = {}
        """Songs that failed for good, and why."""
        self.pids: dict[int, int] = {}
        """Process id of every actor that is ready, by its number."""
        self.nodes: dict[int, str] = {}
        """The node that it is on: its host, and the beginning of Ray's id."""

    @property
    def alive(self) -> int:
        """Actors that are ready."""
        return len(self.pids)

    @property
    def at_work(self) -> int:
        """Those that have songs."""
        return sum(bool(worker.songs) for worker in self._workers)

    @property
    def waiting(self) -> int:
        """Actors that the cluster has no place for."""
        return sum(not worker.placed for worker in self._workers) - self._coming

    def run(self, songs: list[PlannedSong]) -> None:
        """Make every song or note why it failed."""
        for song in songs:
            self._checkpoints[song.checkpoint.key], self._songs[song.id] = song.checkpoint, song
            self._queues.setdefault(song.checkpoint.key, deque()).append(song)
        looked = -GROW_EVERY_S
        try:
            while self._queued or any(worker.songs for worker in self._workers):
                if time.monotonic() - looked > GROW_EVERY_S:
                    looked = time.monotonic()
                    self._grow()
                for worker in list(self._workers):
                    self._turn(worker)
                self._wait()
                self._tick()
        finally:
            for worker in self._workers:
                ray.kill(worker.actor)

    @property
    def _queued(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def _grow(self) -> None:
        """An actor a place in the cluster or as many as are asked for, and no more than there are songs left.

        None for a while when too many in a row died at their start: those that work go on without.
        """
        if (
            self._workers
            and self._stillborn > self._run.retries
            and time.monotonic() < self._paused + PAUSE_S
        ):
            return
        self._places = int(resources().get(self._takes, 0))
        left = self._queued + sum(len(worker.songs) for worker in self._workers)
        while len(self._workers) < min(max(1, self._run.actors or self._places), left):
            self._workers.append(SongWorker(next(self._numbers), self._make_actor()))

    @property
    def _coming(self) -> int:
        """New workers for which there is a place: they are about to take songs."""
        placed = sum(worker.placed for worker in self._workers)
        young = sum(
            not worker.placed and time.monotonic() - worker.heard < STARTING_S for worker in self._workers
        )
        return min(young, max(0, self._places - placed))

    def _turn(self, worker: SongWorker) -> None:
        """Take what a worker has to say without waiting; give it songs, or replace it when it died or hangs."""
        try:
            for said in worker.hear():
                self._take(worker, said)
            if worker.may_take:
                self._feed(worker)
        except (*_DEAD, RayTaskError) as error:
            self._replace(worker, error)
            return
        silent = worker.silent(self._run.patience)
        if silent is not None:
            self._replace(worker, TimeoutError(f"no sign of progress for {silent:g} s"))

    def _take(self, worker: SongWorker, said: Ready | Progress) -> None:
        """A worker has loaded a model, or made something."""
        if isinstance(said, Ready):
            self._greet(worker, said)
            return
        if said.finished is not None:
            self._tell("song", song=said.finished, worker=worker.number, resumed=said.resumed)
        if said.returned is not None:
            self._tell("returned", song=said.returned, worker=worker.number)
            self._queue(self._songs[said.returned])
        self._progress(said, self.nodes[worker.number])

    def _greet(self, worker: SongWorker, ready: Ready) -> None:
        self._agree(ready)
        if worker.number not in self.pids:
            self._tell(
                "worker",
                number=worker.number,
                engine=ready.engine,
                pid=ready.pid,
                host=ready.host,
                node=ready.node,
            )
            self._stillborn = 0
        assert worker.checkpoint is not None
        at = self._checkpoints[worker.checkpoint]
        self._tell("load", worker=worker.number, trial=at.trial, step=at.step, slots=ready.slots)
        self.pids[worker.number], self.nodes[worker.number] = ready.pid, f"{ready.host}/{ready.node[:6]}"

    def _tell(self, kind: str, **what: Any) -> None:
        self._journal.add(kind, **what)
        self._log(kind, **what)

    def _feed(self, worker: SongWorker) -> None:
        """Keep a worker's places filled; load another model only when there is no song left for the one it holds."""
        queue = self._queues.get(worker.checkpoint) if worker.checkpoint else None
        if queue or worker.songs:
            worker.give([queue.popleft() for _ in range(self._room(worker, queue))] if queue else [])
        elif self._queued:
            worker.load(self._checkpoints[self._next_model()])
        else:
            self._relieve(worker)

    def _room(self, worker: SongWorker, queue: deque[PlannedSong]) -> int:
        """How many songs a worker may take: its places and one more, and no more than its share of what is left."""
        alike = [other for other in self._workers if other.checkpoint == worker.checkpoint]
        left = len(queue) + sum(len(other.songs) for other in alike)
        most = min(worker.slots + WAITING_PER_ACTOR, -(-left // (len(alike) + self._coming)))
        return max(0, min(len(queue), most - len(worker.songs)))

    def _next_model(self) -> str:
        """The checkpoint with the most songs left for each worker that holds it."""
        waiting = {at: len(queue) for at, queue in self._queues.items() if queue}
        holding = Counter(other.checkpoint for other in self._workers if other.checkpoint)
        return max(waiting, key=lambda at: waiting[at] / (1 + holding[at]))

    def _relieve(self, idle: SongWorker) -> None:
        """Let a worker without songs, perhaps one that joined late, take half of those of the one that needs longest.

        Those with the most left to make; begun ones go on from where they are. Not for a last minute's sake.
        """
        others = [one for one in self._workers if len(one.songs) > 1 and one.seconds_left > WORTH_MOVING_S]
        if not others:
            return
        giver = max(others, key=lambda one: one.seconds_left)
        if idle.checkpoint != giver.checkpoint:
            assert giver.checkpoint
            idle.load(self._checkpoints[giver.checkpoint])
        elif time.monotonic() - self._asked.get(giver.number, -ASK_AGAIN_S) > ASK_AGAIN_S:
            self._asked[giver.number] = time.monotonic()
            most_left = sorted(giver.songs.values(), key=giver.left, reverse=True)
            giver.take_back([song.id for song in most_left[: len(most_left) // 2]])

    def _replace(self, worker: SongWorker, error: Exception) -> None:
        """A worker is gone: its songs go back to the front of the queue, and another takes its place."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, SampleRNNError):
            raise cause  # bad input or storage: every song would fail the same way
        full = cause is not None and is_out_of_memory(cause)
        reason = _too_many(worker) if full else _last_line(error)
        self._workers.remove(worker)
        self.pids.pop(worker.number, None)
        self.nodes.pop(worker.number, None)
        self._tell("lost", number=worker.number, reason=reason, songs=list(worker.songs))
        ray.kill(worker.actor)
        # A node that is lost or preempted is nobody's fault; with fewer places it will do.
        free = _NODE_LOST in str(error) or (full and self._halve(worker))
        for song in worker.songs.values():
            self._again(song, free, reason)
        if not worker.songs and not free:
            self._stillborn, self._paused = self._stillborn + 1, time.monotonic()
            if self._stillborn > self._run.retries and not self._workers:
                raise Unreachable(
                    f"{self._stillborn} workers died before they made anything, the last of: {reason}; "
                    "doctor says what is wrong with this machine, doctor --cluster with the others"
                ) from error
        self._grow()

    def _again(self, song: PlannedSong, free: bool, reason: str) -> None:
        """Back into the queue, unless it was committed just before, or was tried too often."""
        if is_made(self._workspace, self._batch, song.id):
            self._tell("song", song=song.id, worker=None, resumed=None)
            self._progress(Progress(0, finished=song.id), "")
            return
        self._tries[song.id] += not free
        if self._tries[song.id] > self._run.retries:
            self.failed[song.id] = f"failed after {self._run.retries} retries: {reason}"
            self._tell("failed", song=song.id, reason=self.failed[song.id])
        else:
            self._queue(song)

    def _queue(self, song: PlannedSong) -> None:
        """To the front: what was begun is finished first."""
        self._queues[song.checkpoint.key].appendleft(song)

    def _halve(self, worker: SongWorker) -> bool:
        """New workers get half the places of one that ran out of memory; False where samples depend on the number."""
        if worker.ready is None or worker.slots < 2 or SLOTS_IN_ID.search(worker.ready.engine):
            return False
        places = min(worker.slots // 2, self._run.slots or worker.slots)
        self._run = self._run.model_copy(update={"slots": places})
        self._tell("halved", places=places)
        return True

    def _wait(self) -> None:
        busy = [worker.busy for worker in self._workers if worker.busy is not None]
        if busy:
            ray.wait(busy, num_returns=1, timeout=POLL_S)


def _too_many(worker: SongWorker) -> str:
    fixed = worker.ready and SLOTS_IN_ID.search(worker.ready.engine)
    remedy = (
        f"; its samples depend on that number: use another name with run.slots={worker.slots // 2}"
        if fixed
        else ""
    )
    return f"out of memory with {worker.slots} songs side by side{remedy}"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
