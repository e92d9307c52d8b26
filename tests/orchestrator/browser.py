"""A headless Chromium on a page from the disk, driven by the DevTools protocol over its pipe (no port, no network)."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe",
)  # fmt: skip
SECONDS = 60
_WIRE = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(at), fcntl.F_DUPFD, 10) for at in sys.argv[1:3]]
os.dup2(pipes[0], 3)
os.dup2(pipes[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser takes commands on descriptor 3 and answers on 4."""


def chromium() -> str | None:
    """Path of the browser, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Tab:
    """One page. `complaints` collects everything the browser logs, refuses or throws."""

    def __init__(self, commands: int, events: int) -> None:
        self._commands, self._events = commands, events
        self._held, self._next, self._session = b"", 0, ""
        self.complaints: list[str] = []

    def open(self, page: Path, width: int, height: int) -> None:
        """Load a page and wait until it is complete."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.size(width, height)
        self.call("Page.navigate", url=page.as_uri())
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def size(self, width: int, height: int) -> None:
        """Resize the window, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=text if kind == "keyDown" else "")

    def click(self, x: float, y: float) -> None:
        """Click at a point of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def picture(self) -> bytes:
        """PNG of what the window shows."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        self._next += 1
        message = {"id": self._next, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._next:
            pass
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._events], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._events, 65_536) if ready else b""
            if not data:
                raise AssertionError(
                    f"the browser said nothing for {SECONDS} s" if not ready else "the browser is gone"
                )
            self._held += data
        text, self._held = self._held.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(message["params"]))
        return message


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Tab]:
    """A browser with a fresh profile, ended at the end."""
    commands_in, commands_out = os.pipe()
    events_in, events_out = os.pipe()
    line = [program, *FLAGS, f"--user-data-dir={profile}"]
    wired = [sys.executable, "-c", _WIRE, str(commands_in), str(events_out), *line]
    with (profile.parent / "browser.log").open("wb") as log:
        process = subprocess.Popen(wired, pass_fds=(commands_in, events_out), stdout=log, stderr=log)
    os.close(commands_in)
    os.close(events_out)
    try:
        yield Tab(commands_out, events_in)
    finally:
        process.terminate()
        process.wait(SECONDS)
        os.close(commands_out)
        os.close(events_in)
