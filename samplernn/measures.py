"""What can be measured of audio without ears: level, loudness, DC, silence, clipping, spectrum, repetition."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]
FRAME = 1024
SILENCE_DBFS = -60.0
CLIPPED = 0.999
REPETITION_SECONDS = 4
"""Audio in which `repetition` looks for one; it finds periods up to half of it."""
REPETITION_RATE = 4_000
"""Hz, about: `repetition` looks below half of it."""
BANDS, LOWEST_HZ = 24, 60.0
_OVERSAMPLING = 8
"""A tone near half the sample rate peaks up to 0.17 dB above what is seen at 8 x; at 4 x it would be 0.69."""
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
    bins = np.fft.rfft(frames * _hann().astype(frames.dtype, copy=False), axis=1)[:, _SKIP_BINS:]
    power = bins.real**2 + bins.imag**2 + 1e-12
    flatness: npt.NDArray[np.floating] = np.exp(np.mean(np.log(power), axis=1)) / np.mean(power, axis=1)
    return flatness


@cache
def _hann() -> npt.NDArray[np.float64]:
    window = np.hanning(FRAME)
    window.flags.writeable = False  # one array for all who ask
    return window


def silence(audio: Audio) -> float:
    """Share of frames of 1,024 samples below -60 dBFS, in [0, 1]."""
    silent = [_levels(frames) < 10 ** (SILENCE_DBFS / 20) for frames in _frames(audio)]
    return float(np.mean(np.concatenate(silent))) if silent else 1.0


def decimate(audio: Audio, sample_rate: int) -> Audio:
    """Audio at about REPETITION_RATE, each sample the mean of the `sample_rate // REPETITION_RATE` it stands for."""
    factor = max(1, sample_rate // REPETITION_RATE)
    whole = audio[: len(audio) // factor * factor]
    coarse: Audio = whole.reshape(-1, factor).mean(axis=1, dtype=np.float32)
    return coarse


def repetition(audio: Audio) -> tuple[float, int]:
    """How much the second half of audio [samples] repeats what came before it, and after how many samples.

    The largest normalised cross-correlation, in [0, 1], of the second half with the audio `period` samples earlier,
    beyond the first lag at which it falls below 1/2: a smooth signal resembles itself at every short lag. A loop and a
    steady tone measure 1, four excerpts of metal up to 0.87, noise almost 0. The search is one FFT.
    """
    if not audio.size:
        return 0.0, 0
    x = audio.astype(np.float32) - np.float32(np.mean(audio, dtype=np.float64))
    half = len(x) // 2
    late, size = x[half:], 1 << (len(x) - 1).bit_length()
    # Places 0 .. half of the correlation don't wrap around as long as the whole signal fits.
    products = np.fft.irfft(np.fft.rfft(x, size) * np.conj(np.fft.rfft(late, size)), size)[half::-1]
    energy = np.concatenate(([0.0], np.cumsum(np.square(x, dtype=np.float64))))
    starts = half - np.arange(half + 1)
    energies = energy[starts + len(late)] - energy[starts]
    alike = products / np.sqrt(np.maximum(energies * energies[0], 1e-12))
    far = np.flatnonzero(alike < 0.5)
    if not len(far):
        return 0.0, 0
    period = int(far[0] + np.argmax(alike[far[0] :]))
    return float(np.clip(alike[period], 0, 1)), period


def loudness(audio: Audio, sample_rate: int) -> float | None:
    """Integrated loudness in LUFS (ITU-R BS.1770-4, gated) of mono audio; None below 0.4 s, or where all is silent."""
    from samplernn.loudness import SHORTEST_SECONDS, LoudnessMeter

    if len(audio) < SHORTEST_SECONDS * sample_rate:
        return None  # and scipy need not be loaded for it
    return LoudnessMeter(sample_rate).hear(audio).integrated


def true_peaks(audio: Audio, sample_rate: int) -> Audio:
    """The largest magnitude near every sample [samples] of the signal between the samples (8 x oversampled)."""
    if not audio.size:
        return audio
    import soxr

    fine = np.abs(soxr.resample(audio, sample_rate, _OVERSAMPLING * sample_rate, quality="VHQ"))
    fine = np.pad(fine, (0, _OVERSAMPLING * audio.size))[: _OVERSAMPLING * audio.size]
    near = fine.reshape(-1, _OVERSAMPLING).max(axis=1)
    return np.asarray(np.maximum(near, np.abs(audio)), dtype=np.float32)


def band_levels(audio: Audio, sample_rate: int) -> npt.NDArray[np.float64]:
    """Mean power of each second in BANDS bands, in dB [seconds, BANDS]; bands are equally wide in octaves."""
    edges = np.geomspace(LOWEST_HZ, sample_rate / 2, BANDS + 1)
    bins = np.fft.rfftfreq(FRAME, 1 / sample_rate)
    member = np.clip(np.searchsorted(edges, bins, side="right") - 1, 0, BANDS - 1)
    shares = (member == np.arange(BANDS)[:, None]) / np.maximum(np.bincount(member, minlength=BANDS), 1)[
        :, None
    ]
    rows = []
    for at in range(0, audio.size, sample_rate):
        power = [
            np.abs(np.fft.rfft(frames * _hann(), axis=1)) ** 2
            for frames in _frames(audio[at : at + sample_rate])
        ]
        if power:
            rows.append(shares @ np.concatenate(power).mean(axis=0))
    return np.asarray(10 * np.log10(np.array(rows).reshape(-1, BANDS) + 1e-9))


def variety(levels: npt.NDArray[np.float64]) -> float:
    """How much the sound changes from second to second, in dB: the mean over bands of the deviation along time.

    `levels` are band_levels. A steady tone or texture measures near 0, a song with sections several dB.
    """
    return float(levels.std(axis=0).mean()) if len(levels) > 1 else 0.0


def centroid(audio: Audio, sample_rate: int) -> float:
    """Centre of gravity of the power spectrum in Hz; 0 for silence."""
    power = np.zeros(FRAME // 2 + 1)
    for frames in _frames(audio):
        power += (np.abs(np.fft.rfft(frames * _hann(), axis=1)) ** 2).sum(axis=0)
    total = float(power.sum())
    return float(power @ np.fft.rfftfreq(FRAME, 1 / sample_rate)) / total if total else 0.0


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
