"""What identifies a model, its training and its songs: frozen, validated, without torch.

Names are the reference's flags where the meaning is the same (see the table in README.md). Units are in
the field docstrings; `null` in YAML is None here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from samplernn.schedule import parse_schedule

Q_LEVELS_MAX = 1024
TEMPERATURE_MAX = 10.0


class Frozen(BaseModel):
    """Base of every config: immutable, unknown keys refused, docstrings become help texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class ModelConfig(Frozen):
    """SampleRNN (arXiv 1612.07837) as Dadabots trained it (arXiv 1811.06633). Defaults: their best settings."""

    frame_sizes: Annotated[tuple[int, ...], Field(min_length=1, max_length=8)] = (16,)
    """Samples a frame, one entry a tier, lowest first: [16] is two-tier, [2, 8] and [16, 64] are three-tier.
    The sample tier sees the frame_sizes[0] samples before the one it predicts."""
    dim: Annotated[int, Field(ge=1, le=16_384)] = 1024
    """Width of every RNN layer and of the sample tier's layers."""
    n_rnn: Annotated[int, Field(ge=1, le=64)] = 5
    """RNN layers in each frame tier."""
    rnn_type: Literal["LSTM", "GRU", "GRU-torch"] = "LSTM"
    """GRU is the reference's (the reset gate is applied before the recurrent matrix); GRU-torch is torch.nn.GRU."""
    skip_conn: bool = True
    """Graves' skip connections (arXiv 1308.0850): upper layers also see the tier's input, and all layers are summed
    into its output. Needs n_rnn >= 2."""
    weight_norm: bool = True
    """Weight normalisation (arXiv 1602.07868) of every matrix but the embedding."""
    learn_h0: bool = False
    """Learn the RNNs' state at the start of a chunk; zeros otherwise."""
    random_h0: bool = False
    """Start each training chunk from states drawn from [-0.5, 0.5), as the original's clips were meant to start."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every RNN layer's outputs that the next layer does not see while training."""
    features: tuple[Literal["onset"], ...] = ()
    """Local conditioning, measured from the audio itself and fed to the top tier: onset is the onset strength."""
    emb_size: Annotated[int, Field(ge=0, le=4096)] = 256
    """Size of the sample embedding; 0 feeds one-hot samples."""
    q_levels: Annotated[int, Field(ge=2)] = 256
    """Number of quantisation levels."""
    q_type: Literal["linear", "mu-law", "a-law"] = "mu-law"
    """Companding law of the quantiser."""

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        for below, above in zip((1, *self.frame_sizes), self.frame_sizes, strict=False):
            if above < 1 or above % below or (below > 1 and above == below):
                raise ValueError(
                    f"frame_sizes {list(self.frame_sizes)}: each must be a larger multiple of the one before it; "
                    "try [16], [2, 8] or [16, 64]"
                )
        if self.q_levels > Q_LEVELS_MAX:
            table = self.frame_sizes[0] * self.q_levels * self.dim * 4 / 2**20
            raise ValueError(
                f"q_levels {self.q_levels} is above {Q_LEVELS_MAX}: its table alone would take {table:,.0f} MiB; "
                f"use {Q_LEVELS_MAX} or fewer"
            )
        if self.skip_conn and self.n_rnn == 1:
            raise ValueError(
                "skip_conn needs n_rnn >= 2 and n_rnn is 1; set model.skip_conn=false or add a layer"
            )
        if self.learn_h0 and self.random_h0:
            raise ValueError("learn_h0 and random_h0 both say where a chunk starts; set one of them to false")
        if len(set(self.features)) < len(self.features):
            raise ValueError(f"features {list(self.features)} names one twice; leave one out")
        return self

    @property
    def context(self) -> int:
        """Samples that precede the first target of a window: the largest frame."""
        return self.frame_sizes[-1]

    @property
    def q_zero(self) -> int:
        """The code of silence."""
        return self.q_levels // 2


