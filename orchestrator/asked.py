"""What a command line asks for: from a verb's words to its config, whole and validated."""

from __future__ import annotations

import copy
import getpass
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from orchestrator.config import (
    AlbumFile,
    AuditionConfig,
    ExportConfig,
    GenerateFile,
    IngestFile,
    PickConfig,
    Retention,
    RollbackConfig,
    SweepFile,
    Tracking,
)
from orchestrator.debug import made_tiny
from orchestrator.merge import build, load_yaml, parse_overrides
from orchestrator.recipe import Recipe
from orchestrator.shorthand import spell_out
from orchestrator.workspace import check_name
from samplernn.config import Experiment
from samplernn.errors import BadInput

Model = TypeVar("Model", bound=BaseModel)
YAML = (".yaml", ".yml")
CONFIGS = Path(__file__).parent.parent / "configs"
PRESETS, SWEEPS = CONFIGS / "model", CONFIGS / "sweeps"


def ingest_asked(folder: str, words: list[str]) -> IngestFile:
    """`ingest FOLDER name=value ...`, or with a FILE.yaml; the dataset is named for either.

    Raises BadInput, among others, for a second place: a pattern without quotes is several words.
    """
    second = next((word for word in words if "=" not in word and Path(word).exists()), None)
    if second is not None:
        raise BadInput(
            f"{second!r} is a second place, and ingest takes one; give the folder that holds both, "
            "or put a pattern in quotes ('music/*.flac')"
        )
    if folder.endswith(YAML):
        data = {"name": as_name(Path(folder).stem), **load_yaml(folder)}
    else:
        data = {"name": as_name(_last_part(_whole(folder))), "source": folder}
    config = _built(IngestFile, data, words)
    return config.model_copy(update={"source": _whole(config.source)})


def _whole(source: str) -> str:
    """A source that is the same from any folder."""
    return source if "://" in source else str(Path(source).expanduser().resolve())


def _last_part(source: str) -> str:
    """The folder's name, the file's without its suffix, or what is before the stars."""
    from orchestrator.audio_folder import MAGIC  # with all that reads audio, which the other verbs don't need
    from samplernn.audio import SUFFIXES

    place = source.partition("?")[0] if "://" in source else source
    plain = [part for part in place.split("/") if part and not MAGIC.search(part)]
    last = Path(plain[-1] if plain else "")
    return last.stem if last.suffix.lower() in SUFFIXES else last.name


def export_asked(words: list[str]) -> ExportConfig:
    """`ingest --export NAME name=value ...`."""
    return _built(ExportConfig, {}, words)


def sweep_asked(file: str, words: list[str], debug: bool) -> SweepFile:
    """`sweep FILE.yaml name=value ...`, or with the name of a shipped one.

    Raises BadInput, among others, where there is nothing to try.
    """
    asked = _sweep(_sweep_file(file), words, debug)
    if not asked.space:
        raise BadInput(
            "space is empty: name settings to try, such as space.model.dim=[256,512]; one model is `orchestrator train`"
        )
    return asked


def train_asked(words: list[str], debug: bool) -> SweepFile:
    """`train [FILE.yaml] name=value ...`: a sweep without a space."""
    data: dict[str, Any] = {"name": "train"}
    if words and "=" not in words[0]:
        file, *words = words
        data = _sweep_file(file)
    data |= {"space": {}, "search": "grid", "num_samples": None, "schedule": {"type": "none"}}
    return _sweep(data, words, debug)


def experiment_asked(words: list[str]) -> Experiment:
    """`doctor name=value ...`: the model and training to look at."""
    return _built(Experiment, *_with_preset({}, words, ("model",)))


def status_asked(words: list[str], workspace: str | None) -> tuple[str | None, str | None]:
    """(workspace, sweep) of `status [WORKSPACE] [SWEEP]`: a name has no slash, a workspace that is given first has."""
    name = words[-1] if words and "/" not in words[-1] else None
    where = words[:-1] if name else words
    if len(where) > 1 or (where and "/" not in where[0]):
        raise BadInput(f"status takes a workspace and a sweep at most, not {' '.join(words)}")
    if where and workspace is not None:
        raise BadInput(f"two workspaces are given: {where[0]} and -w {workspace}; leave one out")
    return (where[0] if where else workspace), name


