"""From a YAML file and `dotted.key=value` overrides to one validated config.

Merge first, validate once, report every problem at once. The YAML read here is the plain part of YAML 1.2: text,
numbers, true, false, null, lists and mappings; no tags, no anchors, no dates, and `no` is a word.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from orchestrator.problems import explain, path_of, show
from samplernn.errors import BadInput

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*\Z")
NULL = re.compile(r"(~|null|Null|NULL)?\Z")
BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)\Z")
INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)\Z")
# YAML 1.1 wants a dot and a signed exponent, so it reads 1e-3 as text.
FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(inf|Inf|INF))\Z"
    r"|\.(nan|NaN|NAN)\Z"
)

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars; keys are text and may not be given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise BadInput(f"line {line}: the key {show(key)} is not text; put it in quotes")
            if key in lines:
                raise BadInput(
                    f"line {line}: the key {key!r} is given twice (first in line {lines[key]}); keep one"
                )
            lines[key] = line
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
# Order matters: the first pattern that matches names the type.
for _tag, _pattern, _first in (
    ("null", NULL, ["~", "n", "N", ""]),
    ("bool", BOOL, list("tTfF")),
    ("int", INT, list("-+0123456789")),
    ("float", FLOAT, list("-+0123456789.")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises BadInput with one line when it can't be read, is not YAML, uses tags or anchors, gives a key twice, or
    holds anything but a mapping.
    """
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise BadInput(f"larger than {MAX_BYTES >> 20} MiB; a config is a page or two")
        data = _load(raw.decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: there is no such file; check the name and the folder") from error
    except OSError as error:
        raise BadInput(f"{path}: can't be read ({error.strerror}); give a readable YAML file") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not text in UTF-8; give a YAML file") from error
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    if data is None:
        raise BadInput(f"{path}: the file is empty; write at least one `key: value`")
    if not isinstance(data, dict):
        raise BadInput(f"{path}: holds {show(data)}, and must hold `key: value` lines")
    return data


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """`["model.dim=512", "model.frame_sizes=[2,8]"]` as a dict of dotted name and value.

    A value that starts with a bracket or a quote is YAML; anything else is null, true, false, a number or the text
    as it stands. Raises BadInput that lists every pair of another form.
    """
    overrides: dict[str, Any] = {}
    problems: list[str] = []
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not KEY.match(key):
            problems.append(f"{pair!r} is not of the form dotted.key=value, such as model.dim=512")
        elif not text:
            problems.append(f"{key}= has no value; write {key}=null for none")
        elif key in overrides:
            problems.append(f"{key} is given twice; keep one")
        else:
            try:
                overrides[key] = _value(text)
            except BadInput as error:
                problems.append(f"{key}={text}: {error}")
    if problems:
        raise BadInput("\n".join(problems))
    return overrides


def build(model: type[Model], data: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Model:
    """Merge the overrides into `data` (which stays as it is) and validate once.

    Raises one BadInput with a line for each problem, by dotted name, and the nearest valid name of an unknown one.
    """
    merged = copy.deepcopy(dict(data))
    problems: list[str] = []
    for key, value in (overrides or {}).items():
        try:
            _put(merged, path_of(model, key), value)
        except BadInput as error:
            problems.append(str(error))
    try:
        config = model.model_validate(merged)
    except ValidationError as error:
        problems += explain(model, error)
    else:
        problems += _booleans_taken_as_numbers(merged, config)
    if problems:
        raise BadInput("\n".join(problems))
    return config


def set_dotted(data: dict[str, Any], key: str, value: Any) -> None:
    """Set `a.b.c` in nested dicts, making the sections that are missing; BadInput where a value is in the way."""
    _put(data, tuple(key.split(".")), value)


def flatten(config: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """Every leaf by its dotted name, as JSON's types (tuples become lists)."""
    nested = config.model_dump(mode="json") if isinstance(config, BaseModel) else config
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{below}": leaf for below, leaf in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def _load(text: str) -> Any:
    """Parse YAML text. Raises BadInput without the file's name."""
    try:
        _refuse_unsafe(text)
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise BadInput(
            f"{where}not valid YAML ({error.problem or error.context}); mend or quote it"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput(f"not valid YAML ({' '.join(str(error).split())}); mend or quote it") from error


def _refuse_unsafe(text: str) -> None:
    """Refuse tags, aliases and deep nesting before anything is built from them."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise BadInput(
                f"line {line}: anchors and aliases (&name, *name) are not read; write the value out, or quote it"
            )
        if tag := getattr(event, "tag", None):
            raise BadInput(f"line {line}: the tag {tag} is not read; write a plain value, or quote it")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise BadInput(f"line {line}: nested more than {MAX_DEPTH} deep; a config has a few levels")


def _value(text: str) -> Any:
    if text[0] in "[{'\"":
        return _load(text)
    if any(pattern.match(text) for pattern in (NULL, BOOL, INT, FLOAT)):
        return _load(text)
    return text


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    section = data
    for depth, name in enumerate(path[:-1], start=1):
        # `base:` with nothing below it is null in YAML, and an empty section to a person.
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            raise BadInput(
                f"{'.'.join(path)} can't be set: {'.'.join(path[:depth])} is {show(section)}, not a section"
            )
    section[path[-1]] = value


def _booleans_taken_as_numbers(given: Mapping[str, Any], config: BaseModel) -> list[str]:
    """Pydantic reads `dim: true` as 1; a person who wrote that meant something else."""
    got = flatten(config)
    return [
        f"{name} {show(value)} must be a number, not true or false"
        for name, value in flatten(given).items()
        if isinstance(value, bool) and name in got and not isinstance(got[name], bool)
    ]
