"""What a person sees while something long runs: one live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

LINE_EVERY_S = 10.0


def console(stderr: bool = False) -> Console:
    """Standard output (or error): the terminal as it is; wide enough for a table where it is a file."""
    out = Console(highlight=False, stderr=stderr)
    return out if out.is_terminal else Console(highlight=False, width=140, stderr=stderr)


class View:
    """Shows `render()` live on a terminal; elsewhere prints `line()` every few seconds.

    `line()` should say what moves (a count, the seconds so far): the same line is not printed twice.
    """

    def __init__(
        self, console: Console, render: Callable[[], RenderableType], line: Callable[[], str]
    ) -> None:
        self._console, self._render, self._line = console, render, line
        self._live: Live | None = None
        self._last, self._printed = time.monotonic(), ""

    @contextmanager
    def showing(self) -> Iterator[View]:
        """Show for the length of a with block; the last state stays on the screen."""
        if not self._console.is_terminal:
            self._print()
            try:
                yield self
            finally:
                self._print()
            return
        with Live(console=self._console, refresh_per_second=4, get_renderable=self._render) as live:
            self._live = live
            yield self

    def tick(self) -> None:
        """Something may have changed; cheap to call often."""
        if self._live is None and time.monotonic() - self._last > LINE_EVERY_S:
            self._print()

    def say(self, text: str) -> None:
        """A line that stays, above the live view."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _print(self) -> None:
        self._last = time.monotonic()
        text = self._line()
        if text != self._printed:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        self._printed = text


class Clock:
    """Seconds since the work began, as a person says them; empty in the first seconds."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def __str__(self) -> str:
        return f" ({span(self.seconds)})" if self.seconds >= 2 else ""


def bar(done: float, total: float, width: int = 60) -> Text:
    """A progress bar as text."""
    filled = round(width * min(1.0, done / total)) if total else 0
    return Text("━" * filled, style="green").append("━" * (width - filled), style="bright_black")


def span(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
