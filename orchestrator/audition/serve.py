"""Run the room: a loopback address, or one with a token for others to come in."""

from __future__ import annotations

import errno
import secrets
import socket
import threading
from collections.abc import Callable

import uvicorn

from orchestrator.audition.app import make_app
from orchestrator.audition.guard import ALL, LOOPBACK
from orchestrator.audition.room import Room
from orchestrator.config import AuditionConfig
from orchestrator.workspace import Workspace, check_name
from samplernn.errors import BadInput


def serve(
    workspace: Workspace, sweep: str, config: AuditionConfig, listener: str, say: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C. Raises BadInput when there is no such sweep or the address can't be had."""
    room = Room(workspace, sweep)
    token = _token(config.host)
    app = make_app(room, config.host, token, check_name(listener))
    bound = bind(config.host, config.port)
    port = bound.getsockname()[1]
    shown = socket.gethostname() if config.host in ALL else config.host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
    say(f"open {address}" + (f"?token={token}" if token else ""))
    if token is None:
        say(f"from elsewhere: ssh -L {port}:localhost:{port} THIS-MACHINE, then the same address")
    threading.Thread(target=room.look, daemon=True).start()
    settings = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    with bound:
        uvicorn.Server(settings).run(sockets=[bound])


def _token(host: str) -> str | None:
    return None if host in LOOPBACK else secrets.token_urlsafe(16)


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens: on the port that was asked for, or on any free one where it is 0. Raises BadInput."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        remedy = (
            "is another room open? take port=0 for any free one" if taken else "give another host= or port="
        )
        raise BadInput(f"{host}:{port} can't be listened on ({error.strerror}); {remedy}") from error
