"""What a person writes: one frozen class a verb; the instrument's own configs are nested, never copied."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from samplernn.config import Experiment, Frozen, GenerateConfig


class Clean(Frozen):
    """What is done to each track before it is kept; nothing by default."""

    trim_silence: bool = False
    """Leave out the silence at a track's two ends."""
    skip_silence: Annotated[float, Field(gt=0, le=3600)] | None = None
    """Leave out silence that lasts at least so many seconds; null keeps it."""
    silence_dbfs: Annotated[float, Field(ge=-120, lt=0)] = -60.0
    """Level in dB of full scale below which a frame of 1,024 samples is silent."""
    skip_clipped: bool = False
    """Leave out passages in which any channel is clipped."""
    remove_dc: bool = False
    """Subtract each track's mean."""
    level: Literal["peak", "lufs"] | None = None
    """Bring every track to the same peak, or to the same loudness (BS.1770, with pyloudnorm); null keeps levels."""
    level_to: Annotated[float, Field(ge=-70, le=0)] | None = None
    """That peak in dB of full scale, or loudness in LUFS; null is -1 and -16. For its loudness no track's peak is
    raised above -1 dB."""


class IngestConfig(Frozen):
    """`ingest FOLDER`: a folder of audio into a dataset."""

    name: str
    """Name of the dataset."""
    source: str
    """Folder of audio files, nested folders are searched; or a pattern (music/*.flac), or s3://..., gs://..."""
    sample_rate: Annotated[int, Field(ge=4000, le=192_000)] = 16_000
    """Sample rate of the dataset in Hz; 16,000 and 32,000 are the reference's."""
    mono: Literal["mean", "left", "right", "mid", "side"] = "mean"
    """How channels become one: the mean of all; the first or second; half the sum or difference of these two."""
    clean: Clean = Clean()
    """Cleaning, each step optional and told in the report."""
    split_by: Literal["time", "track"] = "time"
    """Hold out a block of each track, or whole tracks."""
    valid: Annotated[float, Field(gt=0, lt=0.5)] = 0.06
    """Share held out for validation."""
    test: Annotated[float, Field(gt=0, lt=0.5)] = 0.06
    """Share held out for the test."""
    guard_seconds: Annotated[float, Field(ge=0, le=60)] = 0.25
    """Audio dropped between two splits of a track, in seconds, so that no filter or reverb tail crosses."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 123
    """Places the held-out block in each track, or chooses the tracks."""
    max_bad: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the audio files that may be unusable; above it the ingest is refused."""
    license: str = "unknown"
    """Licence of the audio, kept in the dataset's card."""


class ExportConfig(Frozen):
    """`ingest --export NAME`: a dataset's chunks as .npy files, as the original's datasets are."""

    chunk_seconds: Annotated[float, Field(gt=0, le=3600)] = 8.0
    """Length of a chunk in seconds; shorter ones are left out."""
    num_chunks: Annotated[int, Field(ge=1)] = 3200
    """Chunks in all, given to the splits by their length, evenly spaced in each."""
    dtype: Literal["float16", "float32", "int16"] = "float16"
    """float16 is the original's; a float file holds samples in [-1, 1]."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 123
    """Shuffles the chunks of each file."""


class Schedule(Frozen):
    """When a trial is stopped early."""

    type: Literal["none", "asha"] = "asha"
    """asha is asynchronous successive halving (arXiv 1810.05934) on the validation bits."""
    grace_steps: Annotated[int, Field(ge=1)] = 1000
    """No trial is stopped before this step."""
    reduction_factor: Annotated[float, Field(gt=1, le=16)] = 3
    """At each rung the best 1/reduction_factor go on."""


class Resources(Frozen):
    """What one trial takes."""

    gpus: Annotated[float, Field(ge=0, le=1)] | None = None
    """GPUs a trial: null takes one where the cluster has any and none otherwise; 0.25 lets four share one."""
    cpus: Annotated[float, Field(gt=0)] | None = None
    """CPU cores a trial; null is 1."""


class Tracking(Frozen):
    """Weights & Biases; the trials' own metric files are always written."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """auto is online when this machine is logged in, offline otherwise."""
    project: str = "samplernn"
    """The W&B project."""


