"""`generate`: songs from a checkpoint, in a pool of actors; the same command, or one for more, makes the missing."""

from __future__ import annotations

from rich.console import Console

from cluster.connect import connect, resources
from orchestrator.config import GenerateJob, GenerateRun
from orchestrator.drift import check_same_config
from orchestrator.event_log import EventLog
from orchestrator.lease import hold
from orchestrator.live import View, span
from orchestrator.on_ray.song_actor import Ready
from orchestrator.on_ray.song_pool import SongPool
from orchestrator.recipe import SLOTS_IN_ID, Recipe
from orchestrator.show_songs import show_songs
from orchestrator.song_meter import SongMeter
from orchestrator.songs import is_made, plan_songs
from orchestrator.sources import Checkpoint, choose_sources, pin_sources, sample_rate
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.errors import BadInput
from samplernn.song_file import check_format
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
    checkpoints = list({source.checkpoint.key: source.checkpoint for source in sources}.values())
    for checkpoint in checkpoints:
        check_format(job.file.format, job.file.bits, sample_rate(checkpoint))
    with hold(folder):
        check_same_config(folder, CONFIG, job, free="songs")
        if again is not None:
            folder.create(ENGINE, commit.record_bytes({"engine": again.engine}))
        pin_sources(folder, sources)
        songs = plan_songs(sources, job.file)
        missing = [song for song in songs if not is_made(workspace, job.name, song.id)]
        _say_checkpoints(console, checkpoints)
        console.print(f"{len(songs) - len(missing)} of {len(songs)} songs are there", highlight=False)
        if not missing:
            show_songs(workspace, job.name, console, run.page)
            return {}
        with EventLog(folder) as log:
            log.add("begin", batch=job.name, songs=len(songs), missing=len(missing))
            meter = SongMeter(job.name, missing, log, measured=run.measures)
            view = View(console, meter.render, meter.line)
            pin = _Pin(folder, view, meter)
            with view.showing(), connect():
                pool = SongPool(
                    workspace,
                    job.name,
                    pin.places(run),
                    gpus=min(1.0, resources().get("GPU", 0.0)),
                    agree=pin.agree,
                    progress=meter.add,
                    tick=view.tick,
                    log=log.add,
                )
                meter.pool = pool
                pool.run(missing)
        if len(pool.failed) < len(songs):
            show_songs(workspace, job.name, console, run.page)
        return pool.failed


def _say_checkpoints(console: Console, checkpoints: list[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        console.print(
            f"checkpoint {checkpoint.trial} at step {checkpoint.step:,} ({checkpoint.bits:.3f} bits, trained for "
            f"{span(checkpoint.seconds)})",
            highlight=False,
            soft_wrap=True,
        )
        for reason in checkpoint.left_out:
            console.print(f"  left out: {reason}", style="red", markup=False, soft_wrap=True)


class _Pin:
    """The batch's engine: samples of two engines do not mix in one batch."""

    def __init__(self, folder: Storage, view: View, meter: SongMeter) -> None:
        self._folder, self._view, self._meter = folder, view, meter
        self._said: set[str] = set()

    def places(self, run: GenerateRun) -> GenerateRun:
        """The run with the places that the batch was begun with, where its samples depend on them."""
        try:
            begun = SLOTS_IN_ID.search(commit.read_record(self._folder, ENGINE)["engine"])
        except FileNotFoundError:
            return run
        return run if run.slots or not begun else run.model_copy(update={"slots": int(begun[1])})

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
