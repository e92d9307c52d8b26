"""Write a Slurm job: python -m cluster.slurm [options] -- VERB WORDS... > job.sbatch"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cluster.job import lasting_workspace
from cluster.slurm.script import CODE, WARN_S, Job, render


def main() -> None:
    """Entry point."""
    sys.stdout.write(written(sys.argv[1:]))


def written(words: list[str]) -> str:
    """The script that a command line asks for; exits with code 2 and the reason where there is none."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.slurm",
        description="Write a Slurm job that makes a Ray cluster of its nodes and runs a verb on it.",
        epilog="example: python -m cluster.slurm --nodes 4 --gpus 4 --sbatch=--partition=gpu -- "
        "sweep configs/sweeps/overnight.yaml dataset=band -w /shared/band > job.sbatch; sbatch job.sbatch",
    )
    parser.add_argument("--nodes", type=_positive, default=1)
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of each node [0]")
    parser.add_argument("--cpus", type=_positive, default=8, help="cores of each node [8]")
    parser.add_argument("--mem", default="0", help="memory of each node, such as 64G [all that it has]")
    parser.add_argument("--time", default="24:00:00", help="time limit of one turn [24:00:00]")
    parser.add_argument("--name", help="the job's name [the verb]")
    parser.add_argument("--log", default="%x-%j.log", help="file of what it says [%%x-%%j.log]")
    parser.add_argument(
        "--warn", type=_positive, default=WARN_S, metavar="SECONDS",
        help=f"before the time limit: end in order, and ask for another turn [{WARN_S}]",
    )  # fmt: skip
    parser.add_argument("--python", type=Path, default=CODE / ".venv" / "bin" / "python")
    parser.add_argument("--token", default="", help="its file, where nodes share no home [~/.ray/auth_token]")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="one more of sbatch")
    parser.add_argument("words", nargs="+", metavar="VERB WORDS", help="after --: what to run")
    asked = parser.parse_args(words)
    if lasting_workspace(asked.words) is None:
        parser.error(
            "every node must see the workspace: give -w as an absolute path that is shared, or a URI"
        )
    job = Job(
        words=tuple(asked.words),
        nodes=asked.nodes,
        gpus=asked.gpus,
        cpus=asked.cpus,
        memory=asked.mem,
        time=asked.time,
        name=asked.name or asked.words[0],
        log=asked.log,
        warn_s=asked.warn,
        python=asked.python,
        token=asked.token,
        options=tuple(asked.sbatch),
    )
    try:
        return render(job)
    except ValueError as error:
        parser.error(str(error))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


if __name__ == "__main__":
    main()
