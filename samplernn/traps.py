"""Traps: what a generated song falls into and doesn't leave. Judged second by second as the audio is made.

The thresholds lie between what four excerpts of metal measure and what the traps themselves do: repetition 0.87
against 1, flatness 0.14 against 0.56, DC 0.0015 against anything. What holds for HOLD seconds is a trap: music also
rests, roars and holds a note, for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from samplernn.measures import (
    REPETITION_SECONDS,
    SILENCE_DBFS,
    decimate,
    repetition,
    rms,
    spectral_flatness,
)

Kind = Literal["loop", "silence", "noise", "dc"]
KINDS: tuple[Kind, ...] = ("loop", "silence", "noise", "dc")
HOLD = 6
"""Seconds that a trap must last to be one."""
LOOP, NOISE, DC = 0.95, 0.45, 0.05
"""A loop repeats itself more than LOOP, noise is flatter than NOISE, and DC is a mean beyond DC of full scale."""
_SILENT = 10 ** (SILENCE_DBFS / 20)
_NEEDED = {
    "loop": HOLD - REPETITION_SECONDS // 2 + 1
}  # one judgement of a loop speaks for so many seconds already

WatchState = dict[str, npt.NDArray[np.generic]]
"""All that a watch knows: `pending` int16, `recent` float32, `held` int64 [kinds], `seen` int64 []."""


@dataclass(frozen=True)
class Trap:
    """A trap and where it began."""

    kind: Kind
    start: int
    """Its first sample."""


class TrapWatch:
    """Hears one song's PCM block by block and names the traps; keeps a few seconds, however long the song is."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = self._second = sample_rate
        self._pending = np.zeros(0, dtype=np.int16)
        self._recent = np.zeros(0, dtype=np.float32)
        self._held = np.zeros(len(KINDS), dtype=np.int64)
        self._seen = 0

    def hear(self, pcm: npt.NDArray[np.int16]) -> list[Trap]:
        """The traps that became one while this PCM [samples] was heard; each is named once while it lasts."""
        found: list[Trap] = []
        self._pending = np.concatenate((self._pending, pcm))
        while len(self._pending) >= self._second:
            second, self._pending = self._pending[: self._second], self._pending[self._second :]
            self._seen += len(second)
            found += self._judge(second.astype(np.float32) / np.float32(32768))
        return found

    def save(self) -> WatchState:
        """A copy of what it knows."""
        return {
            "pending": self._pending.copy(),
            "recent": self._recent.copy(),
            "held": self._held.copy(),
            "seen": np.array(self._seen, dtype=np.int64),
        }

    def load(self, state: WatchState) -> None:
        """Go on from what a watch of the same sample rate knew."""
        self._pending = state["pending"].astype(np.int16)
        self._recent = state["recent"].astype(np.float32)
        self._held = state["held"].astype(np.int64)
        self._seen = int(state["seen"])

    def _judge(self, second: npt.NDArray[np.float32]) -> list[Trap]:
        coarse = decimate(second, self._rate)
        window = REPETITION_SECONDS * len(coarse)
        self._recent = np.concatenate((self._recent, coarse))[-window:]
        whole = len(self._recent) == window
        mean, moves = (
            float(np.mean(second, dtype=np.float64)),
            float(np.std(second, dtype=np.float64)) > _SILENT,
        )
        silent = rms(second) <= _SILENT
        now = {
            "loop": moves and whole and repetition(self._recent)[0] > LOOP,
            "silence": silent,
            "noise": moves and _may_be_noise(second) and spectral_flatness(second) > NOISE,
            "dc": abs(mean) > DC or not (moves or silent),
        }
        self._held = np.array([self._held[i] + 1 if now[kind] else 0 for i, kind in enumerate(KINDS)])
        start = self._seen - HOLD * self._second
        return [
            Trap(kind, start)
            for kind, held in zip(KINDS, self._held, strict=True)
            if held == _NEEDED.get(kind, HOLD)
        ]


def _may_be_noise(second: npt.NDArray[np.float32]) -> bool:
    """Whether the spectrum can be flat at all: with a correlation r of neighbours its flatness is at most 1 - r^2.

    (The flattest such spectrum is the first-order autoregression's, by Burg's maximum entropy.) Most music fails this
    and needs no spectrum.
    """
    x = second - np.float32(second.mean())
    return abs(float(x[1:] @ x[:-1])) < 0.6 * float(x @ x)