class TrainConfig(Frozen):
    """How one trial is trained: truncated backpropagation through time over chunks walked side by side."""

    max_steps: Annotated[int, Field(ge=1)] = 100_000
    """Optimiser steps; one step is one TBPTT window of every chunk in the batch."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    """Chunks walked side by side."""
    seq_len: Annotated[int, Field(ge=1)] | None = None
    """Samples in one TBPTT window. 1,024 when neither this nor n_frames is given."""
    n_frames: Annotated[int, Field(ge=1)] | None = None
    """The same in frames of the largest frame size: give this or seq_len, not both."""
    chunk_seconds: Annotated[float, Field(gt=0, le=3600)] = 8.0
    """Length of a chunk in seconds; the hidden state is carried through a chunk and reset at its start."""
    num_chunks: Annotated[int, Field(ge=1)] | None = 3200
    """Training chunks, evenly spaced and overlapping as needed; null, hop or overlap choose them otherwise."""
    hop: Annotated[float, Field(gt=0, le=3600)] | None = None
    """Seconds from one chunk's start to the next, instead of num_chunks."""
    overlap: Annotated[float, Field(ge=0, le=0.99)] | None = None
    """Share of a chunk that the next one has in common with it, instead of num_chunks; 0 lays them end to end."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Adam's step size."""
    lr_schedule: Literal["constant", "cosine", "exponential"] = "constant"
    """How the step size goes on after `lr_decay_after` steps: cosine falls to 0 at max_steps, exponential halves every
    `lr_half_life` steps."""
    lr_decay_after: Annotated[int, Field(ge=0)] = 0
    """Steps at the full step size before the schedule begins."""
    lr_half_life: Annotated[int, Field(ge=1)] = 10_000
    """Steps in which the exponential schedule halves the step size."""
    optimiser: Literal["adam", "adamw"] = "adam"
    """adamw decays the weights apart from the gradient (arXiv 1711.05101)."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """AdamW's weight decay."""
    grad_clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Bound of the gradient (of a loss in bits); null does not clip."""
    clip_by: Literal["element", "norm"] = "element"
    """What grad_clip bounds: every element, as in the original, or the norm of all gradients together."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Parts the batch is walked in, one after the other, before a step: the same step in less memory."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Of the matrix products; weights, state and loss are float32 in each. tf32 is for GPUs, and fp32 on a CPU."""
    compile: bool = False
    """torch.compile the step on a GPU. A CPU has its own passes, and is not changed by this."""
    diverge_after: Annotated[int, Field(ge=1)] | None = None
    """From this step on a checkpoint that predicts no better than the samples' histogram ends the run as diverged."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 123
    """Seeds the initial weights and the order of the chunks."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 10_000
    """Steps between checkpoints; each evaluates, commits the model and its state, and makes clips."""
    log_every: Annotated[int, Field(ge=1)] = 100
    """Steps between two rows of training metrics."""
    eval_seconds: Annotated[float, Field(gt=0)] | None = 60.0
    """Held-out audio per evaluation, in seconds, spread evenly over the split; null evaluates all of it."""
    clips: Annotated[int, Field(ge=0, le=100)] = 4
    """Clips generated at each checkpoint."""
    clip_seconds: Annotated[float, Field(gt=0, le=600)] = 8.0
    """Length of a clip in seconds."""

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_chunks(cls, data: Any) -> Any:
        """Where hop or overlap is given, the default number of chunks is not meant."""
        if isinstance(data, dict) and (data.get("hop") is not None or data.get("overlap") is not None):
            return {"num_chunks": None, **data}
        return data

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        given = [name for name in ("num_chunks", "hop", "overlap") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each set where chunks start; give one of them")
        if self.seq_len is not None and self.n_frames is not None:
            raise ValueError("seq_len and n_frames both set the TBPTT window; give one of them")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}; take one of its divisors"
            )
        if self.weight_decay and self.optimiser != "adamw":
            raise ValueError(
                f"weight_decay {self.weight_decay} belongs to optimiser adamw; set train.optimiser=adamw"
            )
        return self

    def chunk_samples(self, sample_rate: int) -> tuple[int, int | None]:
        """Samples of a chunk, and from one chunk's start to the next where hop or overlap sets that."""
        length = max(1, round(self.chunk_seconds * sample_rate))
        if self.hop is not None:
            return length, max(1, round(self.hop * sample_rate))
        return length, None if self.overlap is None else max(1, round(length * (1 - self.overlap)))


