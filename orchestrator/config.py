"""What a person writes: one frozen class a verb; the instrument's own configs are nested, never copied."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from orchestrator.space import Space, in_order
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
    """Folder of audio files, nested folders are searched; or a file, or a pattern (music/*.flac); also s3://... and
    gs://..."""
    sample_rate: Annotated[int, Field(ge=4000, le=192_000)] = 16_000
    """Sample rate of the dataset in Hz; 16,000 and 32,000 are the reference's."""
    mono: Literal["mean", "left", "right", "mid", "side"] = "mean"
    """How channels become one: the mean of all; the first or second; half the sum or difference of these two."""
    clean: Clean = Clean()
    """Cleaning, each step optional and told in the report."""
    features: tuple[Literal["onset"], ...] = ()
    """Conditioning features to be measured in the same pass and kept beside the audio; a model that is conditioned on
    one that is not kept measures it whenever it is trained."""
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


class Tracking(Frozen):
    """Weights & Biases; the trials' own metric files are always written."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """auto is online when this machine is logged in; otherwise a sweep writes offline runs, the other verbs nothing."""
    project: str = "samplernn"
    """The W&B project."""


class Making(Frozen):
    """How a dataset or an album is made: nothing here changes what comes out."""

    tracking: Tracking = Tracking()
    """Dashboards; what isn't said of an album's is as the sweep's last run had it."""


class IngestFile(IngestConfig):
    """What the command line of `ingest` may say: the dataset, and how it is made."""

    run: Making = Making()
    """How it is executed."""

    @property
    def dataset(self) -> IngestConfig:
        """The dataset alone."""
        return IngestConfig.model_validate(self.model_dump(exclude={"run"}, exclude_unset=True))


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


class Budget(Frozen):
    """What a sweep may use, over all its runs together. When one of these is used up no new trial starts, and running
    ones commit at their next step and end; a larger budget and the same command go on."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Training steps of all trials together."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Time that the sweep runs, in seconds."""
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours of GPUs that trials hold; a trial on a quarter of one counts a quarter."""
    money: Annotated[float, Field(gt=0)] | None = None
    """The same at gpu_hour_price, in whatever currency that is."""
    gpu_hour_price: Annotated[float, Field(gt=0)] | None = None
    """Price of one GPU for one hour."""

    @model_validator(mode="after")
    def _check(self) -> Budget:
        if self.money is not None and self.gpu_hour_price is None:
            raise ValueError(
                "money is counted in GPU-hours at a price; set budget.gpu_hour_price, or limit budget.gpu_hours"
            )
        return self


class Retention(Frozen):
    """Which checkpoints of a trial are kept; picked ones and all clips always are."""

    best: Annotated[int, Field(ge=1)] | None = 3
    """So many models with the fewest validation bits; null keeps every one."""
    newest: Annotated[int, Field(ge=1)] = 2
    """So many of the newest models."""
    every: Annotated[int, Field(ge=1)] | None = None
    """Models at multiples of so many steps; null keeps none for that."""


class SweepConfig(Frozen):
    """What identifies a sweep: trials over a space of hyperparameters."""

    name: str
    """Name of the sweep."""
    dataset: str
    """Name of an ingested dataset."""
    base: Experiment = Experiment()
    """What all trials share."""
    space: Space = {}
    """Dotted names under base, each with the values to try: {model.dim: [256, 512]}; or with a range:
    {train.learning_rate: {loguniform: [1e-4, 1e-2]}}, also uniform and int. See orchestrator/space.py."""
    search: Literal["grid", "random", "tpe"] = "grid"
    """grid tries every combination; random draws num_samples without repetition; tpe suggests num_samples one after the
    other from what the earlier ones came to (Optuna's tree-structured Parzen estimator)."""
    num_samples: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Trials that random search draws, or that tpe suggests."""
    metric: Literal["valid_bits"] = "valid_bits"
    """What is minimised: bits a sample on held-out audio, which every checkpoint reports."""
    schedule: Schedule = Schedule()
    """Early stopping."""

    @model_validator(mode="after")
    def _check(self) -> SweepConfig:
        in_order(self.space)
        if (self.search == "grid") != (self.num_samples is None):
            raise ValueError("num_samples belongs to search: random or tpe, which need it")
        if self.search != "grid" and not self.space:
            raise ValueError(
                f"search: {self.search} has nothing to search: space is empty; name settings there"
            )
        for name, dimension in self.space.items():
            if self.search == "grid" and (dimension.values is None or dimension.log):
                raise ValueError(
                    f"space.{name} is a range without single values, and a grid tries every one; list values, give "
                    "{int: [lowest, highest], step: ...}, or use search: random"
                )
            if self.search == "tpe" and dimension.grid is not None:
                raise ValueError(
                    f"space.{name} is a grid, and tpe chooses what to try; write choice: instead, or use search: random"
                )
        if self.schedule.type == "asha" and self.space and self.schedule.grace_steps > self.longest:
            raise ValueError(
                f"schedule.grace_steps {self.schedule.grace_steps} is above train.max_steps {self.longest}: "
                "no trial could ever be stopped; lower it or set schedule.type=none"
            )
        return self

    @property
    def longest(self) -> int:
        """The most steps that a trial may take."""
        varied = self.space.get("train.max_steps")
        values = [] if varied is None else list(varied.span or varied.values or [])
        return int(max([*(v for v in values if isinstance(v, int | float)), self.base.train.max_steps]))


class SweepRun(Frozen):
    """How a sweep is executed: nothing here changes what comes out."""

    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    """At most so many trials at once; null is as many as fit."""
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Times that a trial whose worker died is started again from its last checkpoint."""
    patience: Annotated[float, Field(gt=0)] = 900.0
    """Seconds without a sign of progress after which a trial's worker is killed and started again."""
    free_disk_gb: Annotated[float, Field(ge=0)] = 2.0
    """Free space in GB below which trials pause, where the workspace is a folder; before anything breaks."""
    tracking: Tracking = Tracking()
    """Dashboards."""


class SweepFile(SweepConfig):
    """`sweep FILE.yaml` and `train`: what their YAML and command line may say. The sweep itself, and beside it what may
    change from run to run."""

    resources: Resources = Resources()
    """What one trial takes."""
    budget: Budget = Budget()
    """What the sweep may use."""
    retention: Retention = Retention()
    """Which checkpoints are kept."""
    run: SweepRun = SweepRun()
    """How it is executed."""

    @property
    def sweep(self) -> SweepConfig:
        """The sweep alone."""
        return SweepConfig.model_validate(
            self.model_dump(include=set(SweepConfig.model_fields), exclude_unset=True)
        )


class GenerateRun(Frozen):
    """How songs are made. What changes their samples is pinned when a batch begins: backend, precision, slots."""

    actors: Annotated[int, Field(ge=1)] | None = None
    """Workers, each with a model of its own; null is one a GPU, or a CPU core. More wait until the cluster grows."""
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Times that a song whose worker died is tried again."""
    backend: Literal["auto", "native", "torch", "cuda"] = "auto"
    """auto is CUDA's on a GPU, else the native kernel, else portable PyTorch."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """Of the model's weights; int8 is the native kernel's."""
    slots: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Songs that a worker makes side by side; null is 32 for native, 8 for torch, 128 for cuda."""
    commit_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds of a song between two commits of what is made of it: a killed worker's songs go on from there. A slow
    model's are committed every two minutes."""
    patience: Annotated[float, Field(gt=0)] = 300.0
    """Seconds without a sign of progress after which a worker is killed and replaced."""
    measures: bool = True
    """Whether every song is measured when it is whole, and compared with the music of its training."""
    page: bool = True
    """Whether a page with a ranking and a picture of every song is written at the end."""
    tracking: Tracking = Tracking()
    """Dashboards; what isn't said is as the sweep's last run had it."""


class SongAudio(Frozen):
    """What file each song becomes."""

    format: str = "flac"
    """flac alone; or another that soundfile writes (wav, aiff, mp3, ogg, opus ...), beside the FLAC that albums and the
    listening room read."""
    bits: Literal[16, 24] = 16
    """Bits a sample: a song has 16, 24 are for programs that want them."""


AS_FLAC = SongAudio()


class SongSection(Frozen):
    """Songs from one checkpoint, or as many from each of several."""

    sweep: str
    """The sweep to take the checkpoint from."""
    trial: str | None = None
    """The trial, or its number; null is the one with the best validation bits."""
    step: int | None = None
    """The checkpoint's step; null is the trial's best."""
    picks: Literal[True] | str | None = None
    """true makes songs from every checkpoint that any listener picked, a listener's name from that listener's picks; as
    they are when the batch begins."""
    temperatures: Annotated[list[float | str], Field(min_length=1)] | None = None
    """Several temperatures or schedules: every song is made at each. null is generate.temperature alone."""
    generate: GenerateConfig = GenerateConfig()
    """What to draw."""

    @model_validator(mode="after")
    def _check_section(self) -> SongSection:
        if self.picks is not None and (self.trial, self.step) != (None, None):
            raise ValueError(
                "picks says which trials and steps; leave trial and step out, or leave picks out"
            )
        for temperature in self.temperatures or ():
            GenerateConfig(temperature=temperature)
        if self.temperatures and len(set(map(str, self.temperatures))) < len(self.temperatures):
            raise ValueError(f"temperatures {self.temperatures}: one is there twice; keep one")
        return self


class GenerateJob(SongSection):
    """`generate SWEEP`: a batch of songs."""

    name: str
    """Name of the batch of songs."""
    sections: Annotated[list[SongSection], Field(min_length=1)] | None = None
    """Parts of the batch with settings of their own, {sweep, trial, step, picks, temperatures, generate: {...}}; the
    settings beside it are then not used. null makes one part of them."""
    file: SongAudio = AS_FLAC
    """What file each song becomes."""

    @property
    def parts(self) -> list[SongSection]:
        """The sections, one at least."""
        return self.sections or [self]


class GenerateFile(GenerateJob):
    """What a YAML and a command line of songs may say: the songs, and how they are made."""

    run: GenerateRun = GenerateRun()
    """How they are made: may change from run to run."""

    @property
    def job(self) -> GenerateJob:
        """The songs alone."""
        return GenerateJob.model_validate(self.model_dump(exclude={"run"}, exclude_unset=True))


class AuditionConfig(Frozen):
    """`audition SWEEP`: where the listening room is opened."""

    host: str = "127.0.0.1"
    """Address to listen on; beyond this machine (0.0.0.0 is everywhere) a token is asked for."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8765
    """Port; 0 is any free one."""
    listener: str | None = None
    """Whose marks are kept until the page says otherwise; null is this account's name."""


class PickConfig(Frozen):
    """`pick SWEEP`: the checkpoints that listeners picked."""

    trial: str | None = None
    """The trial, or its number; with a step it is picked, without any the picks are listed."""
    step: Annotated[int, Field(ge=0)] | None = None
    """The checkpoint's step."""
    listener: str | None = None
    """Whose pick it is; null is this account's name."""


class RollbackConfig(Frozen):
    """`rollback SWEEP trial=... step=...`: a trial goes on from an earlier checkpoint."""

    trial: str
    """The trial, or its number."""
    step: Annotated[int, Field(ge=0)]
    """The checkpoint's step; what came after it no longer counts."""


class AlbumTrack(Frozen):
    """A song, or a region of one."""

    song: str
    """Id of the song in its batch."""
    batch: str | None = None
    """The batch of songs it is in; null is the album's."""
    start: Annotated[float, Field(ge=0)] = 0.0
    """Where the track begins in the song, in seconds."""
    stop: Annotated[float, Field(gt=0)] | None = None
    """Where it ends, in seconds; null is the song's end."""
    title: str | None = None
    """Its title; null makes one."""
    fade_in: Annotated[float, Field(ge=0, le=60)] | None = None
    """Seconds of fading in; null is 0.01 where the track begins inside the song, else none: no click."""
    fade_out: Annotated[float, Field(ge=0, le=60)] | None = None
    """Seconds of fading out; null as for fade_in."""

    @model_validator(mode="before")
    @classmethod
    def _from_id(cls, value: Any) -> Any:
        return {"song": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> AlbumTrack:
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(
                f"stop {self.stop:g} s is not after start {self.start:g} s; swap or correct them"
            )
        return self


class AlbumConfig(Frozen):
    """`album NAME`: songs in order, mastered, with pictures, a cover, a cue sheet and one page."""

    name: str
    """Name of the album."""
    songs: str
    """The batch of songs to take."""
    title: str | None = None
    """Title of the album; null is the name."""
    artist: str = "SampleRNN"
    """Who made it, for the tags."""
    tracklist: Annotated[list[AlbumTrack], Field(min_length=1)] | None = None
    """Tracks in order: song ids, or regions {song, start, stop, title, fade_in, fade_out}; null takes all songs."""
    titles: str | None = None
    """A text file with a title a line: new titles are made in their manner; null makes them of two words."""
    crossfade: Annotated[float, Field(ge=0, le=30)] = 0.0
    """Seconds that each track overlaps the next; 0 puts them end to end."""
    loudness: Annotated[float, Field(ge=-40, le=-5)] | None = None
    """Loudness of every track in LUFS (streaming services play at about -14); null leaves levels as they were made."""
    ceiling: Annotated[float, Field(ge=-20, le=0)] = -1.0
    """Highest true peak in dBTP where loudness is set: a limiter holds it."""
    bits: Literal[16, 24] = 16
    """Bits a sample of the tracks."""
    cover: str | None = None
    """A picture for the cover; null draws one from the album's own sound."""
    archive: bool = True
    """Whether all of it is also packed into album.zip."""


class AlbumFile(AlbumConfig):
    """What a YAML and a command line of an album may say: the album, and how it is made."""

    run: Making = Making()
    """How it is executed."""

    @property
    def album(self) -> AlbumConfig:
        """The album alone."""
        return AlbumConfig.model_validate(self.model_dump(exclude={"run"}, exclude_unset=True))
