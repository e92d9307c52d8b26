"""Which part of a track a person wants: `ranges.csv` beside the audio, with the columns file, start and stop.

    file,start,stop
    01 Intro.flac,0:12,3:40
    live/side a.wav,95.5,

Times are seconds or m:ss or h:mm:ss; an empty stop is the end. A file may have several lines; one without any is taken
whole.
"""

from __future__ import annotations

import csv
import io
import math
import re

from samplernn.errors import BadInput

RANGES = "ranges.csv"
COLUMNS = ["file", "start", "stop"]
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)\Z")

Span = tuple[float, float | None]


def read_ranges(data: bytes) -> dict[str, list[Span]]:
    """For each file its (start, stop) in seconds, in order. Raises BadInput that names every bad line."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{RANGES} is not UTF-8 ({error}); save it again as UTF-8") from error
    rows = csv.reader(io.StringIO(text, newline=""))
    head = [cell.strip().lower() for cell in next(rows, [])]
    if head != COLUMNS:
        raise BadInput(f"{RANGES} begins with {','.join(head)!r}; its first line must be {','.join(COLUMNS)}")
    ranges: dict[str, list[Span]] = {}
    problems = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        try:
            name, span = _row(row)
            ranges.setdefault(name, []).append(span)
        except ValueError as error:
            problems.append(f"{RANGES} line {rows.line_num}: {error}")
    problems += [problem for name, spans in ranges.items() for problem in _overlaps(name, spans)]
    if problems:
        raise BadInput("\n".join(problems))
    return ranges


def _row(row: list[str]) -> tuple[str, Span]:
    cells = [cell.strip() for cell in row]
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} columns; give {', '.join(COLUMNS)} (put names with commas in quotes)")
    start = _seconds(cells[1]) if cells[1] else 0.0
    stop = _seconds(cells[2]) if cells[2] else None
    if stop is not None and stop <= start:
        raise ValueError(f"stop {cells[2]} is not after start {cells[1]}; swap or correct them")
    return cells[0], (start, stop)


def _seconds(text: str) -> float:
    match = _TIME.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a time; write seconds (95.5) or m:ss (1:35.5)")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def _overlaps(name: str, spans: list[Span]) -> list[str]:
    spans.sort(key=lambda span: span[0])
    ends = [math.inf if stop is None else stop for _, stop in spans]
    if any(start < end for (start, _), end in zip(spans[1:], ends, strict=False)):
        return [f"{RANGES}: the ranges of {name} overlap; join them"]
    return []
