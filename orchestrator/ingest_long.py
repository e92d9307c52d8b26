"""What a long file's pieces need: its hash, once, and that it is still the file that was hashed."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.audio_folder import AudioFile
from orchestrator.ingest_pieces import PIECES, make_piece
from orchestrator.ingest_track import TrackJob, finished_track, identity_of, track_id
from orchestrator.source_file import digest, signature
from samplernn.errors import BadAudio, StorageError
from samplernn.pieces import Cut, cuts_of


@dataclass(frozen=True)
class Long:
    """A file that is decoded in pieces, and is not committed yet."""

    file: AudioFile
    sha256: str
    """Hex, of the file."""
    before: tuple[int, ...]
    """Its signature then."""
    cuts: list[Cut]


def look_long(file: AudioFile, job: TrackJob) -> Long | None:
    """A file as its pieces need it; None when an earlier run committed it, or it can't be read."""
    try:
        before = signature(file.path)
        sha256 = digest(file.path, before[1])
        at = job.folder.at("tracks", track_id(file.name, sha256))
        if finished_track(at, identity_of(file, sha256, job)) is not None:
            return None
        return Long(file, sha256, before, cuts_of(file.path))
    except (OSError, BadAudio):
        return None  # the track's own task says what is wrong with it


def ingest_piece(long: Long, cut: Cut, job: TrackJob) -> str | None:
    """Decode one piece of a long file for its track; why the dataset's folder could not be written, or None."""
    pieces = job.folder.at(PIECES)
    try:
        if _same(long):
            make_piece(long.file.path, job.sample_rate, job.mono, cut, pieces.at(long.sha256))
        if not _same(long):
            pieces.delete(long.sha256)  # whatever was decoded, it is not what was hashed
    except StorageError as error:
        return str(error)
    except OSError:
        return None
    return None


def _same(long: Long) -> bool:
    """Whether size and time of change are what they were; a network file system numbers files anew on each node."""
    return signature(long.file.path)[1:3] == long.before[1:3]
