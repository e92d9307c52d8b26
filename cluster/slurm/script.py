"""What sbatch is given: one pure function from what is wanted to the text of the job."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BODY = Path(__file__).with_name("job.sh")
CODE = Path(__file__).parent.parent.parent
WARN_S = 180
"""Seconds before the time limit at which the job ends in order and asks for another turn."""


@dataclass(frozen=True)
class Job:
    """One job of Slurm: nodes, and the command that runs on the Ray cluster which they make."""

    words: tuple[str, ...]
    """The command: a verb of `orchestrator` and its words."""
    nodes: int = 1
    gpus: int = 0
    """GPUs of each node."""
    cpus: int = 8
    """Cores of each node."""
    memory: str = "0"
    """Memory of each node as sbatch writes it (64G); 0 is all that it has."""
    time: str = "24:00:00"
    name: str = "orchestrator"
    log: str = "%x-%j.log"
    """Where it writes what it says: a pattern of sbatch, relative to where the job is submitted."""
    warn_s: int = WARN_S
    code: Path = CODE
    """This project on storage that every node sees."""
    python: Path = CODE / ".venv" / "bin" / "python"
    token: str = ""
    """The token's file, where the home folder is not shared by all nodes; else ~/.ray/auth_token."""
    options: tuple[str, ...] = ()
    """More options of sbatch: --partition=gpu, --account=music."""


def render(job: Job) -> str:
    """The script for sbatch. Raises ValueError for an option that sbatch would read as something else."""
    options = [
        f"--job-name={job.name}",
        f"--nodes={job.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={job.cpus}",
        *([f"--gpus-per-node={job.gpus}"] if job.gpus else []),
        f"--mem={job.memory}",
        f"--time={job.time}",
        f"--output={job.log}",
        "--open-mode=append",
        "--requeue",  # preempted, or its first node has failed: it waits for another turn
        "--no-kill",  # another node has failed: the trials there move
        f"--signal=B:USR1@{job.warn_s}",
        # Not the whole environment of the shell that submits: Slurm keeps it, and there may be keys in it.
        "--export=HOME,USER,LOGNAME,PATH,LANG",
        *job.options,
    ]
    for option in options:
        if not option.startswith("-") or option.split() != [option] or "#" in option:
            raise ValueError(f"{option!r} is no option of sbatch: one word each, such as --partition=gpu")
    settings = {"code": str(job.code), "python": str(job.python), "token": job.token}
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            "",
            *(f"{name}={shlex.quote(value)}" for name, value in settings.items()),
            f"command=({quoted(job.words)})",
            "",
            BODY.read_text(),
        ]
    )


def quoted(words: Sequence[str]) -> str:
    """Words as a shell reads them back."""
    return " ".join(map(shlex.quote, words))
