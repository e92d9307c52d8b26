"""What can be measured of audio without ears: level, DC, silence, clipping, spectral flatness."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]
FRAME = 1024
SILENCE_DBFS = -60.0
CLIPPED = 0.999
_SKIP_BINS = 2
_BLOCK = 2**20


def rms(audio: Audio) -> float:
    """Root mean square of audio [samples] in [-1, 1]."""
    if not audio.size:
        return 0.0
    blocks = (audio[at : at + _BLOCK] for at in range(0, audio.size, _BLOCK))
    return float(
        np.sqrt(sum(float(np.sum(np.square(block, dtype=np.float64))) for block in blocks) / audio.size)
    )


def dbfs(amplitude: float) -> float:
    """Decibels of full scale; -120 for anything below that."""
    return float(20 * np.log10(max(amplitude, 1e-6)))


def spectral_flatness(audio: Audio) -> float:
    """Geometric over arithmetic mean of the power spectrum, averaged over the frames that are not silent.

    Hann frames of 1,024 samples, half overlapping; Gaussian white noise measures 0.56 (e**-gamma: the log of one
    periodogram bin is biased), a sine almost 0. Frames below -60 dBFS do not count; 0 when there are no others.
    """
    total, count = 0.0, 0
    for frames in _frames(audio):
        heard = frames[_levels(frames) > 10 ** (SILENCE_DBFS / 20)]
        total += float(np.sum(frame_flatness(heard)))
        count += len(heard)
    return total / count if count else 0.0


def frame_flatness(frames: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Spectral flatness of each frame [frames, 1024]."""
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME).astype(frames.dtype), axis=1)) ** 2
    power = power[:, _SKIP_BINS:] + 1e-12
    flatness: npt.NDArray[np.floating] = np.exp(np.mean(np.log(power), axis=1)) / np.mean(power, axis=1)
    return flatness


def silence(audio: Audio) -> float:
    """Share of frames of 1,024 samples below -60 dBFS, in [0, 1]."""
    silent = [_levels(frames) < 10 ** (SILENCE_DBFS / 20) for frames in _frames(audio)]
    return float(np.mean(np.concatenate(silent))) if silent else 1.0


def measure(audio: Audio) -> dict[str, float]:
    """All measures of audio [samples] in [-1, 1]; levels in dBFS, shares in [0, 1]."""
    return {
        "rms_dbfs": dbfs(rms(audio)),
        "peak_dbfs": dbfs(float(np.max(np.abs(audio), initial=0.0))),
        "dc": float(np.mean(audio, dtype=np.float64)) if audio.size else 0.0,
        "clipped": float(np.mean(np.abs(audio) >= CLIPPED)) if audio.size else 0.0,
        "silence": silence(audio),
        "flatness": spectral_flatness(audio),
    }


def _frames(audio: Audio) -> Iterator[npt.NDArray[np.float64]]:
    """Half-overlapping frames [<= 1024 frames, 1024], block after block, so that an hour of audio fits in memory.

    A signal shorter than a frame is padded with zeros to one.
    """
    if 0 < audio.size < FRAME:
        audio = np.pad(audio, (0, FRAME - audio.size))
    step, block = FRAME // 2, _BLOCK // 2
    for at in range(0, audio.size - FRAME + 1, block):
        signal = audio[at : at + block + step].astype(np.float64)
        yield np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::step]


def _levels(frames: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Root mean square of each frame [frames, 1024]."""
    return np.asarray(np.sqrt(np.mean(frames**2, axis=1)))
