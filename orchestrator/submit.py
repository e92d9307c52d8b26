"""`submit`: a verb on the cluster's head, with this checkout's code, followed from here.

What is sent is chosen, not filtered: the code, the kernels that were built here (git doesn't know them, and a node
need not have a compiler; one that can't load them serves with portable PyTorch and says so), and the YAML and JSON
files that the words name. Audio and datasets are never sent: they live on the workspace's storage.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from cluster.job import lasting_workspace
from cluster.jobs import Ending, Jobs, shell
from orchestrator.ending import SOME_FAILED, UNUSABLE
from orchestrator.interrupt import INTERRUPTED
from samplernn.errors import BadInput

ROOT = Path(__file__).parent.parent
CODE = ("cluster", "configs", "orchestrator", "samplernn")
ASKED = "asked"
LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "*.cpp", "*.h", "*.wav", "*.flac", "*.mp3", "*.ogg", "*.aif*", "*.arrow", "*.safetensors"
)
SENT_FILES = (".yaml", ".yml", ".json")
LOCAL_VERBS = ("audition", "submit")
MOST_BYTES = 60 * 2**20
"""Ray keeps an upload in the head's memory, and refuses above 100 MB."""
LINE = "line"
"""Under this key a job's metadata keeps the words that submit it again."""


def submit(words: Sequence[str], address: str, python: str | None, detach: bool, out: Console) -> int:
    """Run a verb on the cluster and follow it; returns its exit code. Raises BadInput before anything is sent."""
    check_words(words)
    again = shlex.join(["orchestrator", "submit", *words])
    with upload(words) as (folder, there):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if size > MOST_BYTES:
            raise BadInput(
                f"{size / 1e6:.0f} MB would be sent and {MOST_BYTES / 1e6:.0f} are allowed; what is large lies in "
                f"{', '.join(CODE)} under {ROOT} and is no code: move it away"
            )
        jobs = Jobs(address)
        job = jobs.submit(shell([python or "python3", "cluster/job.py", *there]), folder, {LINE: again})
    _say(out, f"job {job} has this checkout's code and kernels ({size / 1e6:.1f} MB)")
    if detach:
        _say(out, f"next: {attach_line(job)}")
        return 0
    return attach(jobs, job, out)


def check_words(words: Sequence[str]) -> None:
    """Raises BadInput for a command that a job can't run, or whose files only this machine has."""
    if not words:
        raise BadInput(
            "submit needs a verb, for example: orchestrator submit sweep FILE.yaml -w s3://bucket/path"
        )
    if words[0] in LOCAL_VERBS:
        raise BadInput(f"{words[0]} is no work for a cluster: run it here, with -w and the cluster's storage")
    where = lasting_workspace(words)
    if where is None:
        raise BadInput(
            "a job's own folder is deleted when it ends; give -w (or ORCHESTRATOR_WORKSPACE) as s3://bucket/path, "
            "gs://bucket/path, or an absolute path that every node sees"
        )
    if words[0] == "ingest" and len(words) > 1 and Path(words[1]).expanduser().exists():
        raise BadInput(
            f"{words[1]} is on this machine, and submit sends no audio; ingest it from here into the cluster's "
            "storage: "
            f"{shlex.join(['orchestrator', *words])}"
        )


@contextmanager
def upload(words: Sequence[str]) -> Iterator[tuple[Path, list[str]]]:
    """A folder with what a job needs, and the words as they are there; gone after the with block."""
    with tempfile.TemporaryDirectory(prefix="submit-") as made:
        folder, there = Path(made), []
        for room in CODE:
            if (ROOT / room).is_dir():
                shutil.copytree(ROOT / room, folder / room, ignore=LEFT_OUT)
        for at, word in enumerate(words):
            file = Path(word).expanduser()
            if file.suffix in SENT_FILES and file.is_file():
                copy = Path(ASKED, str(at), file.name)
                (folder / copy).parent.mkdir(parents=True)
                shutil.copy(file, folder / copy)
                word = str(copy)
            there.append(word)
        where = lasting_workspace(words)
        if where is not None and where not in words and f"--workspace={where}" not in words:
            there += ["-w", where]
        yield folder, there


def attach(jobs: Jobs, job: str, out: Console) -> int:
    """Follow a job to its end; Ctrl-C leaves it running. Returns its exit code."""
    first = jobs.ending(job)
    if not first.ended:
        _say(out, f"Ctrl-C leaves it running; then: {attach_line(job)}; to end it: {stop_line(job)}")
    try:
        ending = jobs.follow(job, partial(_print, out))
    except KeyboardInterrupt:
        _say(out, f"\nthe job goes on; to see it again: {attach_line(job)}; to end it: {stop_line(job)}")
        return 0
    return _told(job, ending, out)


def stop(jobs: Jobs, job: str, out: Console) -> int:
    """End a job in order: it goes on from its last commits. Returns when it has ended, with 0."""
    if not jobs.ending(job).ended:
        jobs.stop(job)
        _say(out, f"stopping {job}: it ends in order")
        _told(job, jobs.follow(job, partial(_print, out)), out)
        return 0
    return _told(job, jobs.ending(job), out)


def _told(job: str, ending: Ending, out: Console) -> int:
    again = ending.metadata.get(LINE, "the same line again")
    if ending.state == "SUCCEEDED":
        return 0
    if ending.state == "STOPPED":
        _say(out, f"job {job} was stopped; this goes on where it was: {again}")
        return SOME_FAILED
    how = (
        f"ended with {ending.code}"
        if ending.code is not None
        else f"failed: {ending.message.strip() or 'its node died'}"
    )
    _say(out, f"job {job} {how}; once the cause is gone, this goes on where it was: {again}")
    return UNUSABLE if ending.code is None else SOME_FAILED if ending.code == INTERRUPTED else ending.code


def _print(out: Console, text: str) -> None:
    out.file.write(text)
    out.file.flush()


def attach_line(job: str) -> str:
    """The command that follows a job."""
    return f"orchestrator submit --attach {job}"


def stop_line(job: str) -> str:
    """The command that ends a job."""
    return f"orchestrator submit --stop {job}"


def _say(out: Console, text: str) -> None:
    out.print(text, markup=False, soft_wrap=True, highlight=False)
