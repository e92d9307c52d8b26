"""How a command ends: its exit code, one clear text for every error that a person can mend, and Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from cluster.connect import Unreachable
from orchestrator.interrupt import INTERRUPTED, orderly
from samplernn.errors import BadInput, SampleRNNError, StorageError

DONE, SOME_FAILED, BAD_INPUT, UNUSABLE = 0, 1, 2, 3

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for a command line that it can't read; it has no public name."""


def run_app(app: typer.Typer, words: list[str]) -> int:
    """Run a verb; returns its exit code. Raises BadInput for words that it can't read, KeyboardInterrupt on Ctrl-C."""
    try:
        code = app(words or ["--help"], standalone_mode=False, prog_name="orchestrator")
    except UsageError as error:
        context = getattr(error, "ctx", None)
        verb = context.command_path if context else "orchestrator"
        message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        raise BadInput(f"{message}; see {verb} --help") from error
    if code == INTERRUPTED:  # what typer makes of Ctrl-C
        raise KeyboardInterrupt
    return code if isinstance(code, int) else DONE


@contextmanager
def stopped_cleanly(command: str, screen: Console) -> Iterator[None]:
    """Every error that a person can mend is one clear text and an exit code; Ctrl-C names the line that goes on.

    `screen` is the one that may show a live view, which a line that another console writes would break.
    """
    said = Console(stderr=True, highlight=False)
    live = screen if screen.is_terminal else said
    goes_on = f"this goes on where it was: {command}"
    try:
        with orderly(lambda text: live.print(f"\n{text}", soft_wrap=True), f"stopped at once; {goes_on}"):
            yield
    except (SampleRNNError, Unreachable) as error:
        said.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(UNUSABLE if isinstance(error, StorageError | Unreachable) else BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        said.print(f"stopped; {goes_on}", markup=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
