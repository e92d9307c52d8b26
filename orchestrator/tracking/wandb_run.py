"""One trial, or one summary, as one W&B run. The only module of the project that imports wandb.

Nothing of this may run in a process that trains: the shipper owns it. W&B raises whatever its layers raise, without a
common base, so every call goes through `_wandb_errors`, which turns all of it into WandbFailed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import wandb

from orchestrator.pages.spectrogram import spectrogram_png
from orchestrator.tracking.group import Group
from orchestrator.tracking.history import CLIPS_MAX, HistoryRow, axes, caption, dotted, run_id
from orchestrator.tracking.summary import Reference, Summary
from orchestrator.trials import ClipSet, TrialView
from samplernn import commit
from samplernn.errors import BadAudio, Damaged, SampleRNNError
from samplernn.flac import decode_flac

INIT_TIMEOUT_S = 20.0
FINISH_TIMEOUT_S = 30.0
SLOWEST_UPLOAD = 100_000
"""Bytes a second: an album of 500 MB may take an hour and a half."""


class WandbFailed(SampleRNNError):
    """W&B is not reachable, refuses, or gave up; the metrics are safe in the workspace."""


@dataclass(frozen=True)
class RunPlace:
    """What all runs of a group share."""

    group: Group
    dataset: str
    project: str
    """'project' or 'entity/project'."""
    mode: Literal["online", "offline"]
    folder: Path
    """Runs are written to folder/wandb/."""
    token: str = ""
    """Told apart by it: sweeps of the same name in different workspaces."""
    varied: tuple[str, ...] = ()
    """Dotted names of what the sweep tries, which panels are drawn over."""


class TrialRun:
    """An open W&B run; resumed when the server already has one of this id."""

    def __init__(self, place: RunPlace, trial: TrialView) -> None:
        self._trial = trial
        config = {**dotted(trial.experiment.model_dump(mode="json")), "trial": trial.name}
        config |= {axis: config[name] for axis, name in axes(place.varied).items() if name in config}
        with _wandb_errors():
            self._run = _init(place, "train", trial.name, trial.name, config)
            self._run.define_metric("step", hidden=True)
            self._run.define_metric("*", step_metric="step")

    @property
    def shipped_step(self) -> int:
        """The last step that the server already had when the run was opened, -1 when none (always -1 offline)."""
        return int(self._run.starting_step) - 1

    @property
    def folder(self) -> Path:
        """The run's own folder on this machine."""
        return Path(self._run.settings.sync_dir)

    @property
    def project_url(self) -> str:
        """Where a person sees the project; empty offline."""
        return str(self._run.project_url or "")

    def log(self, row: HistoryRow) -> None:
        """Send one row with its clips and their pictures. Clips that were pruned or damaged meanwhile are left out."""
        with _wandb_errors(), tempfile.TemporaryDirectory() as scratch:
            media = _media(self._trial.name, row.clips, Path(scratch)) if row.clips else {}
            self._run.log(row.values, step=row.step)
            if media:  # apart, so that W&B names the files after this step; both calls make one row
                self._run.log(media, step=row.step)

    def upload_again(self, clips: Iterable[ClipSet]) -> None:
        """Upload the files of clips whose rows the server has: a killed shipper may not have got so far.

        They get the names that their rows hold, so what was there already is only replaced by itself.
        """
        for clip in clips:
            with _wandb_errors(), tempfile.TemporaryDirectory() as scratch:
                for key, media in _media(self._trial.name, clip, Path(scratch)).items():
                    media.bind_to_run(self._run, key, clip.step)

    def close(self, trial: TrialView, ended: bool) -> None:
        """Wait until everything has arrived. Raises WandbFailed when it has not within FINISH_TIMEOUT_S.

        A trial that has not ended is marked as preempted: a later session goes on with the same run.
        """
        with _wandb_errors():
            self._run.summary.update({"state": trial.state, "reason": trial.reason})
            if trial.best is not None:
                self._run.summary.update({"best_step": trial.best[0], "best_valid_bits": trial.best[1]})
            if not ended:
                self._run.mark_preempting()
            self._run.finish(exit_code=0 if ended and trial.state != "failed" else 1)


