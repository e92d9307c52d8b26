"""Many channels to one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samplernn.errors import BadAudio

Block = npt.NDArray[np.float32]
MEAN = "mean"
WAYS = (MEAN, "left", "right", "mid", "side")
"""The mean of all channels; one of the first two; half their sum (mid) or half their difference (side)."""


def mixed(block: Block, way: str) -> Block:
    """[frames, channels] as one channel [frames], contiguous. Raises BadAudio when a channel is missing."""
    channels = block.shape[1]
    if way == MEAN:
        return _mean(block)
    if way == "left":
        return np.ascontiguousarray(block[:, 0])
    if channels < 2:
        raise BadAudio(f"mono={way} needs two channels and this file has one; leave it out or take mono=mean")
    if way == "right":
        return np.ascontiguousarray(block[:, 1])
    other = block[:, 1] if way == "mid" else -block[:, 1]
    return (block[:, 0] + other) * np.float32(0.5)


def _mean(block: Block) -> Block:
    # Column by column: five times as fast as numpy's mean over the last axis of two, and one order of adding.
    if block.shape[1] == 1:
        return np.ascontiguousarray(block[:, 0])
    total = block[:, 0] + block[:, 1]
    for channel in range(2, block.shape[1]):
        total += block[:, channel]
    total *= np.float32(1 / block.shape[1])
    return total
