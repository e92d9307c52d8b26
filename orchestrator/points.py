"""The points of a space in their order: every one for a grid, drawn ones for random search; the seed alone decides."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.space import Dimension, Space, in_order

Point = dict[str, Any]
"""Dotted names of the space and their values; a conditional name is there only where its condition holds."""

COUNTED = 100_000
"""Combinations up to which those of a conditional space are counted one by one."""
FRUITLESS = 1000
"""Draws in a row that were all there already, after which a space is taken to hold no more."""


def points(config: SweepConfig) -> Iterator[Point]:
    """Every point that a grid or random search tries. What tpe tries is known only as it goes."""
    space, seed, count = config.space, config.base.train.seed, config.num_samples or 0
    if config.search == "grid":
        return combinations(space, _single_values(space))
    if all(d.values is not None and d.grid is None and not d.when for d in space.values()):
        return _sampled(space, seed, count)
    return itertools.chain.from_iterable(itertools.islice(draws(space, seed), count))


def at_most(config: SweepConfig) -> int:
    """The number of trials; of a very large space with conditions a bound, for there may be fewer."""
    space = config.space
    size = _size(space)
    if config.search == "grid":
        return size or 0
    count = (config.num_samples or 0) * math.prod(len(d.grid) for d in space.values() if d.grid is not None)
    return count if size is None else min(count, size)


def combinations(space: Space, values: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    """Every combination of the values given for the names of a space; the last name varies fastest."""

    def walk(names: list[str], point: Point) -> Iterator[Point]:
        if not names:
            yield point
            return
        name, rest = names[0], names[1:]
        if not space[name].applies(point):
            yield from walk(rest, point)
            return
        for value in values[name]:
            yield from walk(rest, {**point, name: value})

    return walk(in_order(space), {})


def draws(space: Space, seed: int | str) -> Iterator[list[Point]]:
    """Draw after draw, each with every combination of the grids in the space; no point comes twice.

    A setting's n-th value depends on the seed, n and its name alone: it is the same beside every value of a grid.
    """
    seen: set[str] = set()
    fruitless = 0
    for number in itertools.count():
        new = {json.dumps(point): point for point in combinations(space, drawn(space, seed, number))}
        new = {text: point for text, point in new.items() if text not in seen}
        seen |= new.keys()
        fruitless = 0 if new else fruitless + 1
        if new:
            yield list(new.values())
        elif fruitless == FRUITLESS:
            return


def drawn(space: Space, seed: int | str, number: int) -> dict[str, Sequence[Any]]:
    """The values of one draw: a single one of each setting, and all of a grid's."""
    return {name: d.grid or [draw(d, f"{seed}/{number}/{name}")] for name, d in space.items()}


def draw(dimension: Dimension, seed: str) -> Any:
    """One value of a dimension."""
    stream = random.Random(seed)
    if dimension.span is None or (dimension.int and not dimension.log):
        return stream.choice(dimension.values or ())
    low, high = dimension.span
    if dimension.uniform:
        return stream.uniform(low, high)
    if dimension.loguniform:
        return min(high, max(low, math.exp(stream.uniform(math.log(low), math.log(high)))))
    whole = round(math.exp(stream.uniform(math.log(low - 0.5), math.log(high + 0.5))))
    return min(int(high), max(int(low), whole))


def _sampled(space: Space, seed: int, count: int) -> Iterator[Point]:
    """Points of a space of single values: so many of them, or all."""
    names, values = in_order(space), _single_values(space)
    size = math.prod(map(len, values.values()))
    for index in random.Random(seed).sample(range(size), min(count, size)):
        point = {}
        for name in reversed(names):
            index, at = divmod(index, len(values[name]))
            point[name] = values[name][at]
        yield {name: point[name] for name in names}


def _size(space: Space) -> int | None:
    """Points of a space; None where a range is continuous."""
    values = _single_values(space)
    if len(values) < len(space):
        return None
    product = math.prod(map(len, values.values()))
    if any(dimension.when for dimension in space.values()) and product <= COUNTED:
        return sum(1 for _ in combinations(space, values))
    return product


def _single_values(space: Space) -> dict[str, Sequence[Any]]:
    return {name: dimension.values for name, dimension in space.items() if dimension.values is not None}
