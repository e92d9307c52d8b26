"""Small sounds for the tests of what reads audio: chords in any format, and files that break the rules."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import soundfile


def chord(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Some decaying partials below 1.5 kHz, float32 [samples, channels] within +-0.6."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    partials = [
        np.sin(2 * np.pi * f * t + p)
        for f, p in zip(rng.uniform(80, 1500, 5), rng.uniform(0, 6, 5), strict=True)
    ]
    mono = 0.12 * np.sum(partials, axis=0)
    return np.stack([mono * (0.6 + 0.4 * c / channels) for c in range(1, channels + 1)], axis=1).astype(
        np.float32
    )


def write_sound(
    path: Path, seconds: float = 3.0, rate: int = 16_000, channels: int = 1, seed: int = 0, **how
) -> Path:
    """Write a chord; `how` goes to soundfile.write (format, subtype)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, chord(seconds, rate, channels, seed), rate, **how)
    return path


def wav_bytes(
    samples: int = 1600,
    *,
    rate: int = 16_000,
    channels: int = 1,
    tag: int = 1,
    claim: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A 16-bit WAV made by hand; `claim` is the data size in its header, `before` and `after` are chunks around it."""
    width = 2 * channels
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, tag, channels, rate, rate * width & 0xFFFFFFFF, width, 16)
    body = b"\1\0" * samples * channels
    data = b"data" + struct.pack("<I", len(body) if claim is None else claim) + body
    chunks = fmt + before + data + after
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


def cut(path: Path, keep: float) -> Path:
    """Cut a file off after a share of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path