def send_summary(place: RunPlace, summary: Summary) -> tuple[Path, str]:
    """Write a summary as a run, or onto the one that the server has; returns its folder here and the project's URL.

    Raises WandbFailed when it has not all arrived within FINISH_TIMEOUT_S and what SLOWEST_UPLOAD needs for its sounds.
    """
    with _wandb_errors(), tempfile.TemporaryDirectory() as scratch:
        sounds = _sounds(summary, Path(scratch))
        size = sum(path.stat().st_size for path in Path(scratch).iterdir())
        finish_s = FINISH_TIMEOUT_S + size / SLOWEST_UPLOAD
        run = _init(place, summary.job_type, summary.key, summary.name, {}, finish_s)
        for name, sheet in summary.tables.items():
            table = wandb.Table(columns=sheet.columns, data=sheet.rows, allow_mixed_types=True)
            run.log({name: table}, commit=False)
        run.log({**summary.figures, **sounds})
        for reference in summary.references:
            run.log_artifact(_artifact(reference), aliases=list(reference.aliases))
        run.finish(exit_code=0)
        return Path(run.settings.sync_dir), str(run.project_url or "")


def _artifact(reference: Reference) -> wandb.Artifact:
    """An artifact of addresses alone: W&B's own way to add one in a bucket wants that store's client and a login there.

    Other content at the same addresses is another version, by the hash that the metadata has.
    """
    from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

    artifact = wandb.Artifact(reference.name, reference.kind, metadata=reference.metadata)
    for name, address in reference.files.items():
        digest = f"{address}#{reference.metadata['sha256']}"
        artifact.manifest.add_entry(ArtifactManifestEntry(path=name, ref=address, digest=digest))
    return artifact


def abandon_all() -> None:
    """Drop every open run and W&B's own process; the next run starts afresh."""
    with suppress(WandbFailed), _wandb_errors():
        wandb.teardown()


def _init(
    place: RunPlace,
    job_type: str,
    key: str,
    name: str,
    config: dict[str, Any],
    finish_s: float = FINISH_TIMEOUT_S,
) -> wandb.Run:
    entity, _, project = place.project.rpartition("/")
    return wandb.init(
        entity=entity or None,
        project=project,
        group=place.group.name,
        job_type=job_type,
        id=run_id(place.group.name, key, place.token),
        name=name,
        tags=list(dict.fromkeys([place.group.name[:64], place.dataset[:64]])),
        config={**config, place.group.kind: place.group.name, "dataset": place.dataset},
        resume="allow",
        settings=_settings(place, finish_s),
    )


def _sounds(summary: Summary, scratch: Path) -> dict[str, wandb.Audio]:
    media = {}
    for number, (key, sound) in enumerate(summary.sounds.items()):
        path = scratch / f"{number}.flac"
        try:
            path.write_bytes(sound.read())
        except (FileNotFoundError, Damaged):
            continue
        media[key] = wandb.Audio(str(path), caption=sound.caption)
    return media


def _media(trial: str, clips: ClipSet, scratch: Path) -> dict[str, wandb.Audio | wandb.Image]:
    """The clips of a checkpoint and the picture of each, under keys that are the same at every checkpoint."""
    media: dict[str, wandb.Audio | wandb.Image] = {}
    for index in range(CLIPS_MAX):
        name = f"clip-{index}.flac"
        try:
            data = commit.read_file(clips.folder, name)
            pcm, rate = decode_flac(data)
        except (KeyError, FileNotFoundError, Damaged, BadAudio):
            continue
        told = caption(trial, clips, index)
        sound, picture = scratch / name, scratch / f"spectrogram-{index}.png"
        sound.write_bytes(data)
        picture.write_bytes(spectrogram_png(pcm, rate))
        media[f"clip/{index}"] = wandb.Audio(str(sound), caption=told)
        media[f"spectrogram/{index}"] = wandb.Image(str(picture), caption=told)
    return media


def _settings(place: RunPlace, finish_s: float) -> wandb.Settings:
    """Only what we log goes out: no console, code, git state, package list, host data or system statistics."""
    return wandb.Settings(
        mode=place.mode,
        root_dir=str(place.folder),
        use_dot_wandb=False,
        symlink=False,
        reinit="create_new",
        console="off",
        silent=True,
        quiet=True,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        host="",
        program="orchestrator",
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        init_timeout=INIT_TIMEOUT_S,
        login_timeout=INIT_TIMEOUT_S,
        finish_timeout=finish_s,
        finish_timeout_raises=True,
    )


@contextmanager
def _wandb_errors() -> Iterator[None]:
    try:
        yield
    except SampleRNNError:
        raise
    except Exception as error:
        raise WandbFailed(f"{type(error).__name__}: {error}") from error
