"""Passages of a track: lists of [start, stop) in samples, in order, that neither touch nor overlap."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable

Passages = list[list[int]]


def joined(*lists: Iterable[Iterable[int]]) -> Passages:
    """Everything that lies in any of the lists."""
    out: Passages = []
    for start, stop in sorted([*map(list, itertools.chain(*lists))]):
        if out and start <= out[-1][1]:
            out[-1][1] = max(out[-1][1], stop)
        elif start < stop:
            out.append([start, stop])
    return out


def without(passages: Passages, taken: Passages) -> Passages:
    """What of `passages` is not in `taken`."""
    out: Passages = []
    for start, stop in passages:
        at = start
        first = bisect.bisect_left(taken, at, key=lambda passage: passage[1])
        for a, b in itertools.islice(taken, first, None):
            if a >= stop:
                break
            if at < a:
                out.append([at, a])
            at = max(at, b)
        if at < stop:
            out.append([at, stop])
    return out


def length(passages: Passages) -> int:
    """Samples in all of them."""
    return sum(stop - start for start, stop in passages)


def cut(passages: Passages, start: int, stop: int) -> Passages:
    """The part of the passages that lies between `start` and `stop`, counted in the passages' own samples alone."""
    out: Passages = []
    at = 0
    for a, b in passages:
        low, high = max(start, at), min(stop, at + b - a)
        if low < high:
            out.append([a + low - at, a + high - at])
        at += b - a
    return out


def within(passages: Passages, spans: Passages) -> Passages:
    """The passages as they lie in the spans put one behind the other; the inverse of `cut`."""
    out: Passages = []
    at = 0
    for start, stop in spans:
        inside = [[max(a, start), min(b, stop)] for a, b in passages if a < stop and b > start]
        out += [[a - start + at, b - start + at] for a, b in inside]
        at += stop - start
    return out


def scaled(passages: Passages, ratio: float, end: int) -> Passages:
    """The passages at another sample rate, in a track of `end` samples; widened to whole samples."""
    wide = [[int(start * ratio), min(end, int(stop * ratio) + 1)] for start, stop in passages]
    return joined(passage for passage in wide if passage[0] < passage[1])
