"""The page of a batch of songs, to listen through and choose from: `generate` writes it when its songs are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from orchestrator.audition.passage import TrainingPassages
from orchestrator.pages.folder import MadeFolder
from orchestrator.pages.render import INDEX, write_page
from orchestrator.pages.song_picture import VERSION, song_png
from orchestrator.pages.spectrogram import spectrogram_png
from orchestrator.ranked_songs import SongRow
from orchestrator.songs import AUDIO
from orchestrator.trials import SweepView
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.copying import PATCH_SECONDS
from samplernn.errors import BadAudio, BadInput, Damaged
from samplernn.flac import decode_flac, encode_flac

MOST = 200
"""Songs with pictures, the best; the table has all."""
_THREADS = 2
_PASSAGE_HEIGHT = 48


def write_songs_page(
    workspace: Workspace,
    batch: str,
    rows: list[SongRow],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Write the page of a batch's ranked songs and say where its index.html is; what has not changed is kept.

    on_progress gets (songs drawn, songs to draw). The audio is the batch's own, one folder up, so that a batch's folder
    is shared as a whole.
    """
    made = MadeFolder(workspace.batch(batch).at("page"))
    music = _training_music(workspace, rows)
    shown = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, song in enumerate(pool.map(partial(_song, made, music), rows[:MOST]), start=1):
            shown.append(song)
            on_progress(done, min(len(rows), MOST))
    write_page(
        made,
        "songs.html",
        batch=batch,
        rows=rows,
        songs=shown,
        checkpoints=sorted({(row.about["recipe"]["trial"], row.about["recipe"]["step"]) for row in rows}),
        total=sum(row.seconds for row in rows),
    )
    made.finish()
    return f"{made.folder}/{INDEX}"


def _training_music(workspace: Workspace, rows: list[SongRow]) -> dict[str, TrainingPassages]:
    """The training music of each sweep that is still in the workspace."""
    music = {}
    for sweep in sorted({row.about["recipe"]["sweep"] for row in rows}):
        try:
            music[sweep] = TrainingPassages(workspace, SweepView.open(workspace, sweep).config.dataset)
        except BadInput:
            continue
    return music


def _song(made: MadeFolder, music: dict[str, TrainingPassages], row: SongRow) -> dict[str, Any]:
    """What the page shows of one song; its picture and the passages are put into the page's folder."""
    picture = f"songs/{row.id}.png"

    def read() -> Any:
        return decode_flac(commit.read_file(row.folder, AUDIO))[0]

    rate = row.about["sample_rate"]
    made.put(picture, f"{row.sha256} {VERSION}", lambda: song_png(read(), rate))
    nearest = row.measures.get("nearest")
    twins = None
    if nearest and row.about["recipe"]["sweep"] in music:
        start = round(nearest["at"] * rate)
        own = lambda: encode_flac(read()[start : start + round(PATCH_SECONDS * rate)], rate, {})  # noqa: E731
        theirs = partial(music[row.about["recipe"]["sweep"]].flac, nearest)
        twins = _twins(made, row, nearest, {"song": own, "music": theirs})
    return {"row": row, "audio": f"../songs/{row.id}/{AUDIO}", "picture": picture, "twins": twins}


def _twins(
    made: MadeFolder, row: SongRow, nearest: dict[str, Any], sounds: dict[str, Callable[[], bytes]]
) -> dict[str, Any] | None:
    """The song's passage and the training music's that is most alike, side by side; None when either is lost."""
    key = f"{row.sha256} {json.dumps(nearest, sort_keys=True)} {VERSION}"
    try:
        for what, sound in sounds.items():
            at = f"passages/{row.id}-{what}"
            made.put(f"{at}.flac", key, sound)
            made.put(f"{at}.png", key, lambda sound=sound: _picture(sound()))  # type: ignore[misc]
    except (BadInput, BadAudio, Damaged, FileNotFoundError):
        return None  # the dataset is gone, or another by now
    return {**nearest, **{what: f"passages/{row.id}-{what}" for what in sounds}, "seconds": PATCH_SECONDS}


def _picture(flac: bytes) -> bytes:
    return spectrogram_png(*decode_flac(flac), _PASSAGE_HEIGHT)
