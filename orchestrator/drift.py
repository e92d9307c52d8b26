"""The config beside the output: written once, and the same name with another config is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from samplernn import commit
from samplernn.config import Frozen
from samplernn.errors import BadInput, Damaged
from samplernn.storage import Storage

_ABSENT = object()


def check_same_config(folder: Storage, name: str, config: Frozen, free: str | None = None) -> None:
    """Record the config in `folder` as `name`, or check that it is the one recorded there; a setting `free` may differ.

    Raises BadInput that lists every dotted key that differs (old -> new), Damaged when the record does not verify.
    """
    record = commit.record_bytes(config.model_dump(mode="json"))
    if folder.create(name, record):
        return
    stored = folder.read(name)
    if stored != record and record.startswith(stored):
        folder.write(name, record)  # a kill tore the first writing of this very config
        return
    refuse_other_config(folder, name, config, free)


def refuse_other_config(folder: Storage, name: str, config: Frozen, free: str | None = None) -> None:
    """Check as check_same_config does, and record nothing where there is no record."""
    body = config.model_dump(mode="json")
    try:
        found = differences(commit.read_record(folder, name), body)
    except FileNotFoundError:
        return
    except Damaged:
        if commit.record_bytes(body).startswith(folder.read(name)):
            return
        raise
    changed = [f"{key}: {what}" for key, what in found if key.split(".")[-1] != free]
    if changed:
        raise BadInput(
            f"{folder} was made with another config: {'; '.join(changed)}. "
            "Use the recorded values, or another name for this config"
        )


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every dotted key at which two JSON bodies differ, and `old -> new`, sorted by key; sections count from 1."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            dotted = f"{key}.{name}" if key else name
            yield from differences(old.get(name, _ABSENT), new.get(name, _ABSENT), dotted)
    elif _sections(old) and _sections(new) and len(old) == len(new):
        for number, (before, now) in enumerate(zip(old, new, strict=True), start=1):
            yield from differences(before, now, f"{key}.{number}")
    elif old is _ABSENT or new is _ABSENT or _canonical(old) != _canonical(new):
        yield key, f"{_shown(old)} -> {_shown(new)}"


def _sections(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # a list's dicts too: a record is written with sorted keys


def _shown(value: Any) -> str:
    return "(none)" if value is _ABSENT else json.dumps(value, ensure_ascii=False)
