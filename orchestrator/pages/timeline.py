"""A track on a line of time, as inline SVG: its waveform, and below it which part belongs to which split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from orchestrator.pages.render import clock
from samplernn.passages import Passages

WIDTH, WAVE, BAND = 760, 44, 10
_GAP = 4


def timeline_svg(
    wave: Sequence[Sequence[int]], samples: int, sample_rate: int, splits: Mapping[str, Passages], title: str
) -> str:
    """SVG of a whole track with the lows and highs of `wave`, int16; what is in no split (guards, what cleaning left
    out) is left blank in the band."""
    height = WAVE + _GAP + BAND
    attributes = {"class": "timeline", "viewBox": f"0 0 {WIDTH} {height}", "preserveAspectRatio": "none"}
    about = {"role": "img", "aria-label": title}
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **attributes, **about})
    ET.SubElement(svg, "path", {"class": "wave", "d": _wave(*wave)})
    ET.SubElement(svg, "rect", {"class": "unused", **_box(0, samples, samples)})
    for split, passages in splits.items():
        for start, stop in passages:
            rect = ET.SubElement(svg, "rect", {"class": split, **_box(start, stop, samples)})
            when = f"{clock(start / sample_rate)} to {clock(stop / sample_rate)}"
            ET.SubElement(rect, "title").text = f"{split}: {when}"
    return ET.tostring(svg, encoding="unicode")


def _wave(lows: Sequence[int], highs: Sequence[int]) -> str:
    lows, highs = ([*one, one[-1]] for one in (lows, highs))  # the last column is as wide as the others
    step, middle = WIDTH / (len(lows) - 1), WAVE / 2
    up = [f"{at * step:.1f} {middle - high / 32768 * middle:.1f}" for at, high in enumerate(highs)]
    down = [f"{at * step:.1f} {middle - low / 32768 * middle:.1f}" for at, low in enumerate(lows)]
    return f"M{' '.join([*up, *reversed(down)])}Z"


def _box(start: int, stop: int, samples: int) -> dict[str, str]:
    scale = WIDTH / max(1, samples)
    width = f"{max(0.5, (stop - start) * scale):.2f}"
    return {"x": f"{start * scale:.2f}", "y": f"{WAVE + _GAP}", "width": width, "height": f"{BAND}"}
