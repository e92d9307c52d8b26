"""One piece of work at a time in a thread, while its owner goes on; what it raises is raised where the owner asks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Background:
    """Runs a job in a thread. Not more than one: finish it before the next."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._job: Future[None] | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Begin a job; waits for the one before, and raises what it raised."""
        self.finish()
        self._job = self._pool.submit(job)

    @property
    def is_over(self) -> bool:
        """Whether a job was started and is over, well or not: finish() then returns or raises at once."""
        return self._job is not None and self._job.done()

    def finish(self) -> None:
        """Wait for the job, and raise what it raised."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def close(self) -> None:
        """Wait for the job, whatever comes of it, and end the thread."""
        if self._job is not None:
            wait([self._job])
        self._pool.shutdown()
