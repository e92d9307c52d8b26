"""Mastering: fades, one loudness, a true-peak ceiling, crossfades; the tracks played in turn are one unbroken sound.

Each track is the region of its song with fades, brought to the wanted loudness and limited. Neighbours overlap by the
crossfade, and the cut between their files lies in its middle, so that the files end to end are the whole, sample for
sample. Only three tracks are in memory at a time.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from orchestrator.album.tracklist import Track
from orchestrator.config import AlbumConfig
from samplernn.errors import BadInput
from samplernn.measures import Audio, dbfs, loudness, true_peaks

VERSION = 2
"""Raised whenever the same songs and settings would give other samples."""
LIMITER_SECONDS = 0.02
"""The limiter's gain begins to fall so long before a peak and has risen again so long after it."""
CLOSE_LU = 0.1
MOST_EXTRA_DB = 12.0
_MARGIN_DB = 0.8
"""The limiter aims so far below the ceiling: on noise up to half the sample rate ffmpeg's meter, with
its gentler filter, was seen to read 0.6 dB more than ours."""


class Master:
    """An album's tracks, each mastered when it is asked for."""

    def __init__(self, tracks: list[Track], config: AlbumConfig) -> None:
        """Raises BadInput when a track is too short for the crossfade."""
        self._tracks, self._config = tracks, config
        self._rate = tracks[0].rate
        self._overlap = round(config.crossfade * self._rate) // 2 * 2 if len(tracks) > 1 else 0
        for track in tracks:
            if track.samples < 2 * self._overlap:
                raise BadInput(
                    f"track {track.number} ({track.title}) is {track.samples / self._rate:g} s long and the crossfade "
                    f"{config.crossfade:g} s; make it at most half of the shortest track"
                )
        self._levelled = lru_cache(maxsize=3)(self._level)

    @property
    def changes_samples(self) -> bool:
        """Whether any track differs from its song's own samples."""
        faded = any(track.fade_in or track.fade_out for track in self._tracks)
        return faded or self._overlap > 0 or self._config.loudness is not None

    def render(self, index: int) -> npt.NDArray[np.int16] | npt.NDArray[np.int32]:
        """The samples of track `index` as its file holds them: int16, or int32 whose upper 24 bits count."""
        if not self.changes_samples:
            pcm = self._tracks[index].read()
            return pcm if self._config.bits == 16 else pcm.astype(np.int32) << 16
        return _to_pcm(self.audio(index), self._config.bits, self._tracks[index].number)

    def audio(self, index: int) -> Audio:
        """Samples [samples] of track `index` before rounding, its halves of the crossfades included."""
        half, whole = self._overlap // 2, self._levelled(index)
        if not half:
            return whole
        out = whole.copy()
        rise = np.sin(np.linspace(0, np.pi / 2, self._overlap, dtype=np.float32))  # equal power
        begins, ends = index == 0, index == len(self._tracks) - 1
        if not begins:
            out[: self._overlap] = out[: self._overlap] * rise
            out[: self._overlap] += self._levelled(index - 1)[-self._overlap :] * rise[::-1]
        if not ends:
            out[-self._overlap :] = out[-self._overlap :] * rise[::-1]
            out[-self._overlap :] += self._levelled(index + 1)[: self._overlap] * rise
        if self._config.loudness is not None:
            out = limit(out, self._rate, self._config.ceiling)
        return out[0 if begins else half : len(out) if ends else len(out) - half]

    def samples(self, index: int) -> int:
        """Length of track `index` in its file."""
        cuts = (index > 0) + (index < len(self._tracks) - 1)
        return self._tracks[index].samples - cuts * (self._overlap // 2)

    def _level(self, index: int) -> Audio:
        """The region with its fades, at the wanted loudness."""
        track = self._tracks[index]
        audio = track.read().astype(np.float32) / np.float32(32768)
        audio[: track.fade_in] *= np.linspace(0, 1, track.fade_in, endpoint=False, dtype=np.float32)
        if track.fade_out:
            audio[-track.fade_out :] *= np.linspace(1, 0, track.fade_out, endpoint=False, dtype=np.float32)
        target = self._config.loudness
        return audio if target is None else bring_to(audio, self._rate, target, self._config.ceiling)


def bring_to(audio: Audio, sample_rate: int, target: float, ceiling: float) -> Audio:
    """Audio at `target` LUFS with true peaks below `ceiling` dBTP; silence and very short audio stay as they are.

    The limiter takes some loudness away, so the gain before it is searched for; at most MOST_EXTRA_DB is added, and
    a ceiling too low for the target leaves the track quieter.
    """
    level = loudness(audio, sample_rate)
    if level is None:
        return audio
    from scipy import optimize

    def limited(gain: float) -> Audio:
        return limit(audio * np.float32(10 ** (gain / 20)), sample_rate, ceiling)

    def missing(gain: float) -> float:
        return (loudness(limited(gain), sample_rate) or target) - target

    least = target - level
    most = least + MOST_EXTRA_DB
    if missing(least) > -CLOSE_LU:
        return limited(least)
    if missing(most) < 0:
        return limited(most)
    return limited(optimize.brentq(missing, least, most, xtol=CLOSE_LU / 2))


def limit(audio: Audio, sample_rate: int, ceiling: float) -> Audio:
    """Audio with every true peak below `ceiling` dBTP, turned down smoothly around the peaks alone.

    The gain at each moment is a weighted mean, over LIMITER_SECONDS before and after it, of the least gain needed
    within the same distance of each of these moments: never more than what the moment itself needs.
    """
    from scipy import ndimage

    most = 10 ** ((ceiling - _MARGIN_DB) / 20)
    out = audio
    for _ in range(3):  # turning down moves the peaks between the samples a little
        needed = np.minimum(1.0, most / np.maximum(true_peaks(out, sample_rate), 1e-9))
        if float(needed.min(initial=1.0)) >= 1.0 - 1e-4:
            break
        size = 2 * round(LIMITER_SECONDS * sample_rate) + 1
        window = np.hanning(size + 2)[1:-1]
        least = ndimage.minimum_filter1d(needed, size, mode="nearest")
        gain = ndimage.convolve1d(least, window / window.sum(), mode="nearest")
        out = (out * np.minimum(gain, needed)).astype(np.float32)
    return out


def figures(audio: Audio, sample_rate: int) -> dict[str, float | None]:
    """Loudness in LUFS and true peak in dBTP of a finished track."""
    return {
        "lufs": loudness(audio, sample_rate),
        "true_peak_dbtp": dbfs(float(true_peaks(audio, sample_rate).max(initial=0.0))),
    }


def _to_pcm(audio: Audio, bits: int, number: int) -> npt.NDArray[np.int16] | npt.NDArray[np.int32]:
    """Rounded with triangular dither of one step, from a stream of the track's own."""
    scale = 2 ** (bits - 1)
    noise = np.random.Generator(np.random.Philox(number)).random((2, audio.size))
    steps = np.rint(audio.astype(np.float64) * scale + noise[0] - noise[1])
    whole = np.clip(steps, -scale, scale - 1).astype(np.int32)
    return np.asarray(whole, dtype=np.int16) if bits == 16 else np.asarray(whole * 256, dtype=np.int32)
