"""What the pages tell a person to type is there: verbs, settings, flags, files, in each line that is ours or Ray's."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cluster.slurm.__main__ import written
from orchestrator import asked
from orchestrator.cli import app

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "cluster").rglob("README.md"))]
OURS = ("orchestrator", "ray", "python")


def commands(page: Path) -> Iterator[list[str]]:
    """Every command of the page's blocks and sentences that begins with a word of OURS, without its comment."""
    text = page.read_text()
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    told = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    mere_name = re.compile(r"(orchestrator|ray)( [a-z-]+){1,2}")
    lines += [line for line in told if not mere_name.fullmatch(line)]
    for line in lines:
        if re.search(r"(^|&& )(RAY_AUTH_MODE=token )?(orchestrator|ray|python -m) ", line.strip()):
            for part in re.split(r" && | > ", line):
                words = shlex.split(part, comments=True)
                words = words[1:] if words[:1] == ["RAY_AUTH_MODE=token"] else words
                if words and words[0] in OURS and "..." not in words:
                    yield words


LINES = [(page, words) for page in PAGES for words in commands(page)]


def parsed(command: Any, words: list[str]) -> tuple[Any, Any]:
    """The innermost command of a line and its words, taken as the program takes them; nothing is run."""
    context = command.make_context(command.name, list(words))
    while hasattr(command, "resolve_command"):  # a group; typer has a click of its own
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None, words
        context = command.make_context(name, rest, parent=context)
    return command, context


def verb(words: list[str]) -> None:
    """One of our own command lines, with its settings."""
    command, context = parsed(typer.main.get_command(app), words)
    if command.name == "submit":
        if context.params["words"]:
            verb(list(context.params["words"]))
    elif command.name == "sweep":
        file = context.params["file"]
        file = str(ROOT / file) if "/" in file else file
        asked.sweep_asked(file, context.params["settings"] or [], debug=False)
    elif command.name == "ingest":
        asked.ingest_asked(context.params["folder"], context.params["settings"] or [])
    elif command.name == "generate" and context.params["sweep_name"]:
        asked.songs_asked([context.params["sweep_name"], *(context.params["settings"] or [])])
    elif command.name == "train":
        asked.train_asked(words[1:], debug=False)
    elif command.name == "doctor" and not context.params["cluster"]:
        asked.experiment_asked(context.params["settings"] or [])


def test_pages_have_lines() -> None:
    assert len(LINES) > 60
    assert {words[0] for _, words in LINES} == set(OURS)


@pytest.mark.parametrize(
    ("page", "words"), LINES, ids=[f"{page.parent.name}: {shlex.join(words)}" for page, words in LINES]
)
def test_line_of_a_page_is_understood(page: Path, words: list[str]) -> None:
    for word in words:
        if re.match(r"(cluster|configs|orchestrator|benchmarks|demo)/\S+$", word):
            assert (ROOT / word).exists(), word
    if words[0] == "orchestrator":
        verb(words[1:])
    elif words[0] == "ray":
        from ray.scripts.scripts import cli

        command, context = parsed(cli, words[1:])
        if command.name == "exec":
            inner = shlex.split(context.params["cmd"])
            assert inner[0] in ("python", "ray")
            test_line_of_a_page_is_understood(page, inner)
    elif words[1:2] == ["-m"]:
        name = "cluster.slurm.__main__" if words[2] == "cluster.slurm" else words[2]
        assert hasattr(importlib.import_module(name), "main")
        if words[2:3] == ["cluster.slurm"] and "--" in words:
            written([*words[3:], "-w", "/shared/band/workspace"])
            verb(words[words.index("--") + 1 :])
