"""What a window shows over time, and whether anything in it flashes."""

from __future__ import annotations

import base64
import io
from bisect import bisect
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

BLOCKS = (16, 12)
"""Columns and rows that the window is looked at in."""
FLASH = 0.1
"""A change of relative luminance that counts, by WCAG 2.3.1's general flash."""
WITHIN_S = 1.0
"""How long a change and its reverse take together, at most."""
AT_ONCE = 3
"""Blocks; at 1200 x 800 the criterion's area, a quarter of 341 x 256 pixels, is four and a half."""


class Watched:
    """Every picture that the window painted while it was watched."""

    def __init__(self) -> None:
        self.at: list[float] = []
        """Seconds."""
        self.light: list[np.ndarray] = []
        """(rows, columns) relative luminance, 0 to 1."""

    def see(self, picture: bytes, at: float) -> None:
        """Take one picture in. They may come in any order: the browser hands over one while another is answered."""
        image = Image.open(io.BytesIO(picture)).convert("RGB").resize(BLOCKS, Image.Resampling.BOX)
        part = np.asarray(image) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        place = bisect(self.at, at)
        self.at.insert(place, at)
        self.light.insert(place, linear @ [0.2126, 0.7152, 0.0722])

    def flashes(self) -> dict[float, int]:
        """Moments in seconds at which AT_ONCE blocks or more are amid a change and its reverse, and how many are."""
        light, at = np.stack(self.light), np.array(self.at)
        amid = np.zeros(light.shape, dtype=bool)
        for first in range(len(at)):
            end = int(np.searchsorted(at, at[first] + WITHIN_S))
            for middle in range(first + 1, end - 1):
                before, after = light[first] - light[middle], light[middle + 1 : end] - light[middle]
                amid[middle] |= (before > FLASH) & (after.max(0) > FLASH)
                amid[middle] |= (before < -FLASH) & (after.min(0) < -FLASH)
        blocks = amid.sum((1, 2))
        return {round(at[n] - at[0], 2): int(blocks[n]) for n in np.flatnonzero(blocks >= AT_ONCE)}


@contextmanager
def watched(page) -> Iterator[Watched]:
    """Collect what a Playwright page paints; pictures arrive while the page is waited for."""
    seen = Watched()
    wire = page.context.new_cdp_session(page)

    def take(frame) -> None:
        wire.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})
        seen.see(base64.b64decode(frame["data"]), frame["metadata"]["timestamp"])

    wire.on("Page.screencastFrame", take)
    wire.send("Page.startScreencast", {"format": "png", "everyNthFrame": 1})
    yield seen
    wire.send("Page.stopScreencast")
    wire.detach()
