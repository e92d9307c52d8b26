"""An album YAML from a tracklist that was put together in the browser."""

from __future__ import annotations

from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from orchestrator.audition.songs import SongIndex
from orchestrator.config import AlbumConfig, AlbumTrack
from orchestrator.workspace import Workspace, check_name
from samplernn.config import Frozen
from samplernn.errors import BadInput
from samplernn.storage import Storage

ALBUM = "album.yaml"


class Track(Frozen):
    """One place of a tracklist, as the page sends it."""

    id: str
    """The song's opaque id."""
    start: Annotated[float, Field(ge=0)] | None = None
    """Seconds; null is the song's beginning."""
    stop: Annotated[float, Field(gt=0)] | None = None
    """Seconds; null is its end."""
    title: Annotated[str, Field(max_length=200)] = ""


class WantedAlbum(Frozen):
    """An album, as the page sends it."""

    name: str
    title: Annotated[str, Field(max_length=200)] = ""
    tracks: Annotated[list[Track], Field(min_length=1, max_length=500)]


def write_album(workspace: Workspace, songs: SongIndex, wanted: WantedAlbum) -> str:
    """Write albums/<name>/album.yaml and return where it is; what one that is there says beyond the tracklist stays.

    Raises BadInput for a bad name, a song that is not there, a region that is none or an album.yaml that can't be read,
    and StorageError when it can't be written.
    """
    folder = workspace.album(check_name(wanted.name))
    found = [_song(songs, track) for track in wanted.tracks]
    batch = found[0]["batch"]
    tracklist = [_entry(track, song, batch) for track, song in zip(wanted.tracks, found, strict=True)]
    body = {**_there(folder), "name": wanted.name, "songs": batch}
    if wanted.title:
        body["title"] = wanted.title
    body["tracklist"] = tracklist
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110)
    folder.write(ALBUM, text.encode())
    return f"{folder}/{ALBUM}"


def _there(folder: Storage) -> dict[str, Any]:
    """The settings of the album.yaml that is there: artist, loudness, crossfade and so on."""
    try:
        config = AlbumConfig.model_validate(yaml.safe_load(folder.read(ALBUM)))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, ValidationError) as error:
        raise BadInput(f"{folder}/{ALBUM} is there and is no album; mend it, or take another name") from error
    return config.model_dump(mode="json", exclude_unset=True, exclude={"tracklist"})


def _song(songs: SongIndex, track: Track) -> dict[str, Any]:
    song = songs.shown.get(track.id)
    if song is None:
        raise BadInput(
            f"a song of the tracklist is not there any more ({track.title or track.id}); take it off"
        )
    return song


def _entry(track: Track, song: dict[str, Any], batch: str) -> dict[str, Any]:
    start, stop = track.start or 0.0, track.stop or song["seconds"]
    if not start < stop <= song["seconds"] + 0.01:
        raise BadInput(
            f"{song['title']} from {start:.2f} to {stop:.2f} s is no part of a song of {song['seconds']:.2f} s; "
            "draw the region anew"
        )
    entry: dict[str, Any] = {"song": song["song"], "title": track.title or song["title"]}
    if song["batch"] != batch:
        entry["batch"] = song["batch"]
    if track.start is not None:
        entry["start"] = round(start, 3)
    if track.stop is not None:
        entry["stop"] = round(min(stop, song["seconds"]), 3)
    return AlbumTrack.model_validate(entry).model_dump(mode="json", exclude_unset=True)
