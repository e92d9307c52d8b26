"""Labelled horizontal bars as inline SVG, for comparing a few measured values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

WIDTH, ROW = 760, 34
LABEL, VALUE = 160, 60


@dataclass(frozen=True)
class Bar:
    """One value and how it is drawn: ours, theirs or limit (classes of style.css)."""

    label: str
    value: float
    kind: str


def bars_svg(bars: Sequence[Bar], title: str) -> str:
    """SVG of the bars, all from zero on one scale."""
    height = ROW * len(bars)
    scale = (WIDTH - LABEL - VALUE) / (max((bar.value for bar in bars), default=0.0) or 1.0)
    attributes = {"class": "bars", "viewBox": f"0 0 {WIDTH} {height}", "role": "img", "aria-label": title}
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **attributes})
    for index, bar in enumerate(bars):
        middle = index * ROW + ROW / 2
        group = ET.SubElement(svg, "g", {"class": f"bar {bar.kind}"})
        ET.SubElement(group, "title").text = f"{bar.label}: {bar.value:.3f}"
        length = f"{max(1.0, bar.value * scale):.1f}"
        box = {"x": f"{LABEL}", "y": f"{middle - 7}", "width": length, "height": "14", "rx": "2"}
        ET.SubElement(group, "rect", box)
        label = {"x": "0", "y": f"{middle + 4.5}"}
        ET.SubElement(group, "text", label).text = bar.label
        value = {"x": f"{LABEL + float(length) + 10:.1f}", "y": f"{middle + 4.5}", "class": "value"}
        ET.SubElement(group, "text", value).text = f"{bar.value:.3f}"
    return ET.tostring(svg, encoding="unicode")
