"""What every generation backend does: hold some songs' states side by side and advance them by whole blocks.

A block's length is a multiple of the largest frame size, so that every state between two blocks stands at the edge of a
frame of every tier. NumPy on the outside; a backend keeps its own arrays wherever it computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int16]
DRAW = -1
"""In `Request.forced`: this sample is drawn."""

SlotState = dict[str, npt.NDArray[np.generic]]
"""All that one song carries from block to block: `history` int16 [context], the last codes, and for each tier k
`rnn.k` float32 [n_rnn, parts, dim] (h, c for LSTM; h for both GRUs)."""


@dataclass(frozen=True)
class Request:
    """What to draw for each slot in one block of n samples; every array's first axis is the slots."""

    active: npt.NDArray[np.bool_]
    """[slots]: a slot that is False holds no song; a backend may skip it, and its codes mean nothing."""
    seed: npt.NDArray[np.uint32]
    """[slots]: with `song` the key of the song's random stream (song_rng.py)."""
    song: npt.NDArray[np.uint32]
    """[slots]"""
    start: npt.NDArray[np.int64]
    """[slots]: number of the block's first sample in its song: the counter of the random stream."""
    temperature: FloatArray
    """[slots, n]: 1 draws from the model's distribution, 0 takes the most likely sample."""
    top_k: npt.NDArray[np.int32]
    """[slots]: draw among the k most likely levels only; 0 is all of them."""
    top_p: FloatArray
    """[slots]: draw among the fewest levels that hold this probability together; 1 is all of them."""
    forced: Codes | None = None
    """[slots, n]: a code that is taken instead of a drawn one (a prompt), or DRAW; None draws everything."""
    features: FloatArray | None = None
    """[slots, n / context, features]: conditioning of the top tier's frames; None for a model without."""

    @property
    def samples(self) -> int:
        """Length of the block, n."""
        return int(self.temperature.shape[1])


class Backend(Protocol):
    """The state of `slots` songs, each a function of its own requests alone, and the arithmetic that advances them."""

    slots: int

    @property
    def engine_id(self) -> str:
        """Backend, precision and arithmetic version: what a song's samples depend on besides its recipe."""

    def reset(self, slot: int, h0: list[FloatArray] | None = None) -> None:
        """Silence before the slot, its RNNs at h0 (one [n_rnn, parts, dim] a tier; None: the model's own start)."""

    def advance(self, request: Request) -> Codes:
        """Make one block: codes [slots, n]."""

    def teacher_forced(self, codes: Codes, features: FloatArray | None = None) -> FloatArray:
        """Logits [slots, n, q_levels] at temperature 1 while the codes [slots, n] are forced; states advance."""

    def save(self, slot: int) -> SlotState:
        """A copy of a slot's state between two blocks."""

    def load(self, slot: int, state: SlotState) -> None:
        """Put a song's state into a slot; what follows is what would have followed where it was saved."""
