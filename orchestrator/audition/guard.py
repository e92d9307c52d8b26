"""Who may talk to the room: its own pages alone, under its own names, and with the token where it listens to others.

- The Host header must name this server (a loopback name, the host it was told, or a bare IP address where it listens
  on all), so that no site can reach it through a name of its own (DNS rebinding).
- What changes anything must be JSON from the same origin, which no foreign page can send.
- Outside loopback a token is asked for: once in the address, then in a cookie.
- Every answer carries a policy under which no inline script runs and nothing is fetched from elsewhere.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "listening_room"
LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])
ALL = frozenset(["0.0.0.0", "::"])
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The nonce is for the stylesheet inside wavesurfer's own shadow root; scripts have none."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, host: str = "127.0.0.1", token: str | None = None) -> None:
        self._app, self._token = app, token
        self._names = LOOPBACK | ({host} - ALL)
        self._all = host in ALL
        if self._all:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(12)
        scope.setdefault("state", {})["nonce"] = nonce

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY.format(nonce=nonce)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope, Headers(scope=scope))
        await (answer or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return PlainTextResponse(f"{host[:100]!r} is not a name of this server", 421)
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != host:
                return PlainTextResponse("only the room's own page may write", 403)
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return PlainTextResponse("only JSON is taken", 415)
        return self._ask_token(self._token, scope, headers) if self._token else None

    def _is_ours(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "") if host and "@" not in host else ""
        if name in self._names:
            return True
        if not self._all:
            return False
        try:
            ipaddress.ip_address(name)  # an address is no name that someone else could point here
        except ValueError:
            return False
        return True

    def _ask_token(self, token: str, scope: Scope, headers: Headers) -> Response | None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if given and secrets.compare_digest(given.encode(), token.encode()):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return answer
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            kept = None
        if kept is not None and secrets.compare_digest(kept.value.encode(), token.encode()):
            return None
        return PlainTextResponse("open the address with the token that the command printed", 401)
