"""Curves as inline SVG: axes with round ticks, a line a trial, the best one highlighted, titles on hover.

Colours and strokes come from style.css through classes, so the markup holds no style of its own and a strict CSP
holds. Lines beyond the first COLOURS are drawn in one quiet colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 58, 30, 16, 48
COLOURS = 7
"""Lines with a colour of their own, the best one included."""
MAX_POINTS = 400
MAX_DOTS = 40
_SPILL = 6
_X, _Y, _W, _H = (
    LEFT - _SPILL,
    TOP - _SPILL,
    WIDTH - LEFT - RIGHT + 2 * _SPILL,
    HEIGHT - TOP - BOTTOM + 2 * _SPILL,
)
_PLOT = {"x": f"{_X}", "y": f"{_Y}", "width": f"{_W}", "height": f"{_H}", "viewBox": f"{_X} {_Y} {_W} {_H}"}
"""The box of the lines; dots on its edge spill over by a few pixels."""


@dataclass(frozen=True)
class Line:
    """One curve. `points` are (x, y) ordered by x; those that are not finite are left out."""

    key: str
    """Identifies the line to the page's scripts (data-trial)."""
    label: str
    points: Sequence[tuple[float, float]]
    colour: int | None = None
    """0 is the best's; up to COLOURS - 1; None is the quiet one."""
    end: str = ""
    """How it ended: done, stopped or failed get different last dots."""


@dataclass(frozen=True)
class Axis:
    """What an axis shows."""

    label: str
    unit: str = ""
    """Said after a value in titles."""


def curve_svg(lines: Sequence[Line], x: Axis, y: Axis, title: str, y_max: float | None = None) -> str:
    """SVG of the lines; `y_max` bounds the axis (what lies above is cut off). No line at all gives bare axes."""
    clean = [(line, _thinned([p for p in line.points if all(map(math.isfinite, p))])) for line in lines]
    xs = [px for _, points in clean for px, _ in points] or [0.0, 1.0]
    ys = [py for _, points in clean for _, py in points] or [0.0, 1.0]
    high = max(ys) if y_max is None else max(min(max(ys), y_max), min(ys))
    x_ticks, y_ticks = ticks(0.0, max(xs), 7), ticks(min(ys), high, 6)
    frame = _Frame(x_ticks[0], max(x_ticks[-1], max(xs)), min(y_ticks[0], min(ys)), max(y_ticks[-1], high))
    attributes = {"class": "curve", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": title}
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **attributes})
    _axes(svg, frame, x_ticks, y_ticks, x, y)
    plot = ET.SubElement(svg, "svg", _PLOT)  # a nested svg cuts off what leaves it, without ids
    for line, points in sorted(clean, key=lambda at: -COLOURS if at[0].colour is None else -at[0].colour):
        _draw(plot, frame, line, points, x, y)
    return ET.tostring(svg, encoding="unicode")


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) that enclose [low, high], about so many."""
    if high <= low:
        low, high = (low - 0.5, low + 0.5) if low else (0.0, 1.0)
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def short(value: float) -> str:
    """A tick's label: 0.5, 3, 20k, 1.5M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if suffix == 'k' else size):.4g}{suffix}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


@dataclass(frozen=True)
class _Frame:
    """From values to pixels."""

    x0: float
    x1: float
    y0: float
    y1: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x0) / ((self.x1 - self.x0) or 1)
        up = (y - self.y0) / ((self.y1 - self.y0) or 1)
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )


def _axes(svg: ET.Element, frame: _Frame, xs: list[float], ys: list[float], x: Axis, y: Axis) -> None:
    group = ET.SubElement(svg, "g", {"class": "axes", "aria-hidden": "true"})
    for value in ys:
        _, at = frame.at(frame.x0, value)
        ET.SubElement(group, "path", {"class": "grid", "d": f"M{LEFT} {at}H{WIDTH - RIGHT}"})
        _text(group, short(value), LEFT - 10, at + 4, "end")
    for value in xs:
        at, _ = frame.at(value, frame.y0)
        ET.SubElement(group, "path", {"class": "tick", "d": f"M{at} {HEIGHT - BOTTOM}v5"})
        _text(group, short(value), at, HEIGHT - BOTTOM + 20, "middle")
    _text(group, x.label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "middle", "label")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    label = _text(group, y.label, 14, middle, "middle", "label")
    label.set("transform", f"rotate(-90 14 {middle})")


def _draw(
    plot: ET.Element, frame: _Frame, line: Line, points: list[tuple[float, float]], x: Axis, y: Axis
) -> None:
    if not points:
        return
    colour = "quiet" if line.colour is None else f"c{line.colour}"
    group = ET.SubElement(plot, "g", {"class": f"line {colour}", "data-trial": line.key})
    ET.SubElement(group, "title").text = f"{line.label}: {points[-1][1]:.3f} {y.unit} {line.end}".strip()
    path = " ".join(f"{a} {b}" for a, b in (frame.at(*point) for point in points))
    ET.SubElement(group, "path", {"class": "stroke", "d": f"M{path}"})
    ET.SubElement(group, "path", {"class": "reach", "d": f"M{path}"})
    shown = points if len(points) <= MAX_DOTS else points[-1:]
    for px, py in shown:
        cx, cy = frame.at(px, py)
        kind = f"dot last {line.end}" if (px, py) == points[-1] else "dot"
        dot = ET.SubElement(
            group, "circle", {"class": kind.strip(), "cx": f"{cx}", "cy": f"{cy}", "r": "3.2"}
        )
        ET.SubElement(dot, "title").text = f"{line.label}: {py:.3f} {y.unit} at {short(px)} {x.unit}".strip()


def _text(group: ET.Element, text: str, x: float, y: float, anchor: str, kind: str = "value") -> ET.Element:
    where = {"x": f"{round(x, 1)}", "y": f"{round(y, 1)}", "text-anchor": anchor, "class": kind}
    element = ET.SubElement(group, "text", where)
    element.text = text
    return element


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS of the points, evenly, the last always among them."""
    stride = -(-len(points) // MAX_POINTS) or 1
    return points[::stride] if stride == 1 else [*points[:-1:stride], points[-1]]
