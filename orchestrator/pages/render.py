"""From a template and its values to a page folder: index.html, style.css and scripts, nothing from elsewhere.

Every page is made here, so each has the same content security policy, the same stylesheet and the same player, and
opens from a disk as well as from a server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from orchestrator.pages.folder import MadeFolder

HERE = Path(__file__).parent
INDEX = "index.html"
ASSETS = ("style.css", "player.js", "curve.js", "table.js")
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; media-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
"""No inline script or style runs, and nothing is fetched but the page's own files."""


def write_page(made: MadeFolder, template: str, **values: Any) -> None:
    """Write index.html and what every page needs beside it; only what changed is written."""
    for asset in ASSETS:
        made.put_bytes(asset, (HERE / asset).read_bytes())
    made.put_bytes(INDEX, render(template, **values).encode())


def render(template: str, **values: Any) -> str:
    """HTML of a template of this folder; every value is escaped."""
    return _environment().get_template(template).render({"policy": POLICY, **values})


def duration(seconds: float) -> str:
    """Seconds for a person: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def clock(seconds: float) -> str:
    """Seconds as a player shows them: 0:08, 12:34, 1:02:03."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, clock=clock)
    return environment
