"""Which songs go on an album, in which order and under which titles; every one is verified before anything is made."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from orchestrator.config import AlbumConfig
from orchestrator.workspace import Workspace, check_name
from samplernn import commit
from samplernn.audio import decode_flac
from samplernn.errors import BadAudio, BadInput, Damaged
from samplernn.storage import Storage

SONG, ABOUT = "song.flac", "song.json"
# fmt: off
_FIRST = (
    "Ashen", "Black", "Blind", "Broken", "Burning", "Buried", "Cold", "Crooked", "Drowned", "Endless", "Feral",
    "Frozen", "Hollow", "Iron", "Last", "Molten", "Nameless", "Obsidian", "Pale", "Rusted", "Sacred", "Severed",
    "Shattered", "Silent", "Starless", "Sunken", "Torn", "Vacant", "Violent", "Withered",
)
_SECOND = (
    "Activation", "Ancestor", "Attractor", "Basin", "Bias", "Carrier", "Cathedral", "Cipher", "Decay",
    "Descent", "Dropout", "Echo", "Entropy", "Epoch", "Eigenvalue", "Furnace", "Gate", "Gradient", "Horizon",
    "Kernel", "Lattice", "Manifold", "Memory", "Minimum", "Momentum", "Noise", "Oracle", "Overfit",
    "Perceptron", "Plateau", "Residue", "Saddle", "Sigil", "State", "Static", "Tensor", "Threshold", "Tier",
    "Vector", "Weight",
)
# fmt: on


@dataclass(frozen=True)
class Song:
    """A verified song of a batch and its place on the album."""

    number: int
    """From 1."""
    id: str
    title: str
    file: str
    """File name on the album."""
    about: dict[str, Any]
    """Its song.json."""
    folder: Storage
    sha256: str
    """Of its song.flac."""
    samples: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / float(self.about["sample_rate"])

    @property
    def recipe(self) -> dict[str, Any]:
        """What the song is a function of."""
        return dict(self.about["recipe"])


def tracklist(workspace: Workspace, config: AlbumConfig) -> list[Song]:
    """The songs of an album in order. Raises BadInput that names every song that is missing or damaged."""
    batch = workspace.batch(config.songs)
    there = batch.at("songs").names()
    ids = there if config.tracks is None else config.tracks
    if not ids:
        raise BadInput(
            f"the batch {config.songs} has no songs in {workspace.storage}; make some with: "
            f"orchestrator generate SWEEP name={config.songs}"
        )
    songs: list[Song] = []
    problems = []
    for number, song in enumerate(ids, start=1):
        try:
            songs.append(_song(workspace, config.songs, song, number, {other.title for other in songs}))
        except FileNotFoundError:
            problems.append(f"{song} is not there, or not finished")
        except (Damaged, BadAudio) as error:
            problems.append(f"{song} is damaged: {error}")
    if problems:
        raise BadInput(
            f"{len(problems)} of {len(ids)} songs of the batch {config.songs} can't go on the album:\n"
            + "\n".join(problems)
            + "\nrun orchestrator generate for that batch again (finished songs are kept), or leave some out: tracks="
        )
    return songs


def make_title(recipe: dict[str, Any], taken: set[str]) -> str:
    """A title of two words, the same for the same recipe, that is not among those taken."""
    key = json.dumps(
        {name: recipe.get(name) for name in ("sweep", "trial", "step", "seed", "index")}, sort_keys=True
    )
    at = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    for offset in range(len(_FIRST) * len(_SECOND)):
        second, first = divmod((at + 7 * offset) % (len(_FIRST) * len(_SECOND)), len(_FIRST))
        title = f"{_FIRST[first]} {_SECOND[second]}"
        if title not in taken:
            return title
    return f"Song {len(taken) + 1}"


def file_name(number: int, title: str) -> str:
    """`01-hollow-gradient.flac`: letters and digits that every file system takes."""
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_title).strip("-")[:60].rstrip("-")
    return f"{number:02d}-{words or 'song'}.flac"


def _song(workspace: Workspace, batch: str, song: str, number: int, taken: set[str]) -> Song:
    folder = workspace.song(batch, check_name(song))
    files = commit.read_commit(folder)
    if missing := {SONG, ABOUT} - files.keys():
        raise Damaged(f"{folder} has no {' and no '.join(sorted(missing))}")
    about = json.loads(files[ABOUT])
    pcm, rate = decode_flac(files[SONG])
    if rate != about["sample_rate"]:
        raise Damaged(f"{folder}/{SONG} has {rate} Hz and its {ABOUT} says {about['sample_rate']}")
    title = about.get("title") or make_title(about["recipe"], taken)
    digest = commit.sha256(files[SONG])
    return Song(number, song, title, file_name(number, title), about, folder, digest, len(pcm))
