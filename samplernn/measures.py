"""What can be measured of audio without ears: level, DC, silence, clipping, spectral flatness."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]
FRAME = 1024
SILENCE_DBFS = -60.0
CLIPPED = 0.999
_SKIP_BINS = 2


def rms(audio: Audio) -> float:
    """Root mean square of audio [samples] in [-1, 1]."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if audio.size else 0.0


def dbfs(amplitude: float) -> float:
    """Decibels of full scale; -120 for anything below that."""
    return float(20 * np.log10(max(amplitude, 1e-6)))


def spectral_flatness(audio: Audio) -> float:
    """Geometric over arithmetic mean of the power spectrum, averaged over the frames that are not silent.

    Hann frames of 1,024 samples, half overlapping; Gaussian white noise measures 0.56 (e**-gamma: the log of one
    periodogram bin is biased), a sine almost 0. Frames below -60 dBFS do not count; 0 when there are no others.
    """
    frames = _frames(audio)
    frames = frames[np.sqrt(np.mean(frames**2, axis=1)) > 10 ** (SILENCE_DBFS / 20)]
    if not len(frames):
        return 0.0
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1)) ** 2
    power = power[:, _SKIP_BINS:] + 1e-12
    return float(np.mean(np.exp(np.mean(np.log(power), axis=1)) / np.mean(power, axis=1)))


def silence(audio: Audio) -> float:
    """Share of frames of 1,024 samples below -60 dBFS, in [0, 1]."""
    levels = np.sqrt(np.mean(_frames(audio) ** 2, axis=1))
    return float(np.mean(levels < 10 ** (SILENCE_DBFS / 20))) if len(levels) else 1.0


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


def _frames(audio: Audio) -> npt.NDArray[np.float64]:
    """Half-overlapping frames [frames, 1024]; a shorter signal is padded with zeros to one frame."""
    signal = audio.astype(np.float64)
    if 0 < signal.size < FRAME:
        signal = np.pad(signal, (0, FRAME - signal.size))
    if signal.size == 0:
        return np.zeros((0, FRAME))
    return np.lib.stride_tricks.sliding_window_view(signal, FRAME)[:: FRAME // 2]
