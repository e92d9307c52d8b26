"""An album YAML from a tracklist that was put together in the browser."""

from __future__ import annotations

from typing import Annotated, Any

import yaml
from pydantic import Field

from orchestrator.audition.songs import SongIndex
from orchestrator.workspace import Workspace, check_name
from samplernn.config import Frozen
from samplernn.errors import BadInput

TRACKLIST = "tracklist.yaml"
"""Beside album.yaml, which `album` writes itself: the same command must find its own input again."""


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
    """Write albums/<name>/tracklist.yaml and return where it is.

    Raises BadInput for a bad name, a song that is not there, a region that is none or songs of two batches, and
    StorageError when it can't be written.
    """
    folder = workspace.album(check_name(wanted.name))
    tracklist, batches = [], set()
    for track in wanted.tracks:
        song = songs.shown.get(track.id)
        if song is None:
            raise BadInput(
                f"a song of the tracklist is not there any more ({track.title or track.id}); take it off"
            )
        batches.add(song["batch"])
        tracklist.append(_entry(track, song))
    if len(batches) > 1:
        raise BadInput(
            f"the tracklist has songs of {len(batches)} batches ({', '.join(sorted(batches))}) and an album takes one; "
            "make two albums"
        )
    body: dict[str, Any] = {"name": wanted.name, "songs": batches.pop()}
    if wanted.title:
        body["title"] = wanted.title
    body["tracklist"] = tracklist
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110)
    folder.write(TRACKLIST, text.encode())
    return f"{folder}/{TRACKLIST}"


def _entry(track: Track, song: dict[str, Any]) -> dict[str, Any]:
    start, stop = track.start or 0.0, track.stop or song["seconds"]
    if not start < stop <= song["seconds"] + 0.01:
        raise BadInput(
            f"{song['title']} from {start:.2f} to {stop:.2f} s is no part of a song of {song['seconds']:.2f} s; "
            "draw the region anew"
        )
    entry: dict[str, Any] = {"song": song["song"]}
    if track.start is not None:
        entry["start"] = round(start, 3)
    if track.stop is not None:
        entry["stop"] = round(stop, 3)
    return {**entry, "title": track.title or song["title"]}
