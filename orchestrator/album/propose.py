"""A first tracklist from a batch of songs: those that vary most and resemble one another least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import yaml

from orchestrator.album.tracklist import Track, tracklist
from orchestrator.audition.commands import album_from
from orchestrator.config import AlbumConfig
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput
from samplernn.measures import band_levels, variety

ALBUM = "album.yaml"
NAMED = 3
MOST_SILENCE, MOST_CLIPPED = 0.25, 0.01


@dataclass(frozen=True)
class Heard:
    """A song as it is judged."""

    track: Track
    variety: float
    """How much it changes from second to second, dB."""
    colour: npt.NDArray[np.float64]
    """Mean level of every band, dB: songs that sound alike are near one another."""
    fault: str | None
    """Why it is not proposed."""


@dataclass(frozen=True)
class Proposal:
    """What was chosen, in order, and what was left out for a fault."""

    chosen: list[Heard]
    faulty: list[Heard]
    file: str
    """The album YAML that holds it."""
    next: str
    """The command that makes the album of it."""

    def to_text(self) -> str:
        """The choice, the faults, and what to do next."""
        return "\n".join(
            [
                *(f"  {h.track.song}  {h.track.title:28} variety {h.variety:4.1f} dB" for h in self.chosen),
                *(f"  {h.track.song}  left out: {h.fault}" for h in self.faulty),
                f"Tracklist: {self.file} (edit order, titles, regions, fades)",
                f"\nnext: {self.next} loudness=-14",
            ]
        )


def propose(
    workspace: Workspace, config: AlbumConfig, count: int, on_progress: Callable[[int, int], None]
) -> Proposal:
    """Choose `count` songs of the batch and write albums/<name>/album.yaml.

    The first is the song that varies most; each further one has the largest product of its distance in colour to the
    nearest chosen song and its own variety. Raises BadInput when the album has a tracklist already.
    """
    if count < 1:
        raise BadInput(f"a tracklist of {count} songs can't be proposed; ask for one or more")
    folder = workspace.album(config.name)
    taken = BadInput(
        f"the album {config.name} has a tracklist already ({folder}/{ALBUM}); edit it, or propose one for another name="
    )
    if folder.exists(ALBUM):
        raise taken
    songs = tracklist(workspace, config.model_copy(update={"tracklist": None}))
    heard = []
    for at, song in enumerate(songs):
        on_progress(at, len(songs))
        heard.append(_hear(song))
    on_progress(len(songs), len(songs))
    sound = [one for one in heard if one.fault is None]
    if not sound:
        faults = "; ".join(f"{one.track.song} {one.fault}" for one in heard[:NAMED])
        faults += f"; and {len(heard) - NAMED} more" if len(heard) > NAMED else ""
        raise BadInput(
            f"no song of {config.songs} can be proposed: {faults}; generate others, or take them as they are: "
            f"orchestrator album {config.songs}"
        )
    chosen = choose(sound, count)
    if not folder.create(ALBUM, _yaml(config, chosen)):  # another command was faster
        raise taken
    file = f"{folder}/{ALBUM}"
    return Proposal(chosen, [one for one in heard if one.fault], file, album_from(workspace, file))


def choose(songs: list[Heard], count: int) -> list[Heard]:
    """The best and most different `count` of them, in the order they were chosen."""
    left = sorted(songs, key=lambda one: (-one.variety, one.track.song))
    chosen = [left.pop(0)]
    while left and len(chosen) < count:
        far = [min(_distance(one, other) for other in chosen) * (1 + one.variety) for one in left]
        chosen.append(left.pop(int(np.argmax(far))))
    return chosen


def _distance(one: Heard, other: Heard) -> float:
    return float(np.sqrt(np.mean((one.colour - other.colour) ** 2)))


def _hear(track: Track) -> Heard:
    levels = band_levels(track.read().astype(np.float32) / np.float32(32768), track.rate)
    measures = track.about["measures"]
    fault = None
    if measures["silence"] > MOST_SILENCE:
        fault = f"is silent for {measures['silence']:.0%} of its time"
    elif measures["clipped"] > MOST_CLIPPED:
        fault = f"is clipped in {measures['clipped']:.1%} of its samples"
    elif track.about.get("traps"):
        fell = ", ".join(f"{trap['kind']} at {trap['seconds']:.0f} s" for trap in track.about["traps"])
        fault = f"falls into a trap ({fell})"
    return Heard(track, variety(levels), levels.mean(axis=0), fault)


def _yaml(config: AlbumConfig, chosen: list[Heard]) -> bytes:
    body = config.model_dump(mode="json", exclude_unset=True)
    body["tracklist"] = [{"song": one.track.song, "title": one.track.title} for one in chosen]
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110).encode()
