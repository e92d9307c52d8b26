"""Whether this machine can talk to W&B: found without importing wandb and without passing the key on."""

from __future__ import annotations

import configparser
import netrc
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from orchestrator.config import Tracking
from samplernn.errors import BadInput

INSTALL = "pip install 'samplernn-orchestrator[wandb]'"
Mode = Literal["online", "offline"]


def wandb_installed() -> bool:
    """Whether the optional dependency is there."""
    return find_spec("wandb") is not None


def base_url() -> str:
    """The server: $WANDB_BASE_URL, else what `wandb login --host` kept, else W&B's own."""
    if url := os.environ.get("WANDB_BASE_URL"):
        return url
    folder = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    settings = configparser.ConfigParser()
    try:
        settings.read(Path(folder).expanduser() / "settings")
    except (configparser.Error, UnicodeDecodeError):
        return "https://api.wandb.ai"
    return settings.get("default", "base_url", fallback="https://api.wandb.ai")


def logged_in() -> bool:
    """Whether there is a key: $WANDB_API_KEY, $WANDB_IDENTITY_TOKEN_FILE, or a netrc entry for the server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    host = urlsplit(base_url()).netloc
    for path in [named] if named else ["~/.netrc", "~/_netrc"]:
        try:
            entry = netrc.netrc(Path(path).expanduser()).authenticators(host)
        except (OSError, netrc.NetrcParseError):
            continue
        if entry is not None:
            return True
    return False


def tracking_mode(tracking: Tracking) -> Mode | None:
    """How to track: None is not at all. Raises BadInput when what was asked for can't be done on this machine."""
    if tracking.wandb == "off":
        return None
    if not wandb_installed():
        if tracking.wandb == "auto":
            return None
        raise BadInput(f"tracking.wandb is {tracking.wandb} and wandb is not installed; {INSTALL}")
    if tracking.wandb == "online" and not logged_in():
        raise BadInput(
            f"tracking.wandb is online and this machine is not logged in to {base_url()}; run `wandb login`, "
            "or set tracking.wandb=offline"
        )
    if tracking.wandb == "auto":
        return "online" if logged_in() else "offline"
    return tracking.wandb
