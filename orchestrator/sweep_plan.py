"""`sweep --plan`: measure what isn't known yet, forecast, and show it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.connect import alive_nodes, connect
from orchestrator.budget import Meter
from orchestrator.calibration import Speed, calibrate
from orchestrator.config import SweepFile
from orchestrator.datasets import require_dataset
from orchestrator.drift import refuse_other_config
from orchestrator.forecast import Forecast, forecast, trials_to_plan
from orchestrator.journal import Journal
from orchestrator.live import View, bar, span
from orchestrator.on_ray.calibrate import measure, place
from orchestrator.on_ray.fitting import per_trial, slots
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.chunks import CARD, regions_of
from samplernn.config import Experiment
from samplernn.errors import BadInput

GB = 1e9


def make_plan(workspace: Workspace, asked: SweepFile, gpus: float | None, console: Console) -> Forecast:
    """The forecast of a sweep, or of what is left of it, on the cluster's GPUs or on so many.

    Raises BadInput as the sweep itself would: a missing dataset, an impossible trial, a name that is taken.
    """
    trials, folder = trials_to_plan(asked.sweep), workspace.sweep(asked.name)
    require_dataset(workspace, asked.dataset)
    refuse_other_config(folder, CONFIG, asked.sweep)
    journal = Journal(folder)
    ended = {name for name, entry in journal.ended().items() if entry["final"]}
    if asked.search == "tpe":  # its trials are stood for by others
        ended = {trial.name for trial in trials[: len(ended)]}
    experiments = [trial.experiment for trial in trials if trial.name not in ended]
    if not experiments:
        raise BadInput(
            f"sweep {asked.name} is finished: there is nothing left to plan; see orchestrator status"
        )
    with connect():
        share = per_trial(asked.resources)
        at_once = sum(slots(share, alive_nodes()))
        if gpus is not None:
            at_once = int(gpus / (share["GPU"] or share["CPU"]) + 1e-9)
            if not at_once:
                raise BadInput(
                    f"--gpus {gpus:g} holds no trial, which takes {share['GPU'] or share['CPU']:g}; give more"
                )

        def measured(missing: list[Experiment]) -> Iterator[tuple[Experiment, Speed]]:
            return _watched(console, missing, measure(workspace, asked.dataset, missing, share))

        calibration = calibrate(workspace, experiments, place(share), measured)
    card = commit.read_record(workspace.dataset(asked.dataset), CARD)
    regions, rate = regions_of(card), card["sample_rate"]
    held_out = {
        split: sum(stop - start for _, start, stop in regions[split]) / rate for split in ("valid", "test")
    }
    return forecast(
        asked, trials, ended, calibration, at_once, share["GPU"],
        sample_rate=rate, held_out=held_out, free_bytes=folder.free_bytes(),
        budget=Meter(journal.entries).spent().left_of(asked.budget),
    )  # fmt: skip


def _watched(
    console: Console, missing: list[Experiment], found: Iterator[tuple[Experiment, Speed]]
) -> Iterator[tuple[Experiment, Speed]]:
    """The same, with a bar on the screen."""
    done = 0

    def line() -> str:
        return f"measuring how fast they train: {done} of {len(missing)} sizes"

    if not missing:
        return
    view = View(console, lambda: Group(bar(done, len(missing)), Text(line(), style="dim")), line)
    with view.showing():
        for each in found:
            done += 1
            view.tick()
            yield each


def shown(plan: Forecast) -> RenderableType:
    """The plan for a person."""
    sizes = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("size", "trials", "steps/s", "checkpoint", "model", "speed is"):
        sizes.add_column(
            header, justify="left" if header in ("size", "speed is") else "right", overflow="fold"
        )
    for row in plan.sizes:
        sizes.add_row(
            row["size"], f"{row['trials']:,}", f"{row['steps_per_s']:.3g}", f"{row['checkpoint_s']:.1f} s",
            f"{row['model_bytes'] / 1e6:,.1f} MB", row["source"],
        )  # fmt: skip
    total = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    unit = "GPU-hours" if plan.gpus_per_trial else "hours of a worker"
    held = plan.gpus_per_trial or 1.0
    for header in ("", "steps", unit, f"time, {plan.slots} at once", "disk"):
        total.add_column(header, justify="left" if not header else "right")
    columns = {"every trial to its end": plan.whole}
    rules = [] if plan.schedule.type == "none" else [f"with {plan.schedule.type}"]
    rules += ["within the budget"] if plan.used_up else []
    if rules:
        columns[", ".join(rules)] = plan.planned
    for name, amount in columns.items():
        hours = (amount.hours[0] * held, amount.hours[1] * held)
        total.add_row(
            name, _range([f"{steps:,}" for steps in amount.steps]), _range([f"{h:,.3g}" for h in hours]),
            _range([span(seconds) for seconds in amount.makespan_s]),
            _range([f"{size / GB:,.2f}" for size in amount.disk]) + " GB",
        )  # fmt: skip
    parts: list[RenderableType] = [Text(_headline(plan)), Text(), sizes, Text(), total]
    if plan.used_up is not None:
        parts.append(Text(f"the budget ends it before its trials do: {plan.used_up}", style="yellow"))
    if plan.price is not None:
        money = [f"{hours * plan.price:,.2f}" for hours in plan.gpu_hours]
        parts.append(Text(f"money: {_range(money)}, at {plan.price:g} a GPU-hour"))
    if plan.free_bytes is not None and plan.planned.disk[1] > plan.free_bytes:
        free = f"{plan.free_bytes / GB:,.1f} GB"
        parts.append(Text(f"only {free} are free: trials will pause when the disk is full", style="red"))
    return Group(*parts)


def _headline(plan: Forecast) -> str:
    device = "1 CPU core" if plan.place["threads"] == 1 else f"{plan.place['threads']} CPU cores"
    each = device if not plan.gpus_per_trial else f"{plan.gpus_per_trial:g} {plan.place['device']}"
    some = f" ({plan.finished:,} have ended already)" if plan.finished else ""
    stood = ", their sizes drawn as tpe might choose them" if plan.search == "tpe" else ""
    return (
        f"plan of {plan.name}: {plan.trials:,} trials{some}{stood}; {plan.slots:,} at a time, each on {each}"
    )


def _range(texts: list[str]) -> str:
    least, most = texts
    return least if least == most else f"{least} to {most}"
