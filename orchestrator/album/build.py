"""An album: verified songs with tags, a picture of each, album.yaml, and one page that opens from the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.album.facts import WHITE_NOISE, Facts, album_facts, music_flatness
from orchestrator.album.tracklist import SONG, Song, tracklist
from orchestrator.config import AlbumConfig
from orchestrator.pages.folder import MadeFolder
from orchestrator.pages.render import INDEX, write_page
from orchestrator.pages.spectrogram import VERSION, spectrogram_png
from orchestrator.pages.sweep_section import sweep_section
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.audio import decode_flac, encode_flac
from samplernn.errors import BadInput
from samplernn.storage import Storage

ALBUM = "album.yaml"
CLIP_TRIALS = 6
"""The page shows the clips of so many trials, the best; the sweep's own page shows all."""


@dataclass(frozen=True)
class AlbumResult:
    """What an album holds and how much of it was new."""

    folder: Storage
    songs: list[Song]
    facts: Facts
    written: int
    """Files that had to be written; 0 when nothing had changed."""

    def to_text(self) -> str:
        """What a person wants to know at the end: where it is, and honestly what is on it."""
        lines = [
            f"  {song.number:2}  {song.title:24} {song.seconds:6.1f} s  "
            f"{song.about['measures']['rms_dbfs']:6.1f} dBFS  flatness {song.about['measures']['flatness']:.3f}"
            for song in self.songs
        ]
        facts = self.facts
        theirs = "" if facts.music_flatness is None else f", the training music {facts.music_flatness:.3f}"
        return "\n".join(
            [
                *lines,
                f"Spectral flatness: these songs {facts.songs_flatness:.3f}{theirs}, white noise {WHITE_NOISE:.2f}.",
                facts.expect,
                f"Album: {self.folder} ({self.written} files new); open {self.index}",
            ]
        )

    @property
    def index(self) -> str:
        """Where the page is: open this."""
        return f"{self.folder}/{INDEX}"


def build_album(
    workspace: Workspace, config: AlbumConfig, on_progress: Callable[[int, int], None]
) -> AlbumResult:
    """Make an album or bring it up to date; on_progress gets (songs ready, songs in all).

    Raises BadInput when the batch has no songs or any of them is missing or damaged; nothing is written then.
    """
    songs = tracklist(workspace, config)
    title = config.title or config.name
    made = MadeFolder(workspace.album(config.name))
    on_progress(0, len(songs))
    for song in songs:
        _put_track(made, song, title)
        on_progress(song.number, len(songs))
    sweeps, lost = _sweeps(workspace, songs)
    datasets = sorted({sweep.config.dataset for sweep in sweeps})
    flatness = music_flatness(workspace, datasets[0]) if len(datasets) == 1 else None
    facts = album_facts(songs, datasets, flatness)
    made.put_bytes(ALBUM, _album_yaml(config, title, songs, facts))
    write_page(
        made,
        "album.html",
        title=title,
        tracks=[_page_track(song) for song in songs],
        total=sum(song.seconds for song in songs),
        sections=[sweep_section(made, sweep, CLIP_TRIALS) for sweep in sweeps],
        lost_sweeps=lost,
        facts=facts,
    )
    made.finish()
    return AlbumResult(made.folder, songs, facts, made.written)


def _put_track(made: MadeFolder, song: Song, album: str) -> None:
    tags = {
        "title": song.title,
        "album": album,
        "artist": "SampleRNN",
        "tracknumber": str(song.number),
        "comment": json.dumps(song.recipe, sort_keys=True),
    }

    def track() -> bytes:
        return encode_flac(*decode_flac(commit.read_file(song.folder, SONG)), tags)

    def picture() -> bytes:
        return spectrogram_png(*decode_flac(commit.read_file(song.folder, SONG)))

    made.put(song.file, f"{song.sha256} {json.dumps(tags, sort_keys=True)}", track)
    made.put(_picture(song), f"{song.sha256} picture {VERSION}", picture)


def _sweeps(workspace: Workspace, songs: list[Song]) -> tuple[list[SweepView], list[str]]:
    """The sweeps that the songs came from, and the names of those that are not in the workspace any more."""
    found, lost = [], []
    for name in sorted({song.recipe["sweep"] for song in songs}):
        try:
            found.append(SweepView.open(workspace, name))
        except BadInput:
            lost.append(name)
    return found, lost


def _picture(song: Song) -> str:
    return song.file.removesuffix(".flac") + ".png"


def _page_track(song: Song) -> dict[str, Any]:
    return {
        "number": song.number,
        "title": song.title,
        "audio": song.file,
        "picture": _picture(song),
        "seconds": song.seconds,
        "measures": song.about["measures"],
        "recipe": song.recipe,
    }


def _album_yaml(config: AlbumConfig, title: str, songs: list[Song], facts: Facts) -> bytes:
    """The resolved config and where every track comes from, enough to make the album again."""
    tracks = [
        {
            "number": song.number,
            "title": song.title,
            "file": song.file,
            "song": song.id,
            "seconds": round(song.seconds, 3),
            "flatness": round(song.about["measures"]["flatness"], 4),
            "sha256": song.sha256,
            "recipe": song.recipe,
            "trained": song.about["trained"],
        }
        for song in songs
    ]
    resolved = config.model_dump(mode="json") | {"title": title, "tracks": [song.id for song in songs]}
    body = {"album": resolved, "checkpoints": facts.checkpoints, "datasets": facts.datasets, "tracks": tracks}
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110).encode()
