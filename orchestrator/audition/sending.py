"""Audio over HTTP: verified once, then sent in the parts that the browser asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from orchestrator.audition.index import Sound
from orchestrator.workspace import Workspace
from samplernn import commit
from samplernn.errors import Damaged, StorageError

BLOCK = 256 * 1024
KEEP = "private, max-age=86400, immutable"
"""Named by its hash, so it never changes."""
DAMAGED = 422
_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


class Audio:
    """Sends sounds of one workspace; what was verified is not hashed again while its size and time stay."""

    def __init__(self, workspace: Workspace) -> None:
        self._root = workspace.storage
        self._verified: set[tuple[str, str, int, int]] = set()

    def respond(self, request: Request, sound: Sound) -> Response:
        """The whole file or one range of it; 404 when it is gone, 422 when it does not verify."""
        try:
            self._verify(sound)
        except FileNotFoundError:
            return PlainTextResponse("this clip is not in the workspace any more", 404)
        except Damaged as error:
            return PlainTextResponse(str(error), DAMAGED)
        except StorageError as error:
            return PlainTextResponse(str(error), 503)
        etag = f'"{sound.sha256}"'
        headers = {"Accept-Ranges": "bytes", "ETag": etag, "Cache-Control": KEEP}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        span = _asked(request.headers.get("range"), sound.size)
        if span is None:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{sound.size}"})
        start, stop = span
        headers["Content-Length"] = str(stop - start)
        status = 200
        if (start, stop) != (0, sound.size) or "range" in request.headers:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{sound.size}"
            status = 206
        return StreamingResponse(
            _blocks(sound, start, stop), status, headers=headers, media_type="audio/flac"
        )

    def _verify(self, sound: Sound) -> None:
        """Raises Damaged for a file that is not what its manifest says or lies outside the workspace."""
        path = f"{sound.folder.root}/{sound.file}"
        root = self._root.local
        if root is not None and not Path(path).resolve(strict=True).is_relative_to(root.resolve()):
            raise Damaged(
                f"{path} is a link out of the workspace and is not followed; put the file itself there"
            )
        info = sound.folder.fs.get_file_info(path)
        key = (path, sound.sha256, info.size or 0, info.mtime_ns or 0)
        if key not in self._verified:
            data = sound.folder.read(sound.file)
            if len(data) != sound.size or commit.sha256(data) != sound.sha256:
                raise Damaged(f"{path} does not match its SHA-256 in the manifest; restore it from a copy")
            self._verified.add(key)


def _asked(header: str | None, size: int) -> tuple[int, int] | None:
    """[start, stop) of a Range header; the whole for none, or one of several ranges; None when it can't be had."""
    match = _RANGE.match(header or "")
    if match is None or not any(match.groups()):
        return (0, size)
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) else None
    start, stop = int(first), min(size, int(last) + 1) if last else size
    return (start, stop) if start < stop else None


def _blocks(sound: Sound, start: int, stop: int) -> Iterator[bytes]:
    with sound.folder.fs.open_input_file(f"{sound.folder.root}/{sound.file}") as stream:
        stream.seek(start)
        while start < stop:
            block = stream.read(min(BLOCK, stop - start))
            if not block:
                return  # cut short while it was read: the length no longer holds and the connection ends
            start += len(block)
            yield bytes(block)
