"""The command line: orchestrator VERB [FOLDER | NAME | FILE.yaml] [dotted.key=value ...].

Verbs import what they need when they run, so that `--help` is there in a blink.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from cluster.connect import Unreachable
from orchestrator.live import console
from orchestrator.workspace import Workspace, check_name
from samplernn.errors import SampleRNNError, StorageError

if TYPE_CHECKING:
    from orchestrator.config import SweepConfig, SweepRun

DONE, SOME_FAILED, BAD_INPUT, UNUSABLE, INTERRUPTED = 0, 1, 2, 3, 130

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for a command line that it can't read; it has no public name."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="""From a folder of songs to an album of new ones, with SampleRNN.

    The way: ingest a folder of music; sweep over models; listen to the clips; generate songs from the best; make
    an album. Every verb can be run again: it goes on where it was and never makes anything twice.

    Settings are written in YAML files and changed on the command line as name=value: dim=512, songs=100.""",
)
out = console()

Target = Annotated[str | None, typer.Argument(show_default=False)]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[name=value]...", show_default=False)]
Where = Annotated[
    str | None,
    typer.Option(
        "--workspace", "-w", help="Root of everything kept [default: $ORCHESTRATOR_WORKSPACE or ./workspace]"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Debug = Annotated[
    bool, typer.Option("--debug", help="Make everything tiny, to see the whole line run in a minute.")
]


@app.command()
def ingest(
    folder: Annotated[str, typer.Argument()], settings: Settings = None, workspace: Where = None
) -> None:
    """Turn a FOLDER of music into a dataset.

    Reads WAV, FLAC, Ogg, MP3, AIFF, any rate and channels. What can't be read is named with its reason.
    Example: orchestrator ingest ~/Music/band name=band sample_rate=16000
    """
    from orchestrator.config import IngestConfig
    from orchestrator.ingest import run_ingest
    from orchestrator.merge import build, parse_overrides

    given = parse_overrides(settings or [])
    source = str(Path(folder).expanduser().resolve())
    config = build(IngestConfig, {"name": _as_name(Path(source).name), "source": source}, given)
    run_ingest(_open(workspace), config, out)
    out.print(f"\nnext: orchestrator sweep configs/sweeps/laptop.yaml dataset={config.name}")


@app.command()
def sweep(
    file: Annotated[str, typer.Argument(metavar="FILE.yaml")],
    settings: Settings = None,
    workspace: Where = None,
    debug: Debug = False,
) -> None:
    """Train many models over a space of settings, the worst stopped early.

    Example: orchestrator sweep configs/sweeps/overnight.yaml dataset=band
    """
    config, run = _sweep_file(file, settings or [], debug)
    _run_sweep(_open(workspace), config, run)


@app.command()
def train(
    settings: Settings = None,
    workspace: Where = None,
    debug: Debug = False,
) -> None:
    """Train one model: a sweep of one trial. The first argument may be a FILE.yaml like a sweep's.

    Example: orchestrator train dataset=band name=first dim=512 n_rnn=3 max_steps=20000
    """
    words = settings or []
    file = words.pop(0) if words and "=" not in words[0] else None
    config, run = _sweep_file(file, words, debug, one=True)
    _run_sweep(_open(workspace), config, run)


@app.command()
def status(name: Target = None, workspace: Where = None, as_json: AsJson = False) -> None:
    """Show a sweep, or everything in the workspace; from storage alone, while it runs or afterwards."""
    from orchestrator.status import overview, sweep_status

    root = _open(workspace, quiet=as_json)
    body, shown = overview(root) if name is None else sweep_status(root, name)
    if as_json:
        sys.stdout.write(json.dumps(body, indent=1) + "\n")
    else:
        out.print(shown)


@app.command()
def audition(name: Annotated[str, typer.Argument(metavar="SWEEP")], workspace: Where = None) -> None:
    """Make the page of a sweep: curves, and every checkpoint's clips to listen to."""
    from orchestrator.pages.sweep_page import write_sweep_page

    page = write_sweep_page(_open(workspace), name)
    out.print(f"open {page}\n\nnext: orchestrator generate {name} songs=8 seconds=60", soft_wrap=True)


@app.command()
def generate(
    sweep_name: Annotated[str, typer.Argument(metavar="SWEEP | FILE.yaml")],
    settings: Settings = None,
    workspace: Where = None,
) -> None:
    """Generate songs from a sweep's best checkpoint, or the one named by trial= and step=.

    Example: orchestrator generate band-overnight songs=100 seconds=240 temperature=0.98
    """
    from orchestrator.config import GenerateJob, GenerateRun
    from orchestrator.generate import generate as run_generate
    from orchestrator.merge import build, load_yaml

    if sweep_name.endswith((".yaml", ".yml")):
        data = {"name": _as_name(Path(sweep_name).stem), **load_yaml(sweep_name)}
    else:
        data = {"name": f"{sweep_name}-songs"[:64], "sweep": sweep_name}
    job_given, run_given = _split_run(GenerateJob, settings or [])
    run = build(GenerateRun, data.pop("run", None) or {}, run_given)
    job = build(GenerateJob, data, job_given)
    failed = run_generate(_open(workspace), job, run, out)
    for song, reason in failed.items():
        out.print(f"song {song}: {reason}", style="red")
    out.print(f"\nnext: orchestrator album {job.name}")
    raise typer.Exit(SOME_FAILED if failed else DONE)


