"""A person's folder of music: which files in it are taken for audio, and why the others are not."""

from __future__ import annotations

import glob
import itertools
import os
import re
import stat
import urllib.parse
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from orchestrator.ranges import RANGES, Span, read_ranges
from samplernn.audio import SUFFIXES
from samplernn.errors import BadInput
from samplernn.storage import Storage

NOT_READ = frozenset([".mid", ".midi", ".mod", ".ra", ".rm", ".dts", ".tak", ".dff", ".avi", ".aax", ".m4p"])
"""Names of music that is not read."""
MAGIC = re.compile(r"[*?\[]")
_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")

Row = dict[str, str]


@dataclass(frozen=True)
class AudioFile:
    """One file that looks like audio."""

    path: bytes
    """As the file system spells it: a name need not be UTF-8. Absolute, or below Found.origin."""
    name: str
    """Relative to the folder, printable."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Found:
    """What is in a folder."""

    root: Path | None
    """The folder on this machine's file system."""
    origin: Storage | None = None
    """The folder on an object store; then the files must be fetched."""
    audio: list[AudioFile] = field(default_factory=list)
    """Sorted by path."""
    skipped: list[Row] = field(default_factory=list)
    """Rows {path, reason}, sorted by path."""
    ranges: dict[str, list[Span]] = field(default_factory=dict)
    """What ranges.csv in the folder says: for each file the parts to take, in seconds."""


def scan(source: str) -> Found:
    """Look through a folder and the folders in it; hidden files are passed over in silence.

    `source` is a folder, a file, a pattern (music/**/*.flac), or these as a URI that pyarrow.fs opens (s3://, gs://;
    %2A and %5B in it are an asterisk and a bracket, no pattern). A link to a file inside the folder is followed,
    a link to a folder or out of the folder is not. Raises BadInput when there is no such folder, or nothing in it that
    could be audio, or its ranges.csv is wrong.
    """
    found = _look(source)
    found.audio.sort(key=lambda file: file.path)
    found.skipped.sort(key=lambda row: row["path"])
    if not found.audio:
        raise BadInput(f"{source} holds no audio files{first_reasons(found.skipped)}; {_wanted()}")
    unknown = sorted(found.ranges.keys() - {file.name for file in found.audio})
    if unknown:
        raise BadInput(
            f"{RANGES} names {unknown[0]!r}, which is no audio file here; correct or remove that line"
        )
    return found


def _look(source: str) -> Found:
    if "://" in source:
        storage, pattern = _opened(source)
        if storage.local is None:
            return _look_remote(storage, pattern)
        source = "/".join([str(storage.local), *pattern])
    root, matching = Path(source).expanduser(), None
    if root.is_file():
        root, matching = root.parent, [root]
    elif not root.exists() and MAGIC.search(source):
        matching = [Path(path) for path in glob.glob(str(root), recursive=True)]  # noqa: PTH207
        root = Path(*itertools.takewhile(lambda part: not MAGIC.search(part), root.parts))
    if not root.exists():
        raise BadInput(f"there is no folder {source}; give the folder that holds your audio files")
    if not root.is_dir():
        raise BadInput(
            f"{source} is neither a folder nor a file; give the folder that holds your audio files"
        )
    given, root = root, root.resolve()
    table = root / RANGES
    found = Found(root, ranges=read_ranges(table.read_bytes()) if table.is_file() else {})
    _walk(os.fsencode(root), found)
    if matching is not None:
        _keep(found, matching, given)
    return found


def _keep(found: Found, matching: list[Path], given: Path) -> None:
    """Keep of a folder, which was `given` in the same words, what is matching, and why that is not taken."""
    real = {os.fsencode(os.path.realpath(path)) for path in matching}
    kept = [file for file in found.audio if os.path.realpath(file.path) in real]
    for name in {file.name for file in found.audio} - {file.name for file in kept}:
        found.ranges.pop(name, None)
    found.audio[:] = kept
    below = {path.relative_to(given) for path in matching}
    names = {printable(os.fsencode(part)) for path in below for part in (path, *path.parents)}
    found.skipped[:] = [row for row in found.skipped if row["path"] in names]


def _opened(uri: str) -> tuple[Storage, list[str]]:
    """The folder that a URI names, and the pattern below it part by part, empty when all of the folder is meant."""
    place, mark, options = uri.partition("?")
    parts = place.split("/")
    fixed = 3 + sum(1 for _ in itertools.takewhile(lambda part: not MAGIC.search(part), parts[3:]))
    if fixed >= len(parts):
        storage = Storage.open(uri)
        if not storage.is_file():
            return storage, []
        fixed -= 1
    folder = Storage.open("/".join(parts[:fixed]) + mark + options)
    return folder, [_ESCAPED.sub(_literally, part) for part in parts[fixed:]]


