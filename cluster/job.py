"""What a job runs: the command line, from the folder that the job works in, by the interpreter that runs this file.

    ray job submit --working-dir . -- /abs/.venv/bin/python cluster/job.py sweep FILE.yaml -w /shared/workspace
    ray submit cluster.yaml cluster/job.py -- sweep FILE.yaml -w /shared/workspace

With --working-dir that folder is a temporary copy, which Ray deletes when the job has ended. So a workspace that is
relative, as the default is, is refused here: everything made in it would be lost.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def lasting_workspace(words: Sequence[str]) -> str | None:
    """The workspace that a command line means, or None when it would lie in the job's temporary folder."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-w", "--workspace")
    where = parser.parse_known_args(words)[0].workspace or os.environ.get("ORCHESTRATOR_WORKSPACE", "")
    return where if "://" in where or Path(where).expanduser().is_absolute() else None


def main() -> None:
    """Become the command line; `ray job stop` then signals it directly."""
    words = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    if lasting_workspace(words) is None:
        sys.stderr.write(
            "error: a job's own folder is deleted when it ends; give --workspace as an absolute path that every node "
            "sees, or a URI such as s3://bucket/path\n"
        )
        raise SystemExit(2)
    os.execv(sys.executable, [sys.executable, "-m", "orchestrator.cli", *words])


if __name__ == "__main__":
    main()