class Experiment(Frozen):
    """What identifies a trained model: the same experiment, seed and dataset give the same weights on one machine."""

    model: ModelConfig = ModelConfig()
    """The network."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""

    @model_validator(mode="after")
    def _check(self) -> Experiment:
        if self.seq_len % self.model.context:
            raise ValueError(
                f"seq_len {self.seq_len} is not a multiple of the largest frame size {self.model.context}; "
                f"use {max(1, self.seq_len // self.model.context) * self.model.context}"
            )
        return self

    @property
    def seq_len(self) -> int:
        """Samples in one TBPTT window."""
        if self.train.n_frames is not None:
            return self.train.n_frames * self.model.context
        return self.train.seq_len or 1024


class Prompt(Frozen):
    """A piece of a recording that every song goes on from."""

    path: Annotated[str, Field(min_length=1)]
    """An audio file; it is mixed down and resampled as `ingest` does."""
    offset: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Where the piece begins, in seconds."""
    length: Annotated[float, Field(gt=0, le=3600)] = 4.0
    """How long it is, in seconds; at least one frame of the model's largest size."""
    heard: bool = True
    """Whether it is the beginning of the song; false leaves it out of what comes out."""


class Followed(Frozen):
    """A recording whose features a conditioned model's songs follow."""

    path: Annotated[str, Field(min_length=1)]
    """An audio file, as long as the songs at least; it is mixed down and resampled as `ingest` does."""
    offset: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Where in it the songs begin, in seconds."""


class GenerateConfig(Frozen):
    """What to draw from one checkpoint."""

    songs: Annotated[int, Field(ge=1, le=100_000)] = 8
    """How many songs."""
    first: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Number of the first song."""
    seconds: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Length of each song in seconds."""
    temperature: float | str = 1.0
    """Sampling temperature: 1 draws from the model's distribution, 0 takes the most likely sample; or a schedule over
    the song with straight lines between its points: '0:1.0, 30s:0.9, 2min:1.05'."""
    top_k: Annotated[int, Field(ge=1, le=Q_LEVELS_MAX)] | None = None
    """Draw among the k most likely levels only; null is all of them."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw among the fewest levels that hold this probability together; 1 is all of them."""
    h0: Literal["model", "zeros", "random"] = "model"
    """The RNNs' start: the model's own (learned, or zeros), zeros, or uniform in [-0.5, 0.5)."""
    prompt: Prompt | None = None
    """A piece of a recording that every song goes on from."""
    follow: Followed | None = None
    """A recording whose features the songs follow: what a model with model.features needs, and no other takes."""
    on_trap: Literal["keep", "restart"] = "keep"
    """What is done when a song falls into a loop, silence, noise or DC; restart begins it anew, differently."""
    max_restarts: Annotated[int, Field(ge=1, le=100)] = 3
    """Times that one song is begun anew."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Song i of a batch draws from the random stream (seed, i)."""

    @field_validator("temperature", mode="before")
    @classmethod
    def _check_temperature(cls, value: object) -> object:
        if isinstance(value, str):
            parse_schedule(value, 0, TEMPERATURE_MAX)
        elif (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= TEMPERATURE_MAX
        ):
            raise ValueError(
                f"{value} must be a number from 0 to {TEMPERATURE_MAX:g}, or a schedule such as "
                "'0:1.0, 30s:0.9, 2min:1.05'"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> GenerateConfig:
        if self.prompt is not None and self.prompt.heard and self.prompt.length >= self.seconds:
            raise ValueError(
                f"prompt.length {self.prompt.length:g} s leaves nothing of seconds {self.seconds:g} to draw; "
                "ask for longer songs, or set prompt.heard=false"
            )
        return self
