"""An album: mastered tracks with tags and pictures, a cover, a cue sheet, one page, and all of it in an archive."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import soundfile
import yaml

from orchestrator.album.cover import COVER, drawn_cover, given_cover
from orchestrator.album.cover import VERSION as COVER_VERSION
from orchestrator.album.facts import WHITE_NOISE, Facts, album_facts, music_flatness
from orchestrator.album.master import VERSION as MASTER_VERSION
from orchestrator.album.master import Master, figures
from orchestrator.album.package import ARCHIVE, CUE, archive, cue_sheet
from orchestrator.album.tracklist import Track, tracklist
from orchestrator.config import AlbumConfig, AlbumTrack
from orchestrator.lease import hold
from orchestrator.pages.folder import MadeFolder
from orchestrator.pages.render import INDEX, write_page
from orchestrator.pages.spectrogram import spectrogram_png
from orchestrator.pages.sweep_section import sweep_section
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.audio import encode_flac
from samplernn.errors import BadInput
from samplernn.spectrogram import VERSION
from samplernn.storage import Storage

ALBUM, CREDITS = "album.yaml", "credits.json"
CLIP_TRIALS = 6
"""The page shows the clips of so many trials, the best; the sweep's own page shows all."""


@dataclass(frozen=True)
class Finished:
    """A track as its file holds it."""

    track: Track
    samples: int
    measures: dict[str, Any]
    """The song's measures, and loudness and true peak of the finished track."""

    @property
    def seconds(self) -> float:
        """Length of the file."""
        return self.samples / self.track.rate


@dataclass(frozen=True)
class AlbumResult:
    """What an album holds and how much of it was new."""

    folder: Storage
    tracks: list[Finished]
    facts: Facts
    written: int
    """Files that had to be written; 0 when nothing had changed."""

    def to_text(self) -> str:
        """What a person wants to know at the end: where it is, and honestly what is on it."""
        lines = [_line(one) for one in self.tracks]
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
    """Make an album or bring it up to date; on_progress gets (tracks ready, tracks in all).

    Raises BadInput when a song is missing or damaged, a region or a picture can't be used or another process is at work
    on the album; nothing is written then.
    """
    tracks = tracklist(workspace, config)
    master = Master(tracks, config)
    cover = None if config.cover is None else given_cover(config.cover)
    title = config.title or config.name
    with hold(workspace.album(config.name)):
        made = MadeFolder(workspace.album(config.name))
        on_progress(0, len(tracks))
        finished = []
        for index, track in enumerate(tracks):
            finished.append(_put_track(made, master, tracks, index, config, title))
            on_progress(track.number, len(tracks))
        _put_cover(made, tracks, config, title, cover)
        made.put_bytes(CUE, cue_sheet(title, config.artist, tracks))
        facts, page = _page(workspace, made, finished)
        made.put_unless_edited(ALBUM, _album_yaml(config, title, tracks))
        made.put_bytes(CREDITS, commit.to_json(_credits(finished, facts)))
        write_page(made, "album.html", title=title, archive=config.archive, facts=facts, **page)
        if config.archive:
            _put_archive(made, config, [one.track.file for one in finished])
        made.finish()
        return AlbumResult(made.folder, finished, facts, made.written)


def _put_track(
    made: MadeFolder, master: Master, tracks: list[Track], index: int, config: AlbumConfig, album: str
) -> Finished:
    track = tracks[index]
    tags = {
        "title": track.title,
        "album": album,
        "artist": config.artist,
        "tracknumber": str(track.number),
        "comment": json.dumps(track.recipe, sort_keys=True),
    }
    # With a crossfade a track holds some of its neighbours.
    around = tracks[max(0, index - 1) : index + 2] if config.crossfade else [track]
    sound = json.dumps(
        {
            "songs": [[t.sha256, t.start, t.stop, t.fade_in, t.fade_out] for t in around],
            "place": [track.number, len(tracks)],
            "master": [MASTER_VERSION, config.crossfade, config.loudness, config.ceiling, config.bits],
        }
    )
    made.put(
        track.file,
        f"{sound} {json.dumps(tags, sort_keys=True)}",
        lambda: encode_flac(master.render(index), track.rate, tags),
    )
    made.put(
        picture_of(track),
        f"{track.sha256} {track.start} {track.stop} picture {VERSION}",
        lambda: spectrogram_png(track.read(), track.rate),
    )
    audio, _ = soundfile.read(io.BytesIO(made.folder.read(track.file)), dtype="float32")
    return Finished(track, len(audio), {**track.about["measures"], **figures(audio, track.rate)})


