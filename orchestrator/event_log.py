"""What happened, one line an event, in a file for people and their tools: `2026-11-25T04:50:12Z song song=0001 ...`.

It is no truth: the journal is. So it lies on this machine's disk, beside the batch where that is here too.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from samplernn.chunks import cache_folder
from samplernn.storage import Storage

LOGS = "logs"


class EventLog:
    """The log of one run of a command: a file of its own, each line on the disk when `add` returns."""

    def __init__(self, folder: Storage) -> None:
        """`folder` is the batch's."""
        self.path, self._file = _new_file(folder)

    def add(self, event: str, **what: Any) -> None:
        """One line: the time, the event, and key=value with values in JSON where they are not plain words."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._file.write(
            " ".join([now, event, *(f"{key}={_shown(value)}" for key, value in what.items())]) + "\n"
        )
        self._file.flush()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.add(
            "end", error=None if error is None else f"{type(error).__name__}: {error}".removesuffix(": ")
        )
        self._file.close()


def _new_file(folder: Storage) -> tuple[Path, TextIO]:
    where = (folder.local or cache_folder().with_name(f"samplernn-{folder.root.replace('/', '-')}")) / LOGS
    where.mkdir(parents=True, exist_ok=True)
    number = len(list(where.iterdir())) + 1
    while True:
        path = where / f"{number:04d}.log"
        try:
            return path, path.open("x", encoding="utf-8")
        except FileExistsError:
            number += 1


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    plain = text and not any(c.isspace() or c in '"=' for c in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