def _literally(escapes: re.Match[str]) -> str:
    return glob.escape(urllib.parse.unquote(escapes[0]))


def _matches(path: list[str], pattern: list[str]) -> bool:
    """Part by part, as glob.glob matches; ** is any number of folders."""
    if not path or not pattern:
        return not path and pattern in ([], ["**"])
    if pattern[0] == "**":
        return _matches(path, pattern[1:]) or _matches(path[1:], pattern)
    return fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _look_remote(storage: Storage, pattern: list[str]) -> Found:
    found = Found(None, storage, ranges=read_ranges(storage.read(RANGES)) if storage.exists(RANGES) else {})
    for path, size in storage.walk():
        shown = printable(os.fsencode(path))
        parts = path.split("/")
        if any(part.startswith(".") for part in parts) or shown == RANGES:
            continue
        if pattern and not _matches(parts, pattern):
            found.ranges.pop(shown, None)
            continue
        reason = _not_audio(os.fsencode(path))
        if reason:
            found.skipped.append({"path": shown, "reason": reason})
        else:
            found.audio.append(AudioFile(os.fsencode(path), shown, size))
    return found


def first_reasons(skipped: list[Row], most: int = 3) -> str:
    """The first few skipped files with their reasons, to be put into a sentence; empty when there are none."""
    if not skipped:
        return ""
    rows = "; ".join(f"{row['path']}: {row['reason']}" for row in skipped[:most])
    more = f"; and {len(skipped) - most} more" if len(skipped) > most else ""
    return f" ({rows}{more})"


def printable(path: bytes) -> str:
    """A path for people and JSON: bytes that are not UTF-8 and control characters are written as escapes."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _walk(root: bytes, found: Found) -> None:
    def unreadable(error: OSError) -> None:
        where = os.fsencode(error.filename)
        found.skipped.append({"path": _relative(where, root), "reason": f"can't be listed: {error.strerror}"})

    for folder, folders, names in os.walk(root, onerror=unreadable):
        for name in [
            name for name in folders if (Path(os.fsdecode(folder)) / os.fsdecode(name)).is_symlink()
        ]:
            _note_linked_folder(os.path.join(folder, name), root, found)  # noqa: PTH118
        folders[:] = sorted(name for name in folders if not name.startswith(b"."))
        for name in sorted(names):
            if not name.startswith(b".") and name != os.fsencode(RANGES):
                _sort_file(os.path.join(folder, name), root, found)  # noqa: PTH118


def _sort_file(path: bytes, root: bytes, found: Found) -> None:
    """Put one file among the audio or the skipped."""
    shown = _relative(path, root)
    reason = _not_audio(path) or _unsafe(path, root)
    if reason:
        found.skipped.append({"path": shown, "reason": reason})
    else:
        found.audio.append(AudioFile(path, shown, os.stat(path).st_size))  # noqa: PTH116


def _not_audio(path: bytes) -> str | None:
    suffix = os.path.splitext(printable(path))[1].lower()  # noqa: PTH122
    if suffix in SUFFIXES:
        return None
    if suffix in NOT_READ:
        return f"{suffix} is not read here; convert it to FLAC"
    return f"not audio ({suffix})" if suffix else "not audio (no suffix)"


def _unsafe(path: bytes, root: bytes) -> str | None:
    try:
        real = os.path.realpath(path, strict=True)
        status = os.stat(real)  # noqa: PTH116
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if os.path.commonpath([real, root]) != root:
        return "a link that leads out of the folder is not followed; copy the file here"
    return None if stat.S_ISREG(status.st_mode) else "not a regular file"


def _note_linked_folder(path: bytes, root: bytes, found: Found) -> None:
    """os.walk does not descend into it; say so unless its files are found at their own place anyway."""
    if os.path.commonpath([os.path.realpath(path), root]) != root:
        reason = "a link that leads out of the folder is not followed; copy the files here"
        found.skipped.append({"path": _relative(path, root), "reason": reason})


def _relative(path: bytes, root: bytes) -> str:
    return printable(os.path.relpath(path, root))


def _wanted() -> str:
    return f"audio is {', '.join(sorted(SUFFIXES))}; convert anything else to FLAC"
