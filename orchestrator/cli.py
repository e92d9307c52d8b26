"""The command line: orchestrator VERB [FOLDER | NAME | FILE.yaml] [dotted.key=value ...].

Verbs import what they need when they run, so that `--help` is there in a blink.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text

from orchestrator.ending import DONE, SOME_FAILED, run_app, stopped_cleanly
from orchestrator.live import View, bar, console
from orchestrator.verb_help import Verbs, taking
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput

if TYPE_CHECKING:
    from orchestrator.config import ExportConfig, SweepFile


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    options_metavar="",
    subcommand_metavar="VERB [FOLDER | NAME | FILE.yaml] [name=value ...]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="""From a folder of songs to an album of new ones, with SampleRNN.

    The way: ingest a folder of music; sweep over models; audition their clips; generate songs from the best; make
    an album. Every verb can be run again: it goes on where it was and never makes anything twice.

    Settings are written in YAML files and changed on the command line as name=value: dim=512, songs=100.
    orchestrator VERB --help lists every setting of a verb.""",
    epilog="""Exit codes: 0 done; 1 some items failed, each is named; 2 bad input; 3 storage or cluster can't be used;
    130 interrupted.""",
)
out = console()

Settings = Annotated[list[str] | None, typer.Argument(metavar="[name=value ...]", show_default=False)]
SweepFileArgument = Annotated[str, typer.Argument(metavar="FILE.yaml | NAME")]
Where = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="FOLDER",
        help="Where everything is kept: a folder, s3://... or gs://... [default: $ORCHESTRATOR_WORKSPACE, "
        "else ./workspace]",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Debug = Annotated[
    bool, typer.Option("--debug", help="Make everything tiny, to see the whole line run in a minute.")
]


@app.command(
    cls=taking("orchestrator.config:IngestFile"), short_help="Turn a folder of music into a dataset."
)
def ingest(
    folder: Annotated[str, typer.Argument(metavar="FOLDER | FILE.yaml | NAME")],
    settings: Settings = None,
    workspace: Where = None,
    report: Annotated[bool, typer.Option("--report", help="Show the report of dataset NAME again.")] = False,
    export: Annotated[
        bool,
        typer.Option(
            "--export",
            help="Write the chunks of dataset NAME as .npy files, as the original does "
            "(chunk_seconds=8 num_chunks=3200 dtype=float16).",
        ),
    ] = False,
) -> None:
    """Turn a FOLDER of music into a dataset: mono, one sample rate, split into train, valid and test.

    Reads WAV, FLAC, Ogg, Opus, MP3, AIFF, M4A, WMA and more, at any rate, with any number of channels; a file
    and a pattern ('music/*.flac') do as well, also in s3:// and gs://. What can't be read is left out and named with
    its reason. A ranges.csv in the folder (file,start,stop) says which part of a file to take.

    Example: orchestrator ingest ~/Music/band name=band sample_rate=16000
    """
    from orchestrator.asked import export_asked, ingest_asked

    if report or export:
        config = export_asked(settings or []) if export else None
        _dataset_again(_open(workspace), folder, report, config)
        return
    asked, root = ingest_asked(folder, settings or []), _open(workspace)
    from orchestrator.ingest import run_ingest
    from orchestrator.tracking.beside import ship_dataset
    from orchestrator.tracking.start import require_trackable

    require_trackable(asked.run.tracking)
    run_ingest(root, asked.dataset, out)
    ship_dataset(root, asked.name, asked.run.tracking, out)
    _next(root, "sweep", "laptop", f"dataset={asked.name}")


@app.command(
    cls=taking("orchestrator.config:SweepFile"), short_help="Train many models; the worst are stopped early."
)
def sweep(
    file: SweepFileArgument,
    settings: Settings = None,
    workspace: Where = None,
    debug: Debug = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Say first what it will take (trials, GPU-hours, time, disk, money), then ask whether to start.",
        ),
    ] = False,
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus", metavar="N", min=0, help="Plan for N GPUs (or CPU cores) instead of those there are."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without asking.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan as JSON; nothing is started.")
    ] = False,
) -> None:
    """Train many models over a space of settings; the worst are stopped early.

    FILE.yaml says what all models share (base) and which values to try (space). Some are shipped, and taken by NAME:
    laptop, overnight, layers-dim-frame, dadabots-300.
    At every checkpoint each model is evaluated and makes a few clips to listen to.

    Example: orchestrator sweep overnight dataset=band
    """
    from orchestrator.asked import sweep_asked

    asked = sweep_asked(file, settings or [], debug)
    _meant(asked, yes)
    root = _open(workspace, quiet=as_json)
    if (plan or gpus is not None or as_json) and not _agreed(root, asked, gpus, yes, as_json):
        return
    _run_sweep(root, asked)


@app.command(cls=taking("orchestrator.config:SweepFile"), short_help="Train one model: a sweep of one trial.")
def train(settings: Settings = None, workspace: Where = None, debug: Debug = False) -> None:
    """Train one model: a sweep of one trial. The first word may be a FILE.yaml like a sweep's.

    Example: orchestrator train dataset=band name=first dim=512 n_rnn=3 max_steps=20000
    """
    from orchestrator.asked import train_asked

    asked = train_asked(settings or [], debug)
    _run_sweep(_open(workspace), asked)


@app.command(cls=taking(), short_help="Show a sweep, or everything in the workspace.")
def status(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[s3://... | FOLDER/] [SWEEP]", show_default=False)
    ] = None,
    workspace: Where = None,
    as_json: AsJson = False,
    live: Annotated[
        bool, typer.Option("--live", help="Keep showing the SWEEP until it ends; Ctrl-C leaves it running.")
    ] = False,
) -> None:
    """Show a sweep, or everything in the workspace; from storage alone, while it runs or afterwards.

    A first word with a slash in it is the workspace, as -w says it: progress of a cluster's sweep, from anywhere.

    Example: orchestrator status overnight

    Example: orchestrator status s3://bucket/workspace overnight --live
    """
    from orchestrator.asked import status_asked
    from orchestrator.status import overview, sweep_status, watch

    workspace, name = status_asked(words or [], workspace)
    if live and (name is None or as_json):
        raise BadInput("--live shows one sweep as a table; name it, and leave --json out")
    root = _open(workspace, quiet=as_json)
    if live and name is not None:
        watch(root, name, out)
        return
    body, shown = overview(root) if name is None else sweep_status(root, name)
    if as_json:
        sys.stdout.write(json.dumps(body, indent=1) + "\n")
    else:
        out.print(shown)


@app.command(
    cls=taking("orchestrator.config:AuditionConfig"), short_help="Open the listening room of a sweep."
)
def audition(
    name: Annotated[str, typer.Argument(metavar="SWEEP | ALBUM | SONGS")],
    settings: Settings = None,
    workspace: Where = None,
    page: Annotated[
        bool, typer.Option("--page", help="Write a page that opens without a server instead, to share.")
    ] = False,
) -> None:
    """Open the listening room of a sweep: every checkpoint's clips to hear, rate and pick, songs to cut into an album.

    It is a web page on this machine alone, also while the sweep runs; Ctrl-C closes it. Marks are kept in picks/, a
    folder a listener. An album's or a batch's name opens the room of the sweep that its songs came from.

    Example: orchestrator audition overnight
    """
    from orchestrator.asked import audition_asked
    from orchestrator.audition.find import find_sweep

    config, listener = audition_asked(settings or [])
    root = _open(workspace)
    sweep = find_sweep(root, name)
    if page and name != sweep and root.batch(name).exists("songs"):
        from orchestrator.show_songs import show_songs

        show_songs(root, name, out)
        _next(root, "album", name)
        return
    if page:
        from orchestrator.pages.sweep_page import write_sweep_page

        out.print(f"open {write_sweep_page(root, sweep)}", soft_wrap=True, markup=False)
        _next(root, "generate", sweep, "songs=8", "seconds=60")
        return
    from orchestrator.audition.serve import serve

    serve(root, sweep, config, listener, lambda line: out.print(line, soft_wrap=True, markup=False))


@app.command(cls=taking("orchestrator.config:PickConfig"), short_help="List or add picked checkpoints.")
def pick(
    name: Annotated[str, typer.Argument(metavar="SWEEP")],
    settings: Settings = None,
    workspace: Where = None,
    drop: Annotated[bool, typer.Option("--drop", help="Take this listener's pick back.")] = False,
) -> None:
    """List the checkpoints of a sweep that listeners picked, or pick one.

    Example: orchestrator pick overnight trial=0042 step=15000
    """
    from orchestrator.asked import pick_asked
    from orchestrator.audition.commands import generate_from
    from orchestrator.audition.find import choose, picks_text

    config, listener = pick_asked(settings or [], drop)
    root = _open(workspace)
    picks = choose(root, name, config, listener, drop)
    out.print(picks_text(root, name), markup=False, soft_wrap=True)
    if picks:
        out.print(f"next: {generate_from(root, name, picks)}", markup=False, soft_wrap=True)


@app.command(cls=taking("orchestrator.config:Retention"), short_help="Remove checkpoints that nobody needs.")
def prune(
    name: Annotated[str, typer.Argument(metavar="SWEEP")],
    settings: Settings = None,
    workspace: Where = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed, and its size.")
    ] = False,
) -> None:
    """Remove the checkpoints of a sweep that nobody needs: neither among the best nor the newest, nor picked.

    What isn't said here is as the sweep's last run had it (its retention). Clips always stay, and so do checkpoints
    that songs were made from. What a kill cut short is removed as well.

    Example: orchestrator prune overnight best=1 --dry-run
    """
    from orchestrator.asked import prune_asked
    from orchestrator.prune import prune as run_prune
    from orchestrator.retention import recorded

    root = _open(workspace)
    retention = prune_asked(recorded(root, name), settings or [])
    run_prune(root, name, retention, dry=dry_run, console=out)


@app.command(
    cls=taking("orchestrator.config:RollbackConfig"),
    short_help="Let a trial go on from an earlier checkpoint.",
)
def rollback(
    name: Annotated[str, typer.Argument(metavar="SWEEP")], settings: Settings = None, workspace: Where = None
) -> None:
    """Let a trial go on from an earlier checkpoint, also one that is done, stopped or failed.

    What it did after that step no longer counts; nothing is to be deleted by hand. The sweep's own command then trains
    it from there.

    Example: orchestrator rollback overnight trial=0042 step=15000
    """
    from orchestrator.asked import rollback_asked
    from orchestrator.rollback import rollback as run_rollback

    config = rollback_asked(settings or [])
    out.print(run_rollback(_open(workspace), name, config), markup=False, soft_wrap=True)


@app.command(
    cls=taking("orchestrator.config:GenerateFile"),
    short_help="Generate songs from a sweep's best or picked checkpoints.",
)
def generate(
    sweep_name: Annotated[
        str | None, typer.Argument(metavar="SWEEP | FILE.yaml | song.json", show_default=False)
    ] = None,
    settings: Settings = None,
    workspace: Where = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", metavar="song.json", help="Make the song of this song.json again, sample by sample."
        ),
    ] = None,
) -> None:
    """Generate songs from a sweep's best checkpoint, the one that trial= and step= name, or all that were picked.

    A FILE.yaml may have several sections, each with a checkpoint, temperatures and a prompt of its own.

    Example: orchestrator generate overnight songs=100 seconds=240 temperature=0.98

    Example: orchestrator generate overnight picks=true songs=20 seconds=120
    """
    from orchestrator.asked import songs_asked

    words = [word for word in [recipe, sweep_name, *(settings or [])] if word is not None]
    file, root = songs_asked(words), _open(workspace)
    from orchestrator.generate import generate as run_generate
    from orchestrator.recipe import Recipe
    from orchestrator.tracking.beside import ship_songs
    from orchestrator.tracking.start import require_trackable

    require_trackable(file.run.tracking)
    again = Recipe.read(words[0]) if words[0].endswith(".json") else None
    failed = run_generate(root, file.job, file.run, out, again)
    for song, reason in failed.items():
        out.print(f"song {song} failed: {reason}", style="red", markup=False, soft_wrap=True)
    if failed:
        songs = "1 song" if len(failed) == 1 else f"{len(failed)} songs"
        out.print(f"{songs} failed; the same command tries again")
    ship_songs(root, file.name, file.run.tracking, out)
    if not failed:
        _next(root, "album", file.name)
    raise typer.Exit(SOME_FAILED if failed else DONE)


@app.command(cls=taking("orchestrator.config:AlbumFile"), short_help="Make an album of a batch of songs.")
def album(
    name: Annotated[str, typer.Argument(metavar="SONGS | FILE.yaml")],
    settings: Settings = None,
    workspace: Where = None,
    propose: Annotated[
        int | None,
        typer.Option(
            "--propose",
            metavar="N",
            help="Make no album yet: write an album.yaml with the N songs that vary most and resemble each other "
            "least, to edit.",
        ),
    ] = None,
) -> None:
    """Make an album of a batch of songs: mastered tracks, a cover, a cue sheet, a page to listen on, an archive.

    Example: orchestrator album overnight-songs name=first-album title="First Album" loudness=-14 crossfade=2
    """
    from orchestrator.album.build import build_album
    from orchestrator.asked import album_asked
    from orchestrator.tracking.beside import ship_album
    from orchestrator.tracking.start import require_trackable

    file = album_asked(name, settings or [])
    require_trackable(file.run.tracking)
    config, root, counted = file.album, _open(workspace), [0, 0]

    def line() -> str:
        what = "songs heard" if propose else "tracks"
        return f"album {config.name}: " + (
            f"{counted[0]} of {counted[1]} {what}" if counted[1] else "reading the songs"
        )

    view = View(out, lambda: Group(bar(*counted), Text(line(), style="dim")), line)

    def heard(ready: int, total: int) -> None:
        counted[:] = [ready, total]
        view.tick()

    if propose is not None:
        from orchestrator.album.propose import propose as run_propose

        with view.showing():
            proposal = run_propose(root, config, propose, heard)
        out.print(proposal.to_text(), markup=False, soft_wrap=True)
        return
    with view.showing():
        result = build_album(root, config, heard)
    out.print(result.to_text(), markup=False, soft_wrap=True)
    ship_album(root, config.name, file.run.tracking, out)


@app.command(
    cls=taking(),
    short_help="Run a verb on a cluster, and follow it.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def submit(
    words: Annotated[list[str] | None, typer.Argument(metavar="[VERB ...]", show_default=False)] = None,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="URL",
            help="The cluster's dashboard; an ssh tunnel makes it local.",
            envvar="RAY_API_SERVER_ADDRESS",
        ),
    ] = "http://127.0.0.1:8265",
    python: Annotated[
        str | None,
        typer.Option(
            "--python",
            metavar="PATH",
            help="Interpreter on the head [default: the one that Ray runs with there].",
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Come back at once; the job goes on.")] = False,
    attach: Annotated[str | None, typer.Option("--attach", metavar="JOB", help="Follow a job again.")] = None,
    stop: Annotated[
        str | None, typer.Option("--stop", metavar="JOB", help="End a job in order, as Ctrl-C does.")
    ] = None,
) -> None:
    """Run a verb on a cluster with this checkout's code, and follow it. Ctrl-C leaves it running.

    Audio is never sent: ingest from here into the workspace on storage that every node sees.

    Example: orchestrator submit sweep configs/sweeps/overnight.yaml dataset=band -w s3://bucket/workspace
    """
    from cluster.jobs import Jobs
    from orchestrator import submit as submission

    if attach:
        code = submission.attach(Jobs(address), attach, out)
    elif stop:
        code = submission.stop(Jobs(address), stop, out)
    else:
        code = submission.submit(words or [], address, python, detach, out)
    raise typer.Exit(code)


@app.command(cls=taking("orchestrator.config:Tracking"), short_help="Ship to W&B what is not there yet.")
def sync(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[SWEEP | DATASET] [name=value ...]", show_default=False)
    ] = None,
    workspace: Where = None,
) -> None:
    """Ship to W&B what is missing there of a SWEEP, or of all: trials, the sweep's table, dataset, songs and albums.

    Every verb ships what it makes; this is for afterwards: the server was down, you logged in later, there are new
    picks. What is there is not sent again; Ctrl-C is safe. Without a login it writes runs for `wandb sync`.

    Example: orchestrator sync overnight
    """
    from orchestrator.asked import sync_asked
    from orchestrator.tracking.sync import sync as run_sync

    name, tracking = sync_asked(words or [])
    whole = run_sync(_open(workspace), name, tracking, out)
    raise typer.Exit(DONE if whole else SOME_FAILED)


@app.command(
    cls=taking("samplernn.config:Experiment"), short_help="Say what this machine can do, and what is wrong."
)
def doctor(
    settings: Settings = None,
    workspace: Where = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Look at every node of the cluster in $RAY_ADDRESS instead.")
    ] = False,
) -> None:
    """Say what this machine can do, and what is wrong with it; with settings, whether such a model fits into memory.

    Example: orchestrator doctor dim=2048 n_rnn=5 batch_size=128
    """
    if cluster:
        raise typer.Exit(_doctor_cluster(_open(workspace), settings))
    from orchestrator.asked import experiment_asked
    from orchestrator.doctor import examine, fits, render

    experiment = experiment_asked(settings) if settings else None
    findings = examine(_open(workspace))
    if experiment is not None:
        findings += fits(experiment)
    out.print(render(findings))
    raise typer.Exit(SOME_FAILED if any(finding.state == "bad" for finding in findings) else DONE)


def main() -> None:
    """Entry point."""
    with stopped_cleanly(shlex.join(["orchestrator", *sys.argv[1:]]), out):
        sys.exit(run_app(app, sys.argv[1:]))


def _open(where: str | None, quiet: bool = False) -> Workspace:
    workspace = Workspace.open(where)
    if not quiet:
        out.print(f"workspace {workspace.storage}", style="dim", soft_wrap=True)
    return workspace


def _next(workspace: Workspace, *words: str) -> None:
    """The next useful command, as it finds this workspace."""
    from orchestrator.audition.commands import orchestrator

    out.print(f"\nnext: {orchestrator(workspace, *words)}", markup=False, soft_wrap=True)


def _doctor_cluster(workspace: Workspace, settings: list[str] | None) -> int:
    from cluster.connect import connect
    from orchestrator.doctor_cluster import examine_cluster, render_cluster

    if settings:
        raise BadInput(f"--cluster looks at nodes, not at a model: leave out {' '.join(settings)}")
    if not os.environ.get("RAY_ADDRESS"):
        raise BadInput(
            "--cluster needs a cluster: on its head RAY_ADDRESS=auto; from here, orchestrator submit doctor --cluster"
        )
    with connect():
        reports = examine_cluster(workspace)
    out.print(render_cluster(reports))
    return SOME_FAILED if any(report.state == "bad" for report in reports) else DONE


def _dataset_again(workspace: Workspace, name: str, report: bool, config: ExportConfig | None) -> None:
    from orchestrator.datasets import require_dataset

    require_dataset(workspace, name)
    if report:
        from orchestrator.ingest import show_report

        show_report(workspace, name, out)
    if config is not None:
        from orchestrator.export import export

        for split, (path, chunks) in export(workspace.dataset(name), config).items():
            out.print(f"{split}: {chunks:,} chunks in {path}", markup=False, soft_wrap=True)


def _meant(asked: SweepFile, yes: bool) -> None:
    """Ask whether a sweep of very many trials is what was meant. Raises BadInput where there is nobody to ask."""
    from orchestrator.plan import MANY
    from orchestrator.points import at_most
    from samplernn.errors import BadInput

    count = at_most(asked)
    if count <= MANY or yes:
        return
    size = f"the space of sweep {asked.name} makes {count:,} trials"
    if not sys.stdin.isatty():
        raise BadInput(f"{size}; say --yes if that is meant, or use search=random num_samples=300")
    typer.confirm(f"{size}; is that what you mean?", default=False, abort=True)


def _agreed(workspace: Workspace, asked: SweepFile, gpus: float | None, yes: bool, as_json: bool) -> bool:
    """Show the plan of a sweep; whether it is to be started."""
    from orchestrator.sweep_plan import make_plan, shown

    plan = make_plan(workspace, asked, gpus, console(stderr=True) if as_json else out)
    if as_json:
        sys.stdout.write(json.dumps(plan.to_json(), indent=1) + "\n")
        return False
    out.print(shown(plan))
    if yes:
        return True
    if not sys.stdin.isatty():
        out.print("\nnothing is started; next: the same command without --plan, or with --yes")
        return False
    return typer.confirm("\nstart it now?", default=True)


def _run_sweep(workspace: Workspace, asked: SweepFile) -> None:
    from orchestrator.sweep import run_sweep

    view = run_sweep(workspace, asked, out)
    failed = [trial for trial in view.trials if trial.state == "failed"]
    for trial in failed:
        out.print(f"{trial.name} {trial.reason}", style="red", markup=False, soft_wrap=True)
    best = view.best()
    if best is not None and best.best is not None:
        out.print(
            f"\nbest: {best.name} with {best.best[1]:.3f} bits per sample at step {best.best[0]:,}",
            soft_wrap=True,
        )
        _next(workspace, "audition", asked.name)
    raise typer.Exit(SOME_FAILED if failed else DONE)


if __name__ == "__main__":
    main()
