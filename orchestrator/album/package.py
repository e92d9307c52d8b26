"""What goes with the tracks: a cue sheet for players and burners, and all of it in one archive."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

from orchestrator.album.tracklist import Track

CUE, ARCHIVE = "album.cue", "album.zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def cue_sheet(title: str, artist: str, tracks: Sequence[Track]) -> bytes:
    """A cue sheet that plays the tracks' files in turn without a gap."""
    lines = [f"PERFORMER {_quoted(artist)}", f"TITLE {_quoted(title)}"]
    for track in tracks:
        lines += [
            f"FILE {_quoted(track.file)} WAVE",
            f"  TRACK {track.number:02d} AUDIO",
            f"    TITLE {_quoted(track.title)}",
            f"    PERFORMER {_quoted(artist)}",
            "    INDEX 01 00:00:00",
        ]
    return ("\n".join(lines) + "\n").encode()


def archive(files: Mapping[str, bytes], folder: str) -> bytes:
    """A zip file with everything in one folder, not compressed (FLAC is); the same files give the same bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed:
        for name in sorted(files):
            packed.writestr(zipfile.ZipInfo(f"{folder}/{name}", _EPOCH), files[name])
    return sink.getvalue()


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace('"', "'") + '"'
