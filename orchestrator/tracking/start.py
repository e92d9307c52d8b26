"""The driver's side of tracking: start the shipper beside a sweep, and take leave of it within a bounded time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config import Tracking
from orchestrator.tracking.group import Group
from orchestrator.tracking.ledger import STATUS, read_status
from orchestrator.tracking.login import INSTALL, Mode, tracking_mode, wandb_installed
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput, StorageError

PROJECT = re.compile(r"([\w.-]+/)?[\w.-]{1,128}\Z", re.ASCII)
LOG = "shipper.log"
NICE = 10
"""Of the shipper and what it starts: a tenth of what training gets of a core that both want."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_FOREIGN = (
    "WANDB_RUN_ID",
    "WANDB_SWEEP_ID",
    "WANDB_MODE",
    "WANDB_NAME",
    "WANDB_DIR",
    "WANDB_SERVICE",
    "WANDB_RESUME",
)
"""Settings of another run that may be around us, such as an agent's; ours are explicit."""


@dataclass(frozen=True)
class Shipping:
    """A running shipper."""

    process: subprocess.Popen[bytes]
    mode: Mode
    folder: Path
    """W&B's offline runs, the ledger and the log."""

    def finish(self, timeout_s: float) -> str:
        """Ask the shipper to ship the rest and end, wait at most timeout_s, and return one line for the person."""
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._kill()
            return self._line(f"did not finish within {timeout_s:.0f} s")
        return self.ended()

    def _kill(self) -> None:
        """End the shipper and W&B's own process: they are a session of their own."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def log(self) -> Path:
        """What the shipper says of itself, in full."""
        return self.folder / LOG

    def told(self) -> dict[str, Any]:
        """What the shipper last said about itself; empty before it has."""
        return read_status(self.folder)

    def ended(self) -> str:
        """The line of finish(), of a shipper that has ended by itself."""
        return self._line("" if self.process.returncode == 0 else "the shipper ended early")

    def _line(self, problem: str) -> str:
        status = self.told()
        runs, behind = status.get("runs", 0), status.get("behind", 0)
        left = "1 run is" if behind == 1 else f"{behind} runs are"
        problem = problem or (f"{left} not complete ({status.get('error')})" if behind else "")
        if problem:
            rest = "the metrics are safe in the workspace, and `orchestrator sync` ships the rest"
            return f"W&B: {problem}; {rest} (log: {self.log})"
        runs = f"{runs} run" if runs == 1 else f"{runs} runs"
        if self.mode == "online":
            return f"W&B: {runs} at {status.get('url') or 'the server'}"
        return f"W&B: {runs} offline in {self.folder} (wandb sync {self.folder}/offline-run-* ships them)"


def require_trackable(tracking: Tracking) -> Mode | None:
    """How it will be tracked; None is not at all. Raises BadInput when what was asked for can't be done."""
    if not PROJECT.match(tracking.project):
        raise BadInput(
            f"tracking.project {tracking.project!r} must be PROJECT or ENTITY/PROJECT in letters, digits, . _ -"
        )
    return tracking_mode(tracking)


def start_shipper(
    workspace: Workspace,
    group: Group,
    tracking: Tracking,
    say: Callable[[str], None] = print,
    options: Sequence[str] = (),
) -> Shipping | None:
    """Start the shipper of a group of runs; None when nothing is tracked.

    The key, if any, goes through the environment only. `say` gets the line about a missing wandb; `options` are more
    of the shipper's own. Raises BadInput when what was asked for can't be done, StorageError when there is no place for
    it; later failures are in the log and finish().
    """
    mode = require_trackable(tracking)
    if mode is None:
        if tracking.wandb == "auto" and not wandb_installed():
            say(f"W&B is not installed: metrics stay in the workspace ({INSTALL} to track there)")
        return None
    folder = group.folder(workspace)
    arguments = ["--workspace", workspace.storage.address, f"--{group.kind}", group.name, "--mode", mode]
    arguments += ["--project", tracking.project, "--driver", str(os.getpid()), *options]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STATUS).unlink(missing_ok=True)
        with (folder / LOG).open("ab") as log, _no_early_end():
            process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.tracking.shipper", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )
    except OSError as error:
        raise StorageError(
            f"can't start the W&B shipper in {folder}: {error}; or set tracking.wandb=off"
        ) from error
    _stand_back(process.pid)
    return Shipping(process, mode, folder)


def _stand_back(pid: int) -> None:
    """Let training come before a process of another session: Linux shares the cores out by session before niceness."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
        Path(f"/proc/{pid}/autogroup").write_text(str(NICE))


@contextmanager
def _no_early_end() -> Iterator[None]:
    """A child started here keeps a SIGTERM pending until it is ready for it: the mask outlives exec."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
    return {**kept, **dict.fromkeys(_THREADS, "1"), "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
