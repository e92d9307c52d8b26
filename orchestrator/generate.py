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
from orchestrator.songs import (
    Checkpoint,
    PlannedSong,
    choose_checkpoint,
    is_made,
    keep_prompt,
    plan_songs,
    take_prompt,
)
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.errors import BadInput
from samplernn.storage import Storage

ENGINE = "engine.json"


def generate(workspace: Workspace, job: GenerateJob, run: GenerateRun, console: Console) -> dict[str, str]:
    """Make the songs of a job; returns the songs that failed and why.

    Raises BadInput when the checkpoint does not exist, the batch's name is taken by another job or it was begun with
    an engine whose samples would differ.
    """
    folder = workspace.batch(job.name)
    checkpoint = choose_checkpoint(workspace, _as_begun(folder, job))
    with hold(folder):
        wanted = job.generate.prompt
        prompt = None if wanted is None else take_prompt(folder, wanted, checkpoint)
        pinned = job.model_copy(update={"trial": checkpoint.trial, "step": checkpoint.step})
        check_same_config(folder, CONFIG, pinned)
        if prompt is not None:
            keep_prompt(folder, prompt, _sample_rate(checkpoint))
        songs = plan_songs(job, checkpoint, prompt)
        missing = [song for song in songs if not is_made(workspace, job.name, song.id)]
        console.print(
            f"checkpoint {checkpoint.trial} at step {checkpoint.step:,} ({checkpoint.bits:.3f} bits, trained for "
            f"{span(checkpoint.seconds)}); {len(songs) - len(missing)} of {len(songs)} songs are there",
            highlight=False,
            soft_wrap=True,
        )
        if not missing:
            return {}
        meter = _Meter(job, missing, _sample_rate(checkpoint))
        view = View(console, meter.render, meter.line)
        pin = _Pin(folder, view, meter)
        with view.showing(), connect():
            gpus = resources().get("GPU", 0.0)
            pool = SongPool(
                workspace,
                job.name,
                checkpoint,
                run,
                size=run.actors or int(gpus or resources().get("CPU", 1)),
                gpus=min(1.0, gpus),
                agree=pin.agree,
                progress=meter.add,
                tick=view.tick,
            )
            pool.run(missing)
        return pool.failed


def _as_begun(folder: Storage, job: GenerateJob) -> GenerateJob:
    """A job that names no checkpoint goes on with the one that its batch was begun with."""
    try:
        begun = commit.read_record(folder, CONFIG)
    except FileNotFoundError:
        return job
    if job.sweep != begun["sweep"] or job.trial is not None or job.step is not None:
        return job
    return job.model_copy(update={"trial": begun["trial"], "step": begun["step"]})


def _sample_rate(checkpoint: Checkpoint) -> int:
    return int(commit.read_json(checkpoint.folder, "config.json")["sample_rate"])


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

    def __init__(self, job: GenerateJob, missing: list[PlannedSong], sample_rate: int) -> None:
        self.engine = "starting"
        self._name, self._songs, self._clock = job.name, len(missing), Clock()
        self._rate = sample_rate
        self._total = len(missing) * round(job.generate.seconds * self._rate)
        self._made, self._finished, self._before = 0, 0, 0.0

    def add(self, said: Progress) -> None:
        if not self._made:
            self._before = max(0.0, self._clock.seconds - 1)
        self._made += said.samples
        self._finished += said.finished is not None

    def line(self) -> str:
        text = f"songs {self._name}{self._clock}: {self._finished} of {self._songs}"
        if not self._made:
            return f"{text}; {self.engine}"
        speed = self._made / (self._clock.seconds - self._before)
        left = max(0, self._total - self._made) / speed
        eta = f"; {span(left)} left" if self._finished < self._songs else ""
        return f"{text}; {speed:,.0f} samples/s, {speed / self._rate:.2f} x real time{eta}"

    def render(self) -> Group:
        return Group(bar(self._made, self._total), Text(self.line(), style="dim"))
