"""A picture of sound as a PNG: samplernn.spectrogram's shades in a perceptual colour map."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from samplernn.spectrogram import MAX_WIDTH, Samples, shades, spectrogram

_INFERNO = np.array(
    [
        [0.00021894, 0.00165100, -0.01948090],
        [0.10651342, 0.56395644, 3.93271239],
        [11.60249308, -3.97285397, -15.94239411],
        [-41.70399613, 17.43639888, 44.35414520],
        [77.16293570, -33.40235894, -81.80730926],
        [-71.31942825, 32.62606426, 73.20951986],
        [25.13112622, -12.24266895, -23.07032500],
    ]
)
"""Inferno of matplotlib (Smith and van der Walt, CC0) as a polynomial of degree 6 (fit by M. Zucker, public domain)."""


def spectrogram_png(
    pcm: Samples, sample_rate: int, height: int = 160, widest: int = MAX_WIDTH, rms: float | None = None
) -> bytes:
    """PNG of the spectrogram in the shades below; `rms` is the sound's level where it is known already."""
    return to_png(shades(spectrogram(pcm, sample_rate, height, widest), pcm, rms))


def to_png(shaded: npt.NDArray[np.uint8]) -> bytes:
    """PNG of places in the colour map [height, width]."""
    picture = Image.fromarray(shaded)
    picture.putpalette(colour_map().tobytes())
    png = io.BytesIO()
    picture.save(png, format="PNG", optimize=True)
    return png.getvalue()


def colour_map() -> npt.NDArray[np.uint8]:
    """The 256 colours [256, 3], dark to bright."""
    powers = np.linspace(0, 1, 256)[:, None] ** np.arange(len(_INFERNO))
    return np.asarray((np.clip(powers @ _INFERNO, 0, 1) * 255).round().astype(np.uint8))
