"""Parallel coordinates as inline SVG: an axis a hyperparameter, the bits last, a line a trial.

Classes and data-trial are those of curves.py, so that style.css colours the lines and curve.js lights them up.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from orchestrator.pages.curves import COLOURS, short

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 40, 60, 24, 44
MOST_SINGLE = 8
"""Different values up to which each has a place and a label of its own."""
LOG_RATIO = 20.0
"""Numbers that span more than this are laid out on a logarithmic scale."""


@dataclass(frozen=True)
class Column:
    """One axis: a value for each trial, in the order of the trials; a None leaves the line out there."""

    label: str
    values: Sequence[Any]


@dataclass(frozen=True)
class Trace:
    """How a trial's line is drawn."""

    key: str
    label: str
    colour: int | None


def parallel_svg(traces: Sequence[Trace], columns: Sequence[Column], title: str) -> str:
    """SVG of the traces over the columns; the first column is on the left."""
    attributes = {
        "class": "curve parallel",
        "viewBox": f"0 0 {WIDTH} {HEIGHT}",
        "role": "img",
        "aria-label": title,
    }
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **attributes})
    axes = ET.SubElement(svg, "g", {"class": "axes", "aria-hidden": "true"})
    traced, labels = ET.SubElement(svg, "g"), ET.SubElement(svg, "g", {"aria-hidden": "true"})
    step = (WIDTH - LEFT - RIGHT) / max(1, len(columns) - 1)
    heights = []
    for index, column in enumerate(columns):
        x = LEFT + index * step
        at, marks = _scale(column.values)
        heights.append(at)
        ET.SubElement(axes, "path", {"class": "tick", "d": f"M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"})
        for place, text in marks:
            _text(labels, text, x + 7, _y(place) + 4, "start", "value")
        anchor = "start" if index == 0 else "end" if index == len(columns) - 1 else "middle"
        _text(axes, column.label, x + (RIGHT - 4 if anchor == "end" else 0), HEIGHT - 14, anchor, "label")
    order = sorted(
        range(len(traces)), key=lambda i: -COLOURS if traces[i].colour is None else -(traces[i].colour or 0)
    )
    for number in order:
        _draw(traced, traces[number], [at[number] for at in heights], step)
    return ET.tostring(svg, encoding="unicode")


def _draw(traced: ET.Element, trace: Trace, places: list[float | None], step: float) -> None:
    points = [f"{LEFT + i * step:.1f} {_y(at):.1f}" for i, at in enumerate(places) if at is not None]
    if len(points) < 2:
        return
    colour = "quiet" if trace.colour is None else f"c{trace.colour}"
    group = ET.SubElement(traced, "g", {"class": f"line {colour}", "data-trial": trace.key})
    ET.SubElement(group, "title").text = trace.label
    for kind in ("stroke", "reach"):
        ET.SubElement(group, "path", {"class": kind, "d": "M" + " ".join(points)})


def _scale(values: Sequence[Any]) -> tuple[list[float | None], list[tuple[float, str]]]:
    """(a place from 0 to 1 for each value, labels at places)."""
    there = [value for value in values if value is not None]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in there)
    texts = {json.dumps(value): value for value in there}
    if len(texts) <= MOST_SINGLE and not (
        numeric and any(isinstance(v, float) for v in there) and len(texts) > 4
    ):
        ordered = sorted(texts, key=(lambda text: texts[text]) if numeric or _lists(there) else str)
        place = {text: at / max(1, len(ordered) - 1) for at, text in enumerate(ordered)}
        marks = [(place[text], _said(texts[text])) for text in ordered]
        return [None if value is None else place[json.dumps(value)] for value in values], marks
    if not numeric:
        ordered = sorted(texts)
        place = {text: at / (len(ordered) - 1) for at, text in enumerate(ordered)}
        return [None if value is None else place[json.dumps(value)] for value in values], []
    low, high = min(there), max(there)
    log = low > 0 and high / low > LOG_RATIO
    a, b = (math.log(low), math.log(high)) if log else (float(low), float(high))
    found = [None if v is None else ((math.log(v) if log else v) - a) / ((b - a) or 1.0) for v in values]
    middle = math.exp((a + b) / 2) if log else (a + b) / 2
    return found, [(0.0, _said(low)), (0.5, _said(middle)), (1.0, _said(high))]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "×".join(map(str, value))
    return short(float(f"{value:.3g}")) if isinstance(value, float) else str(value)


def _lists(values: list[Any]) -> bool:
    return all(isinstance(value, list) for value in values)


def _y(place: float) -> float:
    return HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM)


def _text(group: ET.Element, text: str, x: float, y: float, anchor: str, kind: str) -> None:
    where = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": kind}
    ET.SubElement(group, "text", where).text = text
