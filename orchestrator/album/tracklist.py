"""Which songs go on an album, which part of each, in which order and under which titles; all verified beforehand."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.album.titles import Titles
from orchestrator.config import AlbumConfig, AlbumTrack
from orchestrator.workspace import Workspace, check_name
from samplernn import commit
from samplernn.audio import decode_flac
from samplernn.errors import BadAudio, BadInput, Damaged
from samplernn.measures import measure
from samplernn.storage import Storage

SONG, ABOUT = "song.flac", "song.json"
NO_CLICK = 0.01
"""Seconds of fade where a region is cut out of a song."""

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Track:
    """A verified song, or a region of it, and its place on the album."""

    number: int
    """From 1."""
    batch: str
    song: str
    """Id in its batch."""
    title: str
    about: dict[str, Any]
    """Its song.json."""
    folder: Storage
    sha256: str
    """Of the song's song.flac."""
    start: int
    """First sample of the region."""
    stop: int
    """Sample after its last."""
    fade_in: int
    """Samples."""
    fade_out: int

    @property
    def rate(self) -> int:
        """Sample rate in Hz."""
        return int(self.about["sample_rate"])

    @property
    def samples(self) -> int:
        """Length of the region."""
        return self.stop - self.start

    @property
    def recipe(self) -> dict[str, Any]:
        """What the song is a function of."""
        return dict(self.about["recipe"])

    @property
    def file(self) -> str:
        """File name on the album."""
        return file_name(self.number, self.title)

    def read(self) -> Pcm:
        """PCM of the region [samples], verified."""
        return decode_flac(commit.read_file(self.folder, SONG))[0][self.start : self.stop]


def tracklist(workspace: Workspace, config: AlbumConfig) -> list[Track]:
    """The tracks of an album in order. Raises BadInput that names every one that can't be made, and why."""
    titles = Titles(config.titles)
    wanted = config.tracklist
    if wanted is None:
        wanted = [AlbumTrack(song=name) for name in workspace.batch(config.songs).at("songs").names()]
    if not wanted:
        raise BadInput(
            f"the batch {config.songs} has no songs in {workspace.storage}; make some with: "
            f"orchestrator generate SWEEP name={config.songs}"
        )
    tracks: list[Track] = []
    problems = []
    taken = {track.title for track in wanted if track.title}
    for number, track in enumerate(wanted, start=1):
        try:
            made = _track(workspace, track.batch or config.songs, track, number, titles, taken)
        except FileNotFoundError:
            problems.append(f"{track.song} is not there, or not finished")
        except (Damaged, BadAudio) as error:
            problems.append(f"{track.song} is damaged: {error}")
        except BadInput as error:
            problems.append(f"{track.song}: {error}")
        else:
            tracks.append(made)
            taken.add(made.title)
    problems += _unlike(tracks)
    if problems:
        raise BadInput(
            f"the album {config.name} can't be made of these {len(wanted)} tracks:\n"
            + "\n".join(problems)
            + "\nrun orchestrator generate for the batch again (finished songs are kept), or change the tracklist"
        )
    return tracks


def file_name(number: int, title: str) -> str:
    """`01-hollow-gradient.flac`: letters and digits that every file system takes."""
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_title).strip("-")[:60].rstrip("-")
    return f"{number:02d}-{words or 'song'}.flac"


def _track(
    workspace: Workspace, batch: str, wanted: AlbumTrack, number: int, titles: Titles, taken: set[str]
) -> Track:
    folder = workspace.song(batch, check_name(wanted.song))
    files = commit.read_commit(folder)
    if missing := {SONG, ABOUT} - files.keys():
        raise Damaged(f"{folder} has no {' and no '.join(sorted(missing))}")
    about = json.loads(files[ABOUT])
    pcm, rate = decode_flac(files[SONG])
    if rate != about["sample_rate"]:
        raise Damaged(f"{folder}/{SONG} has {rate} Hz and its {ABOUT} says {about['sample_rate']}")
    if not about["measures"]:  # it was made without
        about["measures"] = measure(pcm.astype(np.float32) / np.float32(32768))
    start = round(wanted.start * rate)
    stop = len(pcm) if wanted.stop is None else round(wanted.stop * rate)
    if start >= stop or stop > len(pcm):
        raise BadInput(
            f"the region {start / rate:g} to {stop / rate:g} s does not lie in the song's {len(pcm) / rate:g} s"
        )
    fade_in = _fade(wanted.fade_in, start > 0, rate)
    fade_out = _fade(wanted.fade_out, stop < len(pcm), rate)
    if fade_in + fade_out > stop - start:
        raise BadInput(
            f"fades of {(fade_in + fade_out) / rate:g} s are longer than the track's {(stop - start) / rate:g} s"
        )
    title = wanted.title or about.get("title") or titles.make(about["recipe"], taken)
    digest = commit.sha256(files[SONG])
    return Track(
        number, batch, wanted.song, title, about, folder, digest, start, stop, fade_in, fade_out
    )  # fmt: skip


def _fade(seconds: float | None, cut: bool, rate: int) -> int:
    return round((NO_CLICK if cut else 0.0) * rate) if seconds is None else round(seconds * rate)


def _unlike(tracks: list[Track]) -> list[str]:
    """One album has one sample rate."""
    rates = sorted({track.rate for track in tracks})
    if len(rates) < 2:
        return []
    return [f"the songs have different sample rates ({', '.join(map(str, rates))} Hz); take songs of one"]
