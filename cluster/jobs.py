"""Ray's jobs, over the dashboard's address: submit a folder of code, follow what it prints, stop it in order.

Everything raises Unreachable when the dashboard does not answer or refuses, with what to do.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.connect import Unreachable
from cluster.token import token_file, use_token

ADDRESS = "http://127.0.0.1:8265"
STOP_S = 90
"""Seconds that a job has to end in order, before Ray kills it; Ray's own 3 are too few."""
LOST_S = 120.0
"""Following gives up when the head has not answered for so long; the job itself doesn't mind."""
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Ending:
    """How a job stands."""

    state: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    code: int | None
    """Exit code of its command."""
    message: str
    metadata: dict[str, str]

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in _ENDED


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, address: str) -> None:
        self.address = address
        use_token()
        for noisy in (
            "ray",
            "ray.dashboard",
            "ray._private.runtime_env.packaging",
            "ray.dashboard.modules.job.sdk",
        ):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        from ray.job_submission import JobSubmissionClient

        with self._explained():
            self._client: Any = JobSubmissionClient(address)

    def submit(self, command: str, folder: Path, metadata: dict[str, str]) -> str:
        """Start a shell command in an uploaded copy of a folder; returns the job's id. The same is not sent twice."""
        with self._explained():
            return str(
                self._client.submit_job(
                    entrypoint=command,
                    # The wait is read by the process that stops the job; no secret belongs here: all can see it.
                    runtime_env={
                        "working_dir": str(folder),
                        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S), "PYTHONUNBUFFERED": "1"},
                    },
                    metadata=metadata,
                )
            )

    def ending(self, job: str) -> Ending:
        """How a job stands. Raises Unreachable for an unknown one, too."""
        with self._explained():
            info = self._client.get_job_info(job)
        return Ending(
            str(info.status.value), info.driver_exit_code, info.message or "", dict(info.metadata or {})
        )

    def stop(self, job: str) -> None:
        """Ask a job to end in order, as Ctrl-C does."""
        with self._explained():
            self._client.stop_job(job)

    def follow(self, job: str, write: Callable[[str], None]) -> Ending:
        """Write what a job printed so far and prints from now on, until it ends; over a link that comes and goes."""
        written, lost_since = 0, None
        while True:
            try:
                for text in self._printed(job, written):
                    written += len(text)
                    write(text)
                ending, lost_since = self.ending(job), None
                if ending.ended:
                    whole = self._client.get_job_logs(job)
                    write(whole[written:])
                    return ending
            except Unreachable:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > LOST_S:
                    raise
            time.sleep(1)

    def _printed(self, job: str, skip: int) -> Iterator[str]:
        """What the tail of a job brings until it ends or breaks, without the first `skip` characters."""
        tail = self._client.tail_job_logs(job)
        with asyncio.Runner() as loop:
            while True:
                try:
                    text = loop.run(anext(tail, None))
                except (OSError, RuntimeError, ValueError):  # what aiohttp and Ray raise when the link breaks
                    return
                if text is None:
                    return
                skip, text = max(0, skip - len(text)), text[skip:]
                if text:
                    yield text

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            shown = (
                f"the one in {token_file()} is another cluster's"
                if os.environ.get("RAY_AUTH_MODE") == "token"
                else (f"there is none in {token_file()}")
            )
            raise Unreachable(
                f"{self.address} wants the cluster's token (401) and {shown}; copy ~/.ray/auth_token "
                "from the head, mode 0600"
            ) from error
        except ConnectionError as error:
            port = self.address.rpartition(":")[2]
            raise Unreachable(
                f"no Ray dashboard answers at {self.address}; open the tunnel (ssh -N -L {port}:127.0.0.1:8265 "
                "HEAD), or name another place with --address"
            ) from error
        except RuntimeError as error:
            raise Unreachable(
                f"{self.address} refused: {str(error).strip().splitlines()[0][:300]}"
            ) from error


def shell(words: Sequence[str]) -> str:
    """Words as one command of a POSIX shell, which becomes that command."""
    import shlex

    return f"exec {shlex.join(words)}"
