"""What a command line asks for: from a verb's words to its config, whole and validated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from orchestrator.config import (
    AlbumConfig,
    ExportConfig,
    GenerateFile,
    IngestConfig,
    SweepConfig,
    SweepFile,
    SweepRun,
)
from orchestrator.debug import made_tiny
from orchestrator.merge import build, load_yaml, parse_overrides
from orchestrator.shorthand import spell_out
from orchestrator.workspace import check_name

Model = TypeVar("Model", bound=BaseModel)
YAML = (".yaml", ".yml")


def ingest_asked(folder: str, words: list[str]) -> IngestConfig:
    """`ingest FOLDER name=value ...`; the dataset is named for the folder, or what stands before a pattern's stars."""
    from orchestrator.audio_folder import MAGIC  # with all that reads audio, which the other verbs don't need

    source = folder if "://" in folder else str(Path(folder).expanduser().resolve())
    plain = [part for part in source.split("/") if part and not MAGIC.search(part)]
    return _built(IngestConfig, {"name": as_name(plain[-1] if plain else ""), "source": source}, words)


def export_asked(words: list[str]) -> ExportConfig:
    """`ingest --export NAME name=value ...`."""
    return _built(ExportConfig, {}, words)


def sweep_asked(file: str, words: list[str], debug: bool) -> tuple[SweepConfig, SweepRun]:
    """`sweep FILE.yaml name=value ...`: what to train, and how it is executed."""
    return _sweep({"name": as_name(Path(file).stem), **load_yaml(file)}, words, debug)


def train_asked(words: list[str], debug: bool) -> tuple[SweepConfig, SweepRun]:
    """`train [FILE.yaml] name=value ...`: a sweep without a space."""
    data: dict[str, Any] = {"name": "train"}
    if words and "=" not in words[0]:
        file, *words = words
        data = {"name": as_name(Path(file).stem), **load_yaml(file)}
    data |= {"space": {}, "search": "grid", "num_samples": None, "schedule": {"type": "none"}}
    return _sweep(data, words, debug)


def songs_asked(name: str, words: list[str]) -> GenerateFile:
    """`generate SWEEP name=value ...`, or with a FILE.yaml; the batch is named for either."""
    if name.endswith(YAML):
        data = {"name": as_name(Path(name).stem), **load_yaml(name)}
    else:
        data = {"name": f"{check_name(name)[:58]}-songs", "sweep": name}
    return _built(GenerateFile, data, words)


def album_asked(name: str, words: list[str]) -> AlbumConfig:
    """`album SONGS name=value ...`, or with a FILE.yaml; the album is named for either."""
    if name.endswith(YAML):
        data = {"name": as_name(Path(name).stem), **load_yaml(name)}
    else:
        data = {"name": name, "songs": name}
    return _built(AlbumConfig, data, words)


def as_name(text: str) -> str:
    """A name made from a folder's or file's."""
    return check_name(re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "music")


def _sweep(data: dict[str, Any], words: list[str], debug: bool) -> tuple[SweepConfig, SweepRun]:
    asked = _built(SweepFile, data, words)
    check_name(asked.name)
    return (made_tiny(asked.sweep) if debug else asked.sweep), asked.run


def _built(model: type[Model], data: dict[str, Any], words: list[str]) -> Model:
    return build(model, data, spell_out(model, parse_overrides(words)))
