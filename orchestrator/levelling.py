"""DC and level of a whole track, changed block by block: the signal is heard once, kept in a file, and read again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from orchestrator.config import Clean
from samplernn.errors import StorageError
from samplernn.loudness import LoudnessMeter
from samplernn.measures import dbfs

Signal = npt.NDArray[np.float32]
PEAK_DBFS, LUFS = -1.0, -16.0
_BLOCK_BYTES = 2**20


@dataclass
class Levelled:
    """A track's signal as it is to be kept, and what was done to it."""

    blocks: Iterable[Signal]
    done: dict[str, float] = field(default_factory=dict)
    """dc: what was subtracted, as a share of full scale; gain_db; lufs: the loudness it had."""


@contextmanager
def levelled(signal: Iterable[Signal], clean: Clean, sample_rate: int) -> Iterator[Levelled]:
    """The signal with its DC and level brought where `clean` wants them; untouched and read once when it wants nothing.

    Raises StorageError when there is no room for the temporary file.
    """
    if not clean.remove_dc and clean.level is None:
        yield Levelled(signal)
        return
    with tempfile.TemporaryFile() as spool:
        heard = _Heard(LoudnessMeter(sample_rate) if clean.level == "lufs" else None)
        for block in signal:
            heard.add(block)
            try:
                spool.write(block.data)
            except OSError as error:
                raise StorageError(
                    f"can't write a temporary file in {tempfile.gettempdir()}: {error.strerror}; free some space "
                    "there, or set TMPDIR"
                ) from error
        dc = np.float32(heard.mean if clean.remove_dc else 0.0)
        done = {"dc": float(dc)} if clean.remove_dc else {}
        gain, told = _gain(heard, float(dc), clean)
        spool.seek(0)
        blocks = (
            (np.frombuffer(data, np.float32) - dc) * np.float32(gain)
            for data in iter(lambda: spool.read(_BLOCK_BYTES), b"")
        )
        yield Levelled(blocks, done | told)


class _Heard:
    """Mean, extremes and loudness of what went by."""

    def __init__(self, loudness: LoudnessMeter | None) -> None:
        self.loudness = loudness
        self.low, self.high = 0.0, 0.0
        self._sum, self._samples = 0.0, 0

    def add(self, block: Signal) -> None:
        first = not self._samples
        low, high = float(block.min()), float(block.max())
        self.low, self.high = (low, high) if first else (min(self.low, low), max(self.high, high))
        self._sum += float(np.sum(block, dtype=np.float64))
        self._samples += len(block)
        if self.loudness:
            self.loudness.hear(block)

    @property
    def mean(self) -> float:
        return self._sum / self._samples if self._samples else 0.0


def _gain(heard: _Heard, dc: float, clean: Clean) -> tuple[float, dict[str, float]]:
    """The factor that brings a track to its level, and what to tell of it; silence is left as it is."""
    peak = max(heard.high - dc, dc - heard.low)
    if clean.level is None or peak <= 0:
        return 1.0, {}
    if clean.level == "peak":
        gain = 10 ** ((PEAK_DBFS if clean.level_to is None else clean.level_to) / 20) / peak
        return gain, {"gain_db": dbfs(gain)}
    lufs = heard.loudness.integrated if heard.loudness else None
    if lufs is None:
        return 1.0, {}
    gain = 10 ** (((LUFS if clean.level_to is None else clean.level_to) - lufs) / 20)
    gain = min(gain, max(1.0, 10 ** (PEAK_DBFS / 20) / peak))
    return gain, {"gain_db": dbfs(gain), "lufs": lufs}
