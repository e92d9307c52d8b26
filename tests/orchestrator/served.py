"""A listening room on a real server: bound to a free port, served by a thread, closed at the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from orchestrator.audition import room as room_module
from orchestrator.audition.app import make_app
from orchestrator.audition.room import Room
from orchestrator.audition.serve import bind
from orchestrator.workspace import Workspace


@contextmanager
def served(
    workspace: Workspace, sweep: str, *, host: str = "127.0.0.1", token: str | None = None
) -> Iterator[tuple[Room, str]]:
    """The room and its address. Every question looks at storage anew."""
    fresh, room_module.FRESH_S = room_module.FRESH_S, 0.0
    room = Room(workspace, sweep)
    room.look()
    bound = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        make_app(room, host, token, "tester"), log_level="error", access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield room, f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()
        room_module.FRESH_S = fresh
        assert not thread.is_alive()