def songs_asked(words: list[str]) -> GenerateFile:
    """`generate SWEEP name=value ...`, or with a FILE.yaml, or a song's song.json; the batch is named for it."""
    if not words or "=" in words[0]:
        raise BadInput("generate needs a SWEEP, a FILE.yaml or a song.json first; see generate --help")
    name, *words = words
    if name.endswith(".json"):
        again = Recipe.read(name)
        data = {
            "name": f"{as_name(str(again.body['sweep']))[:40]}-again-{again.body['index']:04d}",
            **again.settings(),
        }
    elif name.endswith(YAML):
        data = {"name": as_name(Path(name).stem), **load_yaml(name)}
    else:
        what = "picks" if any(word.startswith("picks=") for word in words) else "songs"
        data = {"name": f"{check_name(name)[:58]}-{what}", "sweep": name}
    return _built(GenerateFile, data, words)


def album_asked(name: str, words: list[str]) -> AlbumFile:
    """`album SONGS name=value ...`, or with a FILE.yaml; the album is named for either."""
    if name.endswith(YAML):
        data = {"name": as_name(Path(name).stem), **load_yaml(name)}
    else:
        data = {"name": name, "songs": name}
    return _built(AlbumFile, data, words)


def audition_asked(words: list[str]) -> tuple[AuditionConfig, str]:
    """`audition SWEEP name=value ...`, and who listens."""
    config = _built(AuditionConfig, {}, words)
    return config, _listener(config.listener)


def pick_asked(words: list[str], drop: bool) -> tuple[PickConfig, str]:
    """`pick SWEEP [trial=... step=...]`, and who picks. Raises BadInput for half a checkpoint."""
    config = _built(PickConfig, {}, words)
    if (config.trial is None) != (config.step is None) or (drop and config.trial is None):
        raise BadInput("a checkpoint is a trial= and a step= together; leave both out to list the picks")
    return config, _listener(config.listener)


def prune_asked(recorded: dict[str, Any], words: list[str]) -> Retention:
    """`prune SWEEP name=value ...`, on top of the sweep's own settings."""
    return _built(Retention, recorded, words)


def rollback_asked(words: list[str]) -> RollbackConfig:
    """`rollback SWEEP trial=... step=...`."""
    return _built(RollbackConfig, {}, words)


def sync_asked(words: list[str]) -> tuple[str | None, Tracking]:
    """`sync [SWEEP] [name=value ...]`."""
    named = words[0] if words and "=" not in words[0] else None
    return named, _built(Tracking, {}, words if named is None else words[1:])


def _listener(name: str | None) -> str:
    return as_name(getpass.getuser()) if name is None else check_name(name)


def as_name(text: str) -> str:
    """A name made from a folder's or file's."""
    return check_name(re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "music")


def _sweep_file(file: str) -> dict[str, Any]:
    """A FILE.yaml, or configs/sweeps/FILE.yaml where it is a bare name; the sweep is named for it."""
    if not file.endswith(YAML) and "/" not in file and not Path(file).is_file():
        file = str(_shipped(SWEEPS, "sweep", file, "; or give a path to a YAML file of your own"))
    return {"name": as_name(Path(file).stem), **load_yaml(file)}


def _shipped(folder: Path, what: str, name: str, remedy: str = "") -> Path:
    """The shipped YAML of that name. Raises BadInput that lists those there are."""
    there = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if name not in there:
        raise BadInput(f"there is no shipped {what} {name!r}; there are {', '.join(there)}{remedy}")
    return there[name]


def _sweep(data: dict[str, Any], words: list[str], debug: bool) -> SweepFile:
    asked = _built(SweepFile, *_with_preset(data, words, ("base", "model")))
    check_name(asked.name)
    return made_tiny(asked) if debug else asked


def _with_preset(
    data: dict[str, Any], words: list[str], where: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    """Put configs/model/NAME.yaml below what was given, for `preset=NAME` or `base: {preset: NAME}`."""
    data = copy.deepcopy(data)
    section = data
    for key in where[:-1]:
        inner: Any = section.get(key) or {}
        if not isinstance(inner, dict):
            return data, words  # validation says what is wrong
        section[key] = inner
        section = inner
    name: Any = section.pop("preset", None)
    for word in [word for word in words if word.startswith("preset=")]:
        name = word.removeprefix("preset=")
    if name is None:
        return data, words
    preset = load_yaml(_shipped(PRESETS, "preset", name))
    section[where[-1]] = preset | (section.get(where[-1]) or {})
    return data, [word for word in words if not word.startswith("preset=")]


def _built(model: type[Model], data: dict[str, Any], words: list[str]) -> Model:
    return build(model, data, spell_out(model, parse_overrides(words)))
