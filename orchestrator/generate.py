"""`generate`: songs from a checkpoint, in a pool of actors; the same command makes only what is missing."""

from __future__ import annotations

from rich.console import Console, Group
from rich.text import Text

from cluster.connect import connect, resources
from orchestrator.config import GenerateJob, GenerateRun
from orchestrator.drift import check_same_config
from orchestrator.lease import hold
from orchestrator.live import Clock, View, bar, span
from orchestrator.on_ray.song_actor import Progress, Ready
from orchestrator.on_ray.song_pool import SongPool
from orchestrator.recipe import Recipe
from orchestrator.songs import PlannedSong, is_made, plan_songs
from orchestrator.sources import choose_sources, pin_sources, sample_rate
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.errors import BadInput
from samplernn.storage import Storage

ENGINE = "engine.json"


def generate(
    workspace: Workspace,
    job: GenerateJob,
    run: GenerateRun,
    console: Console,
    again: Recipe | None = None,
) -> dict[str, str]:
    """Make the songs of a job; returns the songs that failed and why.

    Raises BadInput when a checkpoint does not exist, the batch's name is taken by another job or it was begun with an
    engine whose samples would differ. `again` is the song that the job makes again: its engine is the batch's.
    """
    folder = workspace.batch(job.name)
    sources = choose_sources(workspace, job)
    if again is not None:
        again.check(sources[0])
    with hold(folder):
        check_same_config(folder, CONFIG, job)
        if again is not None:
            folder.create(ENGINE, commit.record_bytes({"engine": again.engine}))
        pin_sources(folder, sources)
        songs = plan_songs(sources)
        missing = [song for song in songs if not is_made(workspace, job.name, song.id)]
        for checkpoint in {source.checkpoint.key: source.checkpoint for source in sources}.values():
            console.print(
                f"checkpoint {checkpoint.trial} at step {checkpoint.step:,} ({checkpoint.bits:.3f} bits, trained for "
                f"{span(checkpoint.seconds)})",
                highlight=False,
                soft_wrap=True,
            )
            for reason in checkpoint.left_out:
                console.print(f"  left out: {reason}", style="red", markup=False, soft_wrap=True)
        console.print(f"{len(songs) - len(missing)} of {len(songs)} songs are there", highlight=False)
        if not missing:
            return {}
        meter = _Meter(job.name, missing)
        view = View(console, meter.render, meter.line)
        pin = _Pin(folder, view, meter)
        with view.showing(), connect():
            gpus = resources().get("GPU", 0.0)
            pool = SongPool(
                workspace,
                job.name,
                run,
                capacity=lambda: run.actors or int(resources().get("GPU" if gpus else "CPU", 1)),
                gpus=min(1.0, gpus),
                agree=pin.agree,
                progress=meter.add,
                tick=view.tick,
            )
            meter.pool = pool
            pool.run(missing)
        return pool.failed


class _Pin:
    """The batch's engine: samples of two engines do not mix in one batch."""

    def __init__(self, folder: Storage, view: View, meter: _Meter) -> None:
        self._folder, self._view, self._meter = folder, view, meter
        self._said: set[str] = set()

    def agree(self, ready: Ready) -> None:
        """Tell what generates, once, and pin it. Raises BadInput when the batch was begun with another engine."""
        if ready.serving.said not in self._said:
            self._said.add(ready.serving.said)
            self._view.say(f"engine: {ready.serving.said}")
            if ready.serving.fix:
                self._view.say(f"  why: {ready.serving.fix}")
        self._meter.engine = ready.engine
        if self._folder.create(ENGINE, commit.record_bytes({"engine": ready.engine})):
            return
        begun = commit.read_record(self._folder, ENGINE)["engine"]
        if begun != ready.engine:
            raise BadInput(
                f"{self._folder} was begun with engine {begun} and this is {ready.engine}; go on where it was begun, "
                "with the same run.backend, run.precision and run.slots, or use another name"
            )


class _Meter:
    """Songs done, speed and ETA."""

    def __init__(self, name: str, missing: list[PlannedSong]) -> None:
        self.engine = "starting"
        self.pool: SongPool | None = None
        self._name, self._songs, self._clock = name, len(missing), Clock()
        self._rate = sample_rate(missing[0].checkpoint)
        self._total = sum(round(song.recipe["seconds"] * self._rate) for song in missing)
        self._made, self._finished, self._before = 0, 0, 0.0

    def add(self, said: Progress) -> None:
        if not self._made:
            self._before = max(0.0, self._clock.seconds - 1)
        self._made += said.samples
        self._finished += said.finished is not None

    def line(self) -> str:
        text = f"songs {self._name}{self._clock}: {self._finished} of {self._songs}"
        if not self._made or self.pool is None:
            return f"{text}; {self.engine}"
        speed = self._made / (self._clock.seconds - self._before)
        left = max(0, self._total - self._made) / speed
        eta = f"; {span(left)} left" if self._finished < self._songs else ""
        workers = f"{self.pool.alive} worker{'s' if self.pool.alive != 1 else ''}"
        return f"{text}; {workers}, {speed:,.0f} samples/s, {speed / self._rate:.2f} x real time{eta}"

    def render(self) -> Group:
        return Group(bar(self._made, self._total), Text(self.line(), style="dim"))
