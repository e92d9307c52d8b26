"""The cover: a given picture, or one drawn from the album's own sound."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from orchestrator.album.tracklist import Track
from orchestrator.pages.spectrogram import colour_map
from samplernn.errors import BadInput
from samplernn.spectrogram import spectrogram

COVER = "cover.png"
VERSION = 1
"""Raised whenever the same album would get another cover."""
SIZE = 1400
_MARGIN = 100
_RANGE_DB = 60.0
_MOST_PIXELS = 64_000_000
_INK, _PAPER = (236, 230, 220), (10, 10, 12)


def given_cover(path: str) -> bytes:
    """A person's own picture as a PNG of SIZE x SIZE, its middle square. Raises BadInput when it is none."""
    try:
        with Image.open(Path(path).expanduser()) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise BadInput(
                    f"the cover {path} has {picture.width} x {picture.height} pixels; make it smaller"
                )
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            square = picture.convert("RGB").crop((left, top, left + side, top + side)).resize((SIZE, SIZE))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"the cover {path} can't be read as a picture ({error}); give a PNG or JPEG"
        ) from error
    return _png(square)


def drawn_cover(tracks: Sequence[Track], title: str, artist: str) -> bytes:
    """Every track's spectrogram as a band of the same height, the first on top, with the title below."""
    picture = Image.new("RGB", (SIZE, SIZE), _PAPER)
    width, bottom = SIZE - 2 * _MARGIN, SIZE - 3 * _MARGIN
    height = (bottom - _MARGIN) // len(tracks)
    for at, track in enumerate(tracks):
        band = _band(track, width, max(1, height - (6 if height > 20 else 0)))
        picture.paste(band, (_MARGIN, _MARGIN + at * height))
    pen = ImageDraw.Draw(picture)
    pen.text((_MARGIN, bottom + 50), title, font=_font(title, width, 110), fill=_INK, anchor="lt")
    pen.text((_MARGIN, SIZE - _MARGIN + 10), artist, font=_font(artist, width, 44), fill=_INK, anchor="ls")
    return _png(picture)


def _band(track: Track, width: int, height: int) -> Image.Image:
    levels = spectrogram(track.read(), track.rate)
    shades = np.clip((levels - np.percentile(levels, 99.5)) / _RANGE_DB + 1, 0, 1) ** 1.4
    band = Image.fromarray((shades * 255).round().astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    band.putpalette(colour_map().tobytes())
    return band.convert("RGB")


def _font(text: str, width: int, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own typeface at the largest size up to `size` at which the text fits."""
    while size > 12 and ImageFont.load_default(size).getlength(text) > width:
        size -= 2
    return ImageFont.load_default(size)


def _png(picture: Image.Image) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, format="PNG", optimize=True)
    return sink.getvalue()
