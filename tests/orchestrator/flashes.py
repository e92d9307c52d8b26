"""What a window shows over time, and whether anything in it flashes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

BLOCKS = (16, 12)
"""Columns and rows that the window is looked at in."""
FLASH = 0.1
"""A change of relative luminance that counts, by WCAG 2.3.1's general flash."""
WITHIN_S = 1.0
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
        """Take one picture in."""
        image = Image.open(io.BytesIO(picture)).convert("RGB").resize(BLOCKS, Image.Resampling.BOX)
        part = np.asarray(image) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        self.at.append(at)
        self.light.append(linear @ [0.2126, 0.7152, 0.0722])

    def flashes(self) -> dict[float, int]:
        """Moments in seconds at which AT_ONCE blocks or more are amid a change and its reverse, and how many are."""
        light, at = np.stack(self.light), np.array(self.at)
        found = {}
        for middle in range(1, len(at) - 1):
            before = light[:middle][at[:middle] > at[middle] - WITHIN_S] - light[middle]
            after = light[middle + 1 :][at[middle + 1 :] < at[middle] + WITHIN_S] - light[middle]
            if len(before) and len(after):
                up = (before.max(0) > FLASH) & (after.max(0) > FLASH)
                down = (before.min(0) < -FLASH) & (after.min(0) < -FLASH)
                found[round(float(at[middle] - at[0]), 2)] = int((up | down).sum())
        return {moment: blocks for moment, blocks in found.items() if blocks >= AT_ONCE}


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
