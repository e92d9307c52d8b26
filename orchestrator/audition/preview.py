"""The previews of what is in the room: as they came with a checkpoint's clips, else made when they are first seen.

What is made here is cached by the audio's SHA-256. The cache holds no truth: an entry that is torn or gone is made
anew, and a cache that can't be written is done without.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from PIL import Image

from orchestrator.audition.index import Sound
from orchestrator.pages.spectrogram import colour_map
from samplernn import commit
from samplernn.audio import decode_flac
from samplernn.errors import BadAudio, Damaged, StorageError
from samplernn.preview import PREVIEWS, STRIP_HEIGHT, STRIP_WIDTH, Preview, make_preview, pack, unpack
from samplernn.storage import Storage

SINGLE = 3
"""So many thumbnails of a cell are below one another; more are in two columns. The page lays its buttons out alike."""


def previews(cache: Storage, sounds: Sequence[Sound]) -> list[Preview | str]:
    """Of some sounds of one commit, in their order; of one that can't be decoded the reason."""
    ready = _committed(sounds[0].folder) if sounds else {}
    return [ready.get(sound.file) or _cached(cache, sound) for sound in sounds]


def _committed(folder: Storage) -> dict[str, Preview]:
    """The previews that came with a commit's clips, by file; not of a file that is gone or cut short since."""
    try:
        files = commit.read_manifest(folder)["files"]
        made = unpack(commit.read_file(folder, PREVIEWS)) if PREVIEWS in files else []
        there = dict(folder.walk()) if made else {}
    except (FileNotFoundError, Damaged, StorageError):
        return {}
    named = ((f"clip-{number}.flac", one) for number, one in enumerate(made))
    return {name: one for name, one in named if name in files and there.get(name) == files[name]["bytes"]}


def _cached(cache: Storage, sound: Sound) -> Preview | str:
    folder, name = cache.at(sound.sha256[:2]), f"{sound.sha256}.safetensors"
    with suppress(FileNotFoundError, StorageError, Damaged):
        if kept := unpack(folder.read(name)):
            return kept[0]
    try:
        made = make_preview(*decode_flac(commit.read_file(sound.folder, sound.file)))
    except (FileNotFoundError, Damaged, BadAudio) as error:
        return str(error)
    with suppress(StorageError):  # full or read-only: it is made again the next time
        folder.write(name, pack([made]))
    return made


def sheet(made: Sequence[Preview | str]) -> bytes:
    """PNG of all thumbnails of a cell, as they lie on the wall; a sound without one leaves its place black."""
    columns = 1 if len(made) <= SINGLE else 2
    rows = -(-len(made) // columns) or 1
    whole = np.zeros((rows * STRIP_HEIGHT, columns * STRIP_WIDTH), dtype=np.uint8)
    for at, one in enumerate(made):
        if isinstance(one, Preview):
            y, x = (number * size for number, size in zip(divmod(at, columns), one.strip.shape, strict=True))
            whole[y : y + STRIP_HEIGHT, x : x + STRIP_WIDTH] = one.strip
    picture = Image.fromarray(whole)
    picture.putpalette(colour_map().tobytes())
    png = io.BytesIO()
    picture.save(png, format="PNG", compress_level=4)
    return png.getvalue()
