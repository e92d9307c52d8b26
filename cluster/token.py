"""The cluster's token: whoever has it may run code on every node, and nobody else may.

It is a file that only its owner can read, `~/.ray/auth_token` or the one that RAY_AUTH_TOKEN_PATH names, the same on
every node and on the laptop. It is never a word of a command line, of a YAML or of a job.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from cluster.connect import Unreachable

MODE, PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"


def token_file() -> Path:
    """Where this user's token is, or would be."""
    return Path(os.environ.get(PATH) or Path.home() / ".ray" / "auth_token").expanduser()


def make_token() -> Path:
    """The token file, made with a new token (mode 0600) where there is none. Raises Unreachable as use_token does."""
    file = token_file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _private(file)
    with os.fdopen(descriptor, "w") as out:
        out.write(secrets.token_hex(32))
    return file


def use_token() -> Path | None:
    """Let Ray in this process, and what it starts, show the token; None where there is none. To be called before Ray.

    Raises Unreachable when others can read the file.
    """
    file = token_file()
    if os.environ.get(MODE, "token") != "token" or not file.exists():
        return None
    os.environ[MODE] = "token"
    return _private(file)


def _private(file: Path) -> Path:
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        raise Unreachable(
            f"the token file {file} has mode {mode:04o}: others on this machine can read it and run code as you; "
            f"chmod 600 {file}, and make a new token if they may have"
        )
    return file


def main() -> None:
    """Make the token where there is none: python -m cluster.token. It says where, never what."""
    try:
        sys.stdout.write(f"the token is in {make_token()}\n")
    except Unreachable as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(3) from error


if __name__ == "__main__":
    main()
