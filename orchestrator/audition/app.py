"""The room as a web application: a page, what is new, sounds and pictures by opaque id, and marks to keep."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from orchestrator.audition import commands
from orchestrator.audition.albums import WantedAlbum, write_album
from orchestrator.audition.curves import learning_curves
from orchestrator.audition.guard import POLICY, Guard
from orchestrator.audition.index import opaque
from orchestrator.audition.passage import TrainingPassages
from orchestrator.audition.preview import sheet
from orchestrator.audition.room import Room
from orchestrator.audition.sending import DAMAGED, KEEP, Audio
from orchestrator.pages.render import HERE as PAGES
from orchestrator.pages.render import render
from orchestrator.pages.spectrogram import spectrogram_png
from orchestrator.picks import Mark
from orchestrator.workspace import NAME
from samplernn import commit
from samplernn.audio import decode_flac
from samplernn.config import Frozen
from samplernn.errors import BadAudio, BadInput, Damaged, StorageError

STATIC = Path(__file__).parent / "static"
MAX_BODY = 256 * 1024
PICTURE_HEIGHT = 72
TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".svg": "image/svg+xml"}
FULL = 507
"""The status of a mark that storage did not take."""

Asked = TypeVar("Asked", bound=BaseModel)


class MarkAsked(Frozen):
    """One mark, as the page sends it."""

    listener: str
    id: str
    set: Mark


def make_app(room: Room, host: str = "127.0.0.1", token: str | None = None, listener: str = "me") -> ASGIApp:
    """The application, guarded. `listener` is who listens until the page says otherwise."""
    audio = Audio(room.workspace)
    routes = [
        Route("/", partial(_page, room, listener)),
        Route("/static/{name:path}", partial(_static, _files())),
        Route("/news", partial(_news, room)),
        Route("/about/{id}", partial(_about, room)),
        Route("/audio/{id}", partial(_audio, room, audio)),
        Route("/picture/{id}", partial(_picture, room)),
        Route(
            "/passage/{id}",
            partial(_passage, room, TrainingPassages(room.workspace, room.index.config.dataset)),
        ),
        Route("/sheet/{id}", partial(_sheet, room)),
        Route("/curves", partial(_curves, room)),
        Route("/generate", partial(_generate, room)),
        Route("/marks", partial(_mark, room), methods=["POST"]),
        Route("/album", partial(_album, room), methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes), host, token)


def _files() -> dict[str, tuple[bytes, str]]:
    """All that may be asked for by name, read at the start: a request never becomes a path."""
    found = [
        (path.relative_to(STATIC).as_posix(), path) for path in sorted(STATIC.rglob("*")) if path.is_file()
    ]
    found.append(("style.css", PAGES / "style.css"))
    return {name: (path.read_bytes(), TYPES[path.suffix]) for name, path in found if path.suffix in TYPES}


def _page(room: Room, listener: str, request: Request) -> Response:
    nonce = request.state.nonce
    html = render(
        "room.html",
        policy=POLICY.format(nonce=nonce).replace("; frame-ancestors 'none'", ""),  # a header only
        nonce=nonce,
        facts=json.dumps(room.facts()),
        sweep=room.sweep,
        dataset=room.index.config.dataset,
        listener=listener,
    )
    return Response(html, media_type="text/html")


def _static(files: dict[str, tuple[bytes, str]], request: Request) -> Response:
    found = files.get(request.path_params["name"])
    if found is None:
        return _absent()
    etag = f'"{commit.sha256(found[0])[:16]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(found[0], media_type=found[1], headers=headers)


def _news(room: Room, request: Request) -> Response:
    listener = request.query_params.get("listener", "")
    try:
        trials, songs, marks = (int(at) for at in request.query_params.get("since", "0.0.0").split("."))
    except ValueError:
        return PlainTextResponse("since is three numbers", 400)
    if not NAME.match(listener):
        return PlainTextResponse("a listener's name is letters, digits, dots, dashes and underscores", 422)
    if room.index.ready:
        room.look()
    return JSONResponse(room.news((trials, songs, marks), listener))


def _about(room: Room, request: Request) -> Response:
    found = request.path_params["id"]
    sound = room.sound(found)
    return JSONResponse(room.about(found, sound)) if sound else _absent()


def _audio(room: Room, audio: Audio, request: Request) -> Response:
    found = request.path_params["id"]
    sound = room.sound(found)
    answer = audio.respond(request, sound) if sound else _absent()
    if answer.status_code == DAMAGED:
        room.index.break_clip(found)
    return answer


def _picture(room: Room, request: Request) -> Response:
    sound = room.sound(request.path_params["id"])
    if sound is None:
        return _absent()
    try:
        pcm, rate = decode_flac(commit.read_file(sound.folder, sound.file))
    except (FileNotFoundError, Damaged, BadAudio) as error:
        return PlainTextResponse(str(error), 422)
    return _png(spectrogram_png(pcm, rate, PICTURE_HEIGHT))


def _passage(room: Room, music: TrainingPassages, request: Request) -> Response:
    sound = room.sound(request.path_params["id"])
    nearest = sound.measures.get("nearest") if sound else None
    if nearest is None:
        return _absent()
    try:
        data = music.flac(nearest)
    except (BadInput, StorageError) as error:
        return PlainTextResponse(str(error), 404)
    return Response(data, media_type="audio/flac")


def _sheet(room: Room, request: Request) -> Response:
    parts = room.sheet_parts(request.path_params["id"])
    return _png(sheet(parts)) if parts else _absent()


def _curves(room: Room, request: Request) -> Response:
    return Response(learning_curves(room.index), media_type="image/svg+xml")


def _generate(room: Room, request: Request) -> Response:
    picked = [{"trial": opaque("trial", room.sweep, trial), "step": step} for trial, step in room.picked()]
    return JSONResponse({"picked": picked, "line": room.generate_line()})


async def _mark(room: Room, request: Request) -> Response:
    return await _taken(request, MarkAsked, lambda asked: room.mark(asked.listener, asked.id, asked.set))


async def _album(room: Room, request: Request) -> Response:
    def write(wanted: WantedAlbum) -> Any:
        file = write_album(room.workspace, room.songs, wanted)
        return {"file": commands.from_here(file), "line": commands.album_from(room.workspace, file)}

    return await _taken(request, WantedAlbum, write)


async def _taken(request: Request, model: type[Asked], act: Callable[[Asked], Any]) -> Response:
    """Act on a JSON body; what is wrong with it, or with storage, is told in words."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            return PlainTextResponse(f"more than {MAX_BODY} bytes", 413)
    try:
        asked = model.model_validate_json(body)
        return JSONResponse(await run_in_threadpool(act, asked) or {})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        return PlainTextResponse(f"{where}: {first['msg']}", 422)
    except BadInput as error:
        return PlainTextResponse(str(error), 422)
    except StorageError as error:
        return PlainTextResponse(str(error), FULL)


def _absent() -> Response:
    return PlainTextResponse("it is not there any more", 404)


def _png(data: bytes) -> Response:
    return Response(data, media_type="image/png", headers={"Cache-Control": KEEP})