def _put_cover(
    made: MadeFolder, tracks: list[Track], config: AlbumConfig, title: str, given: bytes | None
) -> None:
    if given is not None:
        made.put_bytes(COVER, given)
        return
    key = json.dumps([[t.sha256, t.start, t.stop] for t in tracks] + [title, config.artist, COVER_VERSION])
    made.put(COVER, key, lambda: drawn_cover(tracks, title, config.artist))


def _put_archive(made: MadeFolder, config: AlbumConfig, tracks: list[str]) -> None:
    names = [*tracks, COVER, CUE, CREDITS]
    key = json.dumps([[name, made.sha256(name)] for name in names])
    made.put(
        ARCHIVE, key, lambda: archive({name: made.folder.read(name) for name in names}, config.name)
    )  # fmt: skip


def _page(workspace: Workspace, made: MadeFolder, finished: list[Finished]) -> tuple[Facts, dict[str, Any]]:
    """The figures of an album, and what its page shows of tracks and sweeps."""
    tracks = [one.track for one in finished]
    sweeps, lost = _sweeps(workspace, tracks)
    datasets = sorted({sweep.config.dataset for sweep in sweeps})
    flatness = music_flatness(workspace, datasets[0]) if len(datasets) == 1 else None
    return album_facts(tracks, datasets, flatness), {
        "tracks": [_page_track(one) for one in finished],
        "total": sum(one.seconds for one in finished),
        "sections": [sweep_section(made, sweep, CLIP_TRIALS) for sweep in sweeps],
        "lost_sweeps": lost,
    }


def _sweeps(workspace: Workspace, tracks: list[Track]) -> tuple[list[SweepView], list[str]]:
    """The sweeps that the songs came from, and the names of those that are not in the workspace any more."""
    found, lost = [], []
    for name in sorted({track.recipe["sweep"] for track in tracks}):
        try:
            found.append(SweepView.open(workspace, name))
        except BadInput:
            lost.append(name)
    return found, lost


def picture_of(track: Track) -> str:
    """File name of a track's spectrogram."""
    return track.file.removesuffix(".flac") + ".png"


def _page_track(one: Finished) -> dict[str, Any]:
    track = one.track
    return {
        "number": track.number,
        "title": track.title,
        "audio": track.file,
        "picture": picture_of(track),
        "seconds": one.seconds,
        "measures": one.measures,
        "recipe": track.recipe,
    }


def _album_yaml(config: AlbumConfig, title: str, tracks: list[Track]) -> bytes:
    """The config with every choice made: the same file makes the same album again."""
    chosen = [
        AlbumTrack(
            song=track.song,
            batch=track.batch,
            start=round(track.start / track.rate, 6),
            stop=round(track.stop / track.rate, 6),
            title=track.title,
            fade_in=round(track.fade_in / track.rate, 6),
            fade_out=round(track.fade_out / track.rate, 6),
        )
        for track in tracks
    ]
    resolved = config.model_copy(update={"title": title, "artist": config.artist, "tracklist": chosen})
    body = resolved.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110).encode()


def _credits(finished: list[Finished], facts: Facts) -> dict[str, Any]:
    """Where every track comes from, and how it measures."""
    return {
        "checkpoints": facts.checkpoints,
        "datasets": facts.datasets,
        "tracks": [
            {
                "number": one.track.number,
                "title": one.track.title,
                "file": one.track.file,
                "batch": one.track.batch,
                "song": one.track.song,
                "song_sha256": one.track.sha256,
                "samples": one.samples,
                "measures": one.measures,
                "recipe": one.track.recipe,
                "trained": one.track.about["trained"],
            }
            for one in finished
        ],
    }


def _line(one: Finished) -> str:
    measures = one.measures
    lufs = "     -" if measures["lufs"] is None else f"{measures['lufs']:6.1f}"
    return (
        f"{one.track.number:2}  {one.track.title:24} {one.seconds:6.1f} s {lufs} LUFS "
        f"{measures['true_peak_dbtp']:5.1f} dBTP  flatness {measures['flatness']:.3f}"
    )
