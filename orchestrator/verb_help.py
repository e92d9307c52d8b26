"""`VERB --help`: what the verb does, and every setting that it takes, from the configs' own docstrings."""

from __future__ import annotations

import difflib
import importlib
import re
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.core import TyperCommand, TyperGroup

from orchestrator.problems import section_of, show

NAME_WIDTH = 34
"""A longer `name = default` has its meaning in the next line."""


class Verbs(TyperGroup):
    """The verbs in the order of the work; an unknown one is told together with those there are."""

    def list_commands(self, ctx: Any) -> list[str]:
        """As they are written in the source."""
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As the base class does, with the list of verbs in the error."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            close = difflib.get_close_matches(args[0], self.commands, 1)
            nearest = f"did you mean {close[0]}? " if close else ""
            ctx.fail(f"there is no verb {args[0]!r}; {nearest}there are: {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


def taking(place: str | None = None) -> type[TyperCommand]:
    """A command whose help ends with the settings of a config, `module:Class`, which is imported only then."""

    class Verb(TyperCommand):
        def format_usage(self, ctx: Any, formatter: Any) -> None:
            words = [
                str(parameter.metavar)
                for parameter in self.params
                if parameter.param_type_name == "argument" and parameter.metavar
            ]
            formatter.write_usage(ctx.command_path, " ".join([*words, "[OPTIONS]"]))

        def format_options(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Options"):
                formatter.write_dl(
                    [
                        (_flags(option), getattr(option, "help", None) or "Show this text and exit.")
                        for option in self.get_params(ctx)
                        if option.param_type_name == "option"
                    ]
                )

        def format_epilog(self, ctx: Any, formatter: Any) -> None:
            if place is None:
                return
            module, _, name = place.partition(":")
            write_settings(getattr(importlib.import_module(module), name), formatter)

    return Verb


def write_settings(model: type[BaseModel], formatter: Any) -> None:
    """Every setting as `name = default` and its meaning, below its section's name."""
    formatter.write_paragraph()
    formatter.write_text(
        "Settings: name=value on the command line (the last word of a name is enough where only one ends in it: "
        "dim=512), or the same names in a YAML file."
    )
    for section, about, rows in sections(model):
        with formatter.section(f"{section}  ({about})" if section else "Settings of the verb"):
            formatter.write_dl(rows, col_max=NAME_WIDTH)


def sections(
    model: type[BaseModel], at: str = "", about: str = ""
) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """(dotted name of a section, what it is, its settings as (`name = default`, meaning)), the outer ones first."""
    rows, below = [], []
    for name, field in model.model_fields.items():
        purpose = first_sentence(field.description or "")
        annotation: Any = field.annotation
        inner = section_of(annotation)
        if inner is not None:
            below.append((inner, f"{at}.{name}" if at else name, purpose))
            continue
        default = "" if field.default is PydanticUndefined else f" = {show(field.default)}"
        choices = f" [{' | '.join(map(str, typing.get_args(annotation)))}]" if _is_choice(annotation) else ""
        rows.append((f"{name}{default.replace(chr(39), '')}", purpose + choices))
    if rows:
        yield at, about.rstrip(".").lower(), rows
    for annotation, section, purpose in below:
        yield from sections(annotation, section, purpose)


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, in one line."""
    line = " ".join(text.split())
    return re.split(r"(?<=[.?])\s+(?=[A-Z])", line, maxsplit=1)[0]


def _is_choice(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Literal


def _flags(option: Any) -> str:
    value = f" {option.metavar}" if option.metavar else ""
    return ", ".join(sorted(option.opts, key=len)) + value