class SweepConfig(Frozen):
    """`sweep FILE.yaml` and `train`: trials over a space of hyperparameters."""

    name: str
    """Name of the sweep."""
    dataset: str
    """Name of an ingested dataset."""
    base: Experiment = Experiment()
    """What all trials share."""
    space: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    """Dotted names under base, each with the values to try: {model.dim: [256, 512]}."""
    search: Literal["grid", "random"] = "grid"
    """grid tries every combination; random draws num_samples of them without repetition."""
    num_samples: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Trials that random search draws."""
    schedule: Schedule = Schedule()
    """Early stopping."""
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Times that a trial whose worker died is started again from its last checkpoint."""

    @model_validator(mode="after")
    def _check(self) -> SweepConfig:
        for name, values in self.space.items():
            texts = [json.dumps(value) for value in values]
            twice = [text for at, text in enumerate(texts) if text in texts[:at]]
            if twice:
                raise ValueError(
                    f"space.{name} has {twice[0]} twice: that trial would be trained twice; keep one"
                )
        if (self.search == "random") != (self.num_samples is not None):
            raise ValueError("num_samples belongs to search: random, which needs it")
        if (
            self.schedule.type == "asha"
            and self.space
            and self.schedule.grace_steps > self.base.train.max_steps
        ):
            raise ValueError(
                f"schedule.grace_steps {self.schedule.grace_steps} is above train.max_steps "
                f"{self.base.train.max_steps}: no trial could ever be stopped; lower it or set schedule.type=none"
            )
        return self


class SweepRun(Frozen):
    """How a sweep is executed: nothing here changes what comes out."""

    resources: Resources = Resources()
    """What one trial takes."""
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    """At most so many trials at once; null is as many as fit."""
    tracking: Tracking = Tracking()
    """Dashboards."""


class SweepFile(SweepConfig):
    """What a sweep's YAML and command line may say: the sweep, and how it is executed."""

    run: SweepRun = SweepRun()
    """How it is executed: may change from run to run."""

    @property
    def sweep(self) -> SweepConfig:
        """The sweep alone."""
        return SweepConfig.model_validate(self.model_dump(exclude={"run"}, exclude_unset=True))


class GenerateRun(Frozen):
    """How songs are made: nothing here changes a sample."""

    actors: Annotated[int, Field(ge=1)] | None = None
    """Workers, each with a model of its own; null is one a GPU, or one a CPU core."""
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Times that a song whose worker died is tried again."""


class GenerateJob(Frozen):
    """`generate SWEEP`: songs from one checkpoint."""

    name: str
    """Name of the batch of songs."""
    sweep: str
    """The sweep to take the checkpoint from."""
    trial: str | None = None
    """The trial; null is the one with the best validation bits."""
    step: int | None = None
    """The checkpoint's step; null is the trial's best."""
    generate: GenerateConfig = GenerateConfig()
    """What to draw."""


class GenerateFile(GenerateJob):
    """What a YAML and a command line of songs may say: the songs, and how they are made."""

    run: GenerateRun = GenerateRun()
    """How they are made: may change from run to run."""

    @property
    def job(self) -> GenerateJob:
        """The songs alone."""
        return GenerateJob.model_validate(self.model_dump(exclude={"run"}, exclude_unset=True))


class AlbumConfig(Frozen):
    """`album NAME`: songs, pictures and one page."""

    name: str
    """Name of the album."""
    songs: str
    """The batch of songs to take."""
    title: str | None = None
    """Title on the page; null is the name."""
    tracks: list[str] | None = None
    """Song ids in order; null takes all of the batch."""
