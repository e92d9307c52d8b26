"""What a job runs: the command line, on the cluster whose node this is.

    ray submit cluster.yaml cluster/job.py -- sweep FILE.yaml -w /shared/workspace
    ray job submit --working-dir . -- python3 cluster/job.py sweep FILE.yaml -w /shared/workspace

`ray submit` copies this file alone to the head and runs it there, by whatever `python` a login shell finds: so it needs
nothing but Python's own library, and takes interpreter, code, address and token from the Ray that runs on the node.

With --working-dir the folder of a job is a temporary copy, which Ray deletes when the job has ended. So a workspace
that is relative, as the default is, is refused here: everything made in it would be lost.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_TAKEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "PYTHONPATH", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
_WHERE = "from importlib.util import find_spec; print(find_spec('orchestrator').origin)"
_PYTHON, _ADDRESS = "--python_worker_command=", "--gcs-address="


class RayHere(NamedTuple):
    """The node that Ray runs on this machine."""

    python: str
    """Interpreter of its workers."""
    address: str
    """host:port of its cluster."""
    environment: dict[str, str]
    """What its workers have of _TAKEN."""


def lasting_workspace(words: Sequence[str]) -> str | None:
    """The workspace that a command line means, or None when it would lie in the job's temporary folder."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-w", "--workspace")
    where = parser.parse_known_args(words)[0].workspace or os.environ.get("ORCHESTRATOR_WORKSPACE", "")
    return where if "://" in where or Path(where).expanduser().is_absolute() else None


def ray_here(address: str | None = None, processes: Path = Path("/proc")) -> RayHere | None:
    """The Ray node of this machine (of the cluster at `address`, where that is host:port), or None."""
    for folder in processes.glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().split("\0")
            if not command[0].endswith("/raylet/raylet"):
                continue
            surroundings = dict(
                entry.split("=", 1) for entry in (folder / "environ").read_text().split("\0") if "=" in entry
            )
        except OSError:
            continue  # it ended, or is another user's
        python = next(_values(command, _PYTHON)).split(" ")[0]
        found = next(_values(command, _ADDRESS))
        if address in (None, "auto", found):
            return RayHere(
                python, found, {name: surroundings[name] for name in _TAKEN if name in surroundings}
            )
    return None


def _values(command: Sequence[str], flag: str) -> Iterator[str]:
    return (word.removeprefix(flag) for word in command if word.startswith(flag))


def found_on_node(word: str, code: Path) -> str:
    """A YAML file that is not here but lies in the node's own code, by its full path; anything else as it is."""
    there = code / word
    return str(there) if word.endswith(".yaml") and not Path(word).exists() and there.exists() else word


def main() -> None:
    """Become the command line; `ray job stop` then signals it directly."""
    words = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    if lasting_workspace(words) is None:
        sys.stderr.write(
            "error: a job's own folder is deleted when it ends; give --workspace as an absolute path that every node "
            "sees, or a URI such as s3://bucket/path\n"
        )
        raise SystemExit(2)
    python, environment = sys.executable, dict(os.environ)
    here = ray_here(environment.get("RAY_ADDRESS"))
    if here is not None:
        environment = {**here.environment, "RAY_ADDRESS": here.address, **environment}
        if importlib.util.find_spec("ray") is None:
            python = here.python
    code = _code(python, environment)
    words = [found_on_node(word, code) for word in words]
    # Ray starts a job with SIGINT blocked, and a mask outlives exec; a polite end would wait for ever to be heard.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.execve(python, [python, "-m", "orchestrator.cli", *words], environment)


def _code(python: str, environment: Mapping[str, str]) -> Path:
    """The folder that the interpreter would import this project from, without importing it."""
    done = subprocess.run([python, "-c", _WHERE], env=dict(environment), capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(
            f"error: {python} has no orchestrator here; set the project up on every node (make setup), or upload it: "
            "orchestrator submit\n"
        )
        raise SystemExit(3)
    return Path(done.stdout.strip()).parent.parent


if __name__ == "__main__":
    main()
