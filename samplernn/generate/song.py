"""What a song is asked to be, and what is told of it while it is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from samplernn.config import TEMPERATURE_MAX
from samplernn.errors import BadInput
from samplernn.folding import FoldedModel
from samplernn.generate.backend import Codes, FloatArray
from samplernn.schedule import Schedule
from samplernn.traps import Trap

MAX_SECONDS = 86_400
COLDEST = 1e-3
"""Below this temperature the most likely sample is taken."""

Start = Literal["model", "zeros", "random"]
OnTrap = Literal["keep", "restart"]

SongState = dict[str, npt.NDArray[np.generic]]
"""A song in the middle, as named arrays (a safetensors file holds them as they are): `at` and `take` int64 [],
`traps` int64 [n, 3], `engine` the engine id's bytes, `slot.*` the backend's state and `watch.*` the judge's."""


@dataclass(frozen=True)
class Song:
    """What to draw: with the checkpoint and the engine id, all that its samples depend on."""

    seed: int
    """Seed of the batch of songs."""
    index: int
    """Number of the song in its batch: it draws from the stream (seed, index)."""
    samples: int
    """Length in samples of what comes out."""
    temperature: float | Schedule = 1.0
    """1 draws from the model's distribution, 0 takes the most likely sample; or points over the song's seconds."""
    top_k: int = 0
    """Draw among the k most likely levels; 0 is all of them."""
    top_p: float = 1.0
    """Draw among the fewest levels that hold this probability together, of what top_k left."""
    h0: Start = "model"
    """The RNNs' start: the model's own (learned, or zeros), zeros, or uniform in [-0.5, 0.5)."""
    prompt: Codes | None = None
    """Codes [n] that the song goes on from: at least one frame of the largest size."""
    heard: bool = True
    """Whether the prompt is the beginning of what comes out."""
    features: FloatArray | None = None
    """Conditioning of the top tier's frames [frames, features], from the prompt's first; the last one stays."""
    on_trap: OnTrap = "keep"
    """restart begins the song anew from a stream derived from its own when it falls into a trap."""
    max_restarts: int = 3
    """Times that it is begun anew; then it is kept as it comes."""
    state: SongState | None = None
    """Where the song goes on, from `Block.save`; None begins it."""

    @property
    def lead(self) -> int:
        """Samples of the prompt."""
        return 0 if self.prompt is None else len(self.prompt)

    @property
    def skipped(self) -> int:
        """Samples made that don't come out."""
        return 0 if self.heard else self.lead

    @property
    def schedule(self) -> Schedule:
        """The temperature as points."""
        return (
            ((0.0, float(self.temperature)),)
            if isinstance(self.temperature, int | float)
            else self.temperature
        )

    def check(self, model: FoldedModel, sample_rate: int) -> None:
        """Raise BadInput for what can't be drawn from this model."""
        config = model.config
        if not 1 <= self.samples <= MAX_SECONDS * sample_rate:
            raise BadInput(
                f"a song of {self.samples:,} samples is {self.samples / sample_rate:,.0f} s; "
                f"it lasts from one sample to {MAX_SECONDS // 3600} hours"
            )
        values = [value for _, value in self.schedule]
        if not values or not all(math.isfinite(v) and 0 <= v <= TEMPERATURE_MAX for v in values):
            raise BadInput(f"temperature {self.temperature}: a number from 0 to {TEMPERATURE_MAX:g} is one")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise BadInput(
                f"top_k {self.top_k}, top_p {self.top_p}: top_k >= 0 and 0 < top_p <= 1 draw something"
            )
        if self.prompt is not None:
            self._check_prompt(self.prompt, config.context, config.q_levels)
        shape = None if self.features is None else self.features.shape
        if model.features and (
            shape is None or len(shape) != 2 or not shape[0] or shape[1] != model.features
        ):
            raise BadInput(
                f"this model is conditioned: it needs features [frames, {model.features}] and has {shape}"
            )
        if self.features is not None and not model.features:
            raise BadInput("this model was trained without features; leave them out")

    def _check_prompt(self, prompt: Codes, context: int, q_levels: int) -> None:
        if len(prompt) < context:
            raise BadInput(
                f"a prompt of {len(prompt)} samples is shorter than the model's frame of {context}; take more of it"
            )
        if self.heard and len(prompt) >= self.samples:
            raise BadInput(
                f"the prompt's {len(prompt):,} samples leave nothing of the song's {self.samples:,} to draw; "
                "ask for a longer song, or leave the prompt out of it"
            )
        if prompt.min() < 0 or prompt.max() >= q_levels:
            raise BadInput(f"a prompt's codes lie in [0, {q_levels}); encode it with the model's quantiser")


@dataclass(frozen=True)
class Caught:
    """A trap of a song."""

    trap: Trap
    """start counts from the first sample that comes out."""
    take: int
    """0 is the song's first take; each restart begins another."""


@dataclass(frozen=True)
class Made:
    """A whole song."""

    pcm: npt.NDArray[np.int16]
    take: int
    """Times that the song was begun anew."""
    traps: tuple[Caught, ...]
    """All traps, those of earlier takes too."""


@dataclass(frozen=True)
class Block:
    """A piece of one song; a song's blocks come in order. One that starts at 0 voids what came before it."""

    song: int
    """Position among the songs that were given to `generate`."""
    start: int
    """First sample of this block in what comes out."""
    pcm: npt.NDArray[np.int16]
    last: bool
    """Whether the song ends here."""
    take: int
    """Times that the song was begun anew."""
    traps: tuple[Caught, ...]
    """All traps so far, those of earlier takes too."""
    save: Callable[[], SongState]
    """The song's state behind this block, to go on from; ask before the next block is taken."""
    leave: Callable[[], None]
    """Make no more of this song; its place falls free. To be called before the next block is taken."""
