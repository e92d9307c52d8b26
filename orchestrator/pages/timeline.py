"""A track on a line of time, as inline SVG: its waveform, and below it which part belongs to which split."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from xml.etree import ElementTree as ET

import numpy as np

from orchestrator.pages.render import clock
from samplernn.chunks import BATCH
from samplernn.passages import Passages
from samplernn.spectrogram import Samples

WIDTH, WAVE, BAND = 760, 44, 10
_GAP = 4
_COLUMNS = WIDTH // 2


def timeline_svg(pcm: Samples, sample_rate: int, splits: Mapping[str, Passages], title: str) -> str:
    """SVG of the whole track; what is in no split (guards, what cleaning left out) is left blank in the band."""
    height = WAVE + _GAP + BAND
    attributes = {"class": "timeline", "viewBox": f"0 0 {WIDTH} {height}", "preserveAspectRatio": "none"}
    about = {"role": "img", "aria-label": title}
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **attributes, **about})
    ET.SubElement(svg, "path", {"class": "wave", "d": _wave(pcm)})
    ET.SubElement(svg, "rect", {"class": "unused", **_box(0, len(pcm), len(pcm))})
    for split, passages in splits.items():
        for start, stop in passages:
            rect = ET.SubElement(svg, "rect", {"class": split, **_box(start, stop, len(pcm))})
            when = f"{clock(start / sample_rate)} to {clock(stop / sample_rate)}"
            ET.SubElement(rect, "title").text = f"{split}: {when}"
    return ET.tostring(svg, encoding="unicode")


def extremes(pcm: Samples, columns: int) -> tuple[list[int], list[int]]:
    """The lowest and highest sample of each of `columns` equal parts; a long sound is read in pieces."""
    edges = np.linspace(0, len(pcm), columns + 1).astype(np.int64).tolist()
    lows, highs = [], []
    for start, stop in itertools.pairwise(edges):
        pieces = [pcm[at : min(at + BATCH, stop)] for at in range(start, stop, BATCH)] or [
            np.zeros(1, np.int16)
        ]
        lows.append(min(int(piece.min()) for piece in pieces))
        highs.append(max(int(piece.max()) for piece in pieces))
    return lows, highs


def _wave(pcm: Samples) -> str:
    lows, highs = extremes(pcm, min(_COLUMNS, max(1, len(pcm))))
    step, middle = WIDTH / len(lows), WAVE / 2
    up = [f"{at * step:.1f} {middle - high / 32768 * middle:.1f}" for at, high in enumerate(highs)]
    down = [f"{at * step:.1f} {middle - low / 32768 * middle:.1f}" for at, low in enumerate(lows)]
    return f"M{' '.join([*up, *reversed(down)])}Z"


def _box(start: int, stop: int, samples: int) -> dict[str, str]:
    scale = WIDTH / max(1, samples)
    width = f"{max(0.5, (stop - start) * scale):.2f}"
    return {"x": f"{start * scale:.2f}", "y": f"{WAVE + _GAP}", "width": width, "height": f"{BAND}"}
