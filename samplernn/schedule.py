"""A value over time as a person writes it: `0:1.0, 30s:0.9, 60s:1.05`, straight lines between the points."""

from __future__ import annotations

import math
import re

Schedule = tuple[tuple[float, float], ...]
"""(seconds, value) points in order of time; before the first and after the last the value stays."""

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_TIME = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|m|h|)\s*\Z")


def parse_schedule(text: str, low: float, high: float) -> Schedule:
    """Points of a schedule whose values lie in [low, high].

    Raises ValueError with the point that breaks a rule, the rule and the remedy.
    """
    points: list[tuple[float, float]] = []
    for part in text.split(","):
        time, colon, value = part.partition(":")
        match = _TIME.match(time)
        if not colon or match is None:
            raise ValueError(
                f"{part.strip()!r} is not a point of a schedule; write time:value with the time in s, min or h, "
                "as in 0:1.0, 30s:0.9, 2min:1.05"
            )
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise ValueError(f"{value.strip()!r} at {time.strip()} is not a number from {low:g} to {high:g}")
        seconds = float(match[1]) * _UNITS[match[2]]
        if points and seconds <= points[-1][0]:
            raise ValueError(
                f"the time {time.strip()} comes after {points[-1][0]:g} s; put the points in order"
            )
        points.append((seconds, number))
    return tuple(points)
