"""What is wrong with a config, in lines for a person: the dotted name, the value, the rule and the remedy."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

MUST_BE = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text; put it in quotes",
    "list": "a list, such as [1, 2]",
    "tuple": "a list, such as [1, 2]",
    "dict": "a section of `key: value` lines",
    "model": "a section of `key: value` lines",
    "finite_number": "a finite number",
}
LIMITS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def explain(model: type[BaseModel], error: ValidationError) -> list[str]:
    """One line for each name that is wrong, in the order of the config."""
    lines: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        name = _name(model, detail["loc"])
        rules = lines.setdefault(name, [])
        rule = _rule(model, name, detail)
        if rule not in rules:
            rules.append(rule)
    return [" or ".join(rules) for rules in lines.values()]


def names(model: type[BaseModel], below: str = "") -> Iterator[str]:
    """Every dotted name that a config of this class may give, sections left out; a list of sections is one value."""
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        if section is None or _holds_list(field.annotation):
            yield below + name
        else:
            yield from names(section, f"{below}{name}.")


def path_of(model: type[BaseModel], key: str) -> tuple[str, ...]:
    """Split a dotted name into keys; below a free-form mapping the rest is one key: space.model.dim."""
    parts = key.split(".")
    section: type[BaseModel] | None = model
    for depth, part in enumerate(parts, start=1):
        field = section.model_fields.get(part) if section else None
        if field is None:
            break
        if typing.get_origin(field.annotation) is dict and depth < len(parts):
            return (*parts[:depth], ".".join(parts[depth:]))
        section = section_of(field.annotation)
    return tuple(parts)


def show(value: Any) -> str:
    """A value as it would be written in YAML, cut to a length that fits a line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _rule(model: type[BaseModel], name: str, detail: ErrorDetails) -> str:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    value = f"{name} {show(given)}" if name else show(given)
    if kind == "extra_forbidden":
        return f"unknown key {name}; {nearest(model, name)}"
    if kind == "missing":
        return f"{name} is missing; {_purpose(model, name)}"
    if kind in ("value_error", "assertion_error"):
        return f"{name}: {context['error']}" if name else str(context["error"])
    if kind in LIMITS:
        limit, words = LIMITS[kind]
        return f"{value} must be {words} {f'{context[limit]:,}'.removesuffix('.0')}"
    if kind == "literal_error":
        return f"{value} must be {context['expected']}"
    if kind in ("too_short", "too_long"):
        bound = (
            ("at least", context.get("min_length"))
            if kind == "too_short"
            else ("at most", context.get("max_length"))
        )
        return f"{value} must have {bound[0]} {bound[1]} {'entry' if bound[1] == 1 else 'entries'}"
    if given is None:
        return f"{name} is empty; give a value or leave the line out"
    family = kind if kind in MUST_BE else kind.removesuffix("_type").removesuffix("_parsing").split("_")[0]
    if family in MUST_BE:
        return f"{value} must be {MUST_BE[family]}"
    return f"{value}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"


def nearest(model: type[BaseModel], name: str) -> str:
    """The nearest valid name: among the siblings first, then the same last word elsewhere, then any name."""
    *above, last = name.split(".")
    prefix = "".join(f"{part}." for part in above)
    siblings = _siblings(model, above)
    valid = list(names(model))
    if above and last in model.model_fields:
        return f"did you mean {last}?"
    close = difflib.get_close_matches(last, siblings, 1, 0.75)
    if close:
        return f"did you mean {prefix}{close[0]}?"
    begun = [other for other in valid if len(last) > 2 and other.rpartition(".")[2].startswith(last)]
    if begun:
        return f"did you mean {begun[0]}?"
    inside = [other for other in valid if f".{last}." in other]
    if inside:
        return f"did you mean {inside[0]}?"
    words = difflib.get_close_matches(last, [other.rpartition(".")[2] for other in valid], 1, 0.75)
    for other in valid:
        if words and other.rpartition(".")[2] == words[0]:
            return f"did you mean {other}?"
    close = difflib.get_close_matches(name, valid, 1, 0.75)
    return f"did you mean {close[0]}?" if close else f"valid here: {', '.join(siblings)}"


def _siblings(model: type[BaseModel], above: list[str]) -> list[str]:
    section: type[BaseModel] | None = model
    for part in above:
        field = section.model_fields.get(part.partition("[")[0]) if section else None
        if field is not None and typing.get_origin(field.annotation) is dict:
            section = section_of(typing.get_args(field.annotation)[1])
            break  # what is below is the mapping's own key, dots and all
        section = section_of(field.annotation) if field else None
    return list(section.model_fields) if section else list(model.model_fields)


def _purpose(model: type[BaseModel], name: str) -> str:
    """What the field is for, from its docstring."""
    *above, last = name.split(".")
    section: type[BaseModel] | None = model
    for part in above:
        field = section.model_fields.get(part) if section else None
        section = section_of(field.annotation) if field else None
    field = section.model_fields.get(last) if section else None
    purpose = " ".join(field.description.split()) if field and field.description else "give a value"
    return f"give {name}=... ({purpose.rstrip('.')})" if purpose != "give a value" else purpose


def _name(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Dotted name of an error's place; the branches of a union, which pydantic adds, are left out."""
    name = ""
    annotation: Any = model
    for part in location:
        section = section_of(annotation)
        if isinstance(part, int):
            name += f"[{part}]"
        elif section is not None:
            name += f".{part}" if name else part
            field = section.model_fields.get(part)
            annotation = field.annotation if field else None
        elif typing.get_origin(annotation) is dict and part != "[key]":
            name += f".{part}"
            annotation = typing.get_args(annotation)[1]
    return name


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The config class in an annotation, also within Optional and list; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) is dict:
        return None
    return next(filter(None, map(section_of, typing.get_args(annotation))), None)


def _holds_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) is list or any(map(_holds_list, typing.get_args(annotation)))
