"""The space of a sweep: what is tried for each setting, as a person writes it."""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from samplernn.config import Frozen

KINDS = ("choice", "grid", "uniform", "loguniform", "int")
Values = Annotated[list[Any], Field(min_length=1)]
Span = tuple[float, float]


class Dimension(Frozen):
    """What is tried for one setting: one of choice, grid, uniform, loguniform and int; a plain list is a choice."""

    choice: Values | None = None
    """Values to try: each of them under grid search, some of them under the others."""
    grid: Values | None = None
    """Values that are all tried, also under random search: each with every draw of the other settings."""
    uniform: Span | None = None
    """[lowest, highest]: any number between them."""
    loguniform: Span | None = None
    """[lowest, highest], both above 0: any number between them, each factor of ten as likely as the next."""
    int: tuple[builtins.int, builtins.int] | None = None
    """[lowest, highest]: any whole number between them, both included."""
    step: Annotated[builtins.int, Field(ge=1)] | None = None
    """Of int: only the lowest and every step-th number after it."""
    log: bool = False
    """Of int: each factor of ten as likely as the next."""
    when: dict[str, Any] = {}
    """Set this setting only where another one of the space has this value, or one of these: {model.n_rnn: [3, 5]}."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return {"choice": list(value)}
        if not isinstance(value, dict | Dimension):
            raise ValueError(
                f"{value!r} must be a list of values, or one of choice, grid, uniform, loguniform and int: "
                "{loguniform: [1e-4, 1e-2]}"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> Dimension:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'nothing'} given; give one of {', '.join(KINDS)}")
        if (self.step is not None or self.log) and self.int is None:
            raise ValueError("step and log belong to int: {int: [64, 512], step: 64}")
        if self.step is not None and self.log:
            raise ValueError("step and log don't go together; leave one out, or list the values as a choice")
        if self.span is not None:
            low, high = self.span
            if low >= high:
                raise ValueError(
                    f"{given[0]} [{low:g}, {high:g}]: the first must be below the second; swap them"
                )
            if low <= 0 and (self.loguniform or self.log):
                raise ValueError(f"the lowest value {low:g} must be above 0 on a logarithmic scale; raise it")
        texts = [json.dumps(value) for value in self.choice or self.grid or []]
        twice = [text for at, text in enumerate(texts) if text in texts[:at]]
        if twice:
            raise ValueError(f"has {twice[0]} twice: that trial would be trained twice; keep one")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> Any:
        if self.choice is not None and not self.when:
            return self.choice
        return {key: value for key, value in dump(self).items() if value not in (None, False, {})}

    @property
    def span(self) -> Span | None:
        """The two ends of a range; None for a list of values."""
        return self.uniform or self.loguniform or self.int

    @property
    def values(self) -> Sequence[Any] | None:
        """Every value, in order; None for a continuous range."""
        if self.int is not None:
            return range(self.int[0], self.int[1] + 1, self.step or 1)
        return self.choice or self.grid

    def holds(self, value: Any) -> bool:
        """Whether a value is one of this dimension's."""
        if self.values is not None:
            return value in self.values
        low, high = self.span or (0.0, 0.0)
        return isinstance(value, builtins.int | float) and low <= value <= high

    def applies(self, point: Mapping[str, Any]) -> bool:
        """Whether `when` holds for the settings chosen so far; it does not where one of them is not set itself."""
        return all(
            key in point and point[key] in (value if isinstance(value, list) else [value])
            for key, value in self.when.items()
        )


Space = dict[str, Dimension]


def in_order(space: Space) -> list[str]:
    """The names of a space, sorted; a conditional one after those that it depends on.

    Raises ValueError that names a condition on a setting that is not in the space, or on itself.
    """
    placed: list[str] = []
    left = sorted(space)
    while left:
        ready = [name for name in left if all(other in placed for other in space[name].when)]
        if not ready:
            raise ValueError(_impossible(space, left))
        placed += ready
        left = [name for name in left if name not in ready]
    return placed


def _impossible(space: Space, left: list[str]) -> str:
    for name in left:
        for other in space[name].when:
            if other not in space:
                return (
                    f"space.{name}.when names {other}, which is not in the space ({', '.join(sorted(space))}); "
                    "name one of these, or leave the condition out"
                )
    return (
        f"space: {' and '.join(left)} depend on each other by their `when`; take one of the conditions away"
    )