@app.command()
def album(
    name: Annotated[str, typer.Argument(metavar="SONGS | FILE.yaml")],
    settings: Settings = None,
    workspace: Where = None,
) -> None:
    """Make an album of a batch of songs: tracks, a spectrogram of each, and a page to listen on.

    Example: orchestrator album band-overnight-songs name=first-album title="First Album"
    """
    from orchestrator.album.build import build_album
    from orchestrator.config import AlbumConfig
    from orchestrator.merge import build, load_yaml, parse_overrides

    yaml = name.endswith((".yaml", ".yml"))
    data = {"name": _as_name(Path(name).stem), **load_yaml(name)} if yaml else {"name": name, "songs": name}
    config = build(AlbumConfig, data, parse_overrides(settings or []))
    result = build_album(_open(workspace), config, lambda *_: None)
    out.print(result.to_text(), soft_wrap=True)


@app.command()
def doctor(workspace: Where = None) -> None:
    """Say what this machine can do, and what is wrong with it."""
    from orchestrator.doctor import examine, render

    findings = examine(_open(workspace))
    out.print(render(findings))
    raise typer.Exit(SOME_FAILED if any(finding.state == "bad" for finding in findings) else DONE)


def main() -> None:
    """Entry point."""
    with stopped_cleanly(shlex.join(["orchestrator", *sys.argv[1:]])):
        try:
            code = app(standalone_mode=False)
        except UsageError as error:
            error.show()  # type: ignore[attr-defined]
            sys.exit(BAD_INPUT)
        if code == INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else DONE)


@contextmanager
def stopped_cleanly(command: str) -> Iterator[None]:
    """Every error that a person can mend is one clear text and an exit code; Ctrl-C names the line that goes on."""
    said = Console(stderr=True, highlight=False)
    try:
        yield
    except (SampleRNNError, Unreachable) as error:
        said.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(UNUSABLE if isinstance(error, StorageError | Unreachable) else BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        said.print(f"\nstopped; this goes on where it was: {command}", markup=False, soft_wrap=True)
        sys.exit(INTERRUPTED)


def _open(where: str | None, quiet: bool = False) -> Workspace:
    workspace = Workspace.open(where)
    if not quiet:
        out.print(f"workspace {workspace.storage}", style="dim", soft_wrap=True)
    return workspace


def _as_name(text: str) -> str:
    """A name made from a folder's or file's."""
    return check_name(re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "music")


def _split_run(model: type[Any], words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Overrides of what is made, spelled out, and those of how it is executed (run.*)."""
    from orchestrator.merge import parse_overrides
    from orchestrator.shorthand import spell_out

    given = parse_overrides(words)
    how = {key.removeprefix("run."): given.pop(key) for key in list(given) if key.startswith("run.")}
    return spell_out(model, given), how


def _sweep_file(
    file: str | None, words: list[str], debug: bool, one: bool = False
) -> tuple[SweepConfig, SweepRun]:
    from orchestrator.config import SweepConfig, SweepRun
    from orchestrator.debug import made_tiny
    from orchestrator.merge import build, load_yaml

    data: dict[str, Any] = load_yaml(file) if file else {}
    data.setdefault("name", _as_name(Path(file).stem) if file else "train")
    if one:
        data |= {"space": {}, "search": "grid", "num_samples": None, "schedule": {"type": "none"}}
    given, how = _split_run(SweepConfig, words)
    run = build(SweepRun, data.pop("run", None) or {}, how)
    config = build(SweepConfig, data, given)
    return (made_tiny(config) if debug else config), run


def _run_sweep(workspace: Workspace, config: SweepConfig, run: SweepRun) -> None:
    from orchestrator.sweep import run_sweep, unfinished

    view = run_sweep(workspace, config, run, out)
    best = view.best()
    if unfinished(view):
        raise KeyboardInterrupt
    if best is not None and best.best is not None:
        out.print(f"\nbest: {best.name} with {best.best[1]:.3f} bits per sample at step {best.best[0]:,}")
        out.print(f"next: orchestrator audition {config.name}")
    raise typer.Exit(SOME_FAILED if any(trial.state == "failed" for trial in view.trials) else DONE)


if __name__ == "__main__":
    main()
