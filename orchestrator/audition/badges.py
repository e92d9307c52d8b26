"""What a clip's measures say at a glance: its badges, and how loud it is to be played.

A badge is shown when its measure is there and beyond its limit. Clips of an older version have fewer measures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samplernn.copying import COPIED
from samplernn.traps import DC, LOOP, NOISE

Measures = Mapping[str, Any]
"""samplernn.clips' of a clip, samplernn.song_measures' of a song; lufs is None where all is silent."""

LOUDNESS_DB = -20.0
"""What every clip is matched to: LUFS where they were measured, else decibels of full scale (root mean square)."""
MAX_GAIN_DB = 24.0


@dataclass(frozen=True)
class Badge:
    """Something to know before listening. Its place in BADGES is its bit in a clip's flags."""

    name: str
    about: str
    holds: Callable[[Measures], bool]


def _above(measure: str, limit: float) -> Callable[[Measures], bool]:
    return lambda measures: abs(measures.get(measure, 0.0)) >= limit


BADGES: Sequence[Badge] = (
    Badge("loop", "it repeats itself", _above("repetition", LOOP)),
    Badge("silence", "more than half of it is silent", _above("silence", 0.5)),
    Badge("noise", "its spectrum is as flat as noise", _above("flatness", NOISE)),
    Badge("dc", "its mean is far from zero", _above("dc", DC)),
    Badge("clipped", "a hundredth of it is at full scale", _above("clipped", 0.01)),
    Badge("trapped", "it fell into a loop, silence, noise or DC", _above("trapped", 1.0)),
    Badge("copy", "it follows a passage of the training music", lambda m: m.get("novelty", 1.0) < 1 - COPIED),
)
BROKEN = 1 << len(BADGES)
"""The flag of a clip that can't be decoded."""
SORTS = ("novelty", "variety_db")
"""Measures by which trials can be sorted, where they are there; the more the better."""


def flags(measures: Measures, traps: Collection[str] = ()) -> int:
    """The badges as bits: those that the measures earn, and those of the traps that a song fell into."""
    return sum(1 << at for at, badge in enumerate(BADGES) if badge.holds(measures) or badge.name in traps)


def gain_db(measures: Measures) -> float:
    """Decibels to play it louder, so that all are equally loud; never so much that its peak passes full scale."""
    lufs = measures.get("lufs")
    level = measures.get("rms_dbfs") if lufs is None else lufs
    if level is None:
        return 0.0
    return float(min(LOUDNESS_DB - level, -measures.get("peak_dbfs", 0.0), MAX_GAIN_DB))
