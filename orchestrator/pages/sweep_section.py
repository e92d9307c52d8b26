"""What a page says of a sweep: the curves, the table of trials, and labels that name what differs."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import Any

from markupsafe import Markup

from orchestrator.importance import Importances, importances, value_of
from orchestrator.pages.bars import Bar, bars_svg
from orchestrator.pages.clips import ClipTable, clip_table
from orchestrator.pages.curves import COLOURS, Axis, Line, curve_svg
from orchestrator.pages.folder import MadeFolder
from orchestrator.pages.parallel import Column, Trace, parallel_svg
from orchestrator.trials import SweepView, TrialView
from samplernn.config import Experiment

BITS = Axis("validation bits per sample", "bits")


@dataclass(frozen=True)
class TrialRow:
    """One line of the table of trials."""

    name: str
    number: str
    state: str
    reason: str
    step: int
    max_steps: int
    seconds: float
    """Training seconds so far."""
    bits: float | None
    best_step: int | None
    values: list[str]
    """One for each of SweepSection.varied."""
    colour: int | None
    """The curve's colour; 0 is the best trial's."""


@dataclass(frozen=True)
class SweepSection:
    """Everything that sweep_section.html shows."""

    name: str
    dataset: str
    varied: list[str]
    """Hyperparameters that differ between trials."""
    rows: list[TrialRow]
    """Best first; trials without an evaluation last."""
    by_step: Markup
    by_time: Markup
    parallel: Markup | None
    """Settings and bits of every trial; None where nothing varies."""
    importance: Importances | None
    """How much each setting matters; None with too few trials."""
    importance_bars: Markup | None
    clips: ClipTable
    clips_left_out: int
    """Trials whose clips are not shown here."""

    @property
    def best(self) -> TrialRow | None:
        """The trial with the fewest validation bits."""
        return self.rows[0] if self.rows and self.rows[0].bits is not None else None


def sweep_section(made: MadeFolder, sweep: SweepView, clip_trials: int | None = None) -> SweepSection:
    """Put the sweep's clips into the page's folder and describe the rest; clips of the best `clip_trials` only."""
    ranked = sorted(
        sweep.trials, key=lambda trial: (trial.best[1] if trial.best else float("inf"), trial.name)
    )
    varied = list(sweep.config.space)
    labels = {trial.name: trial_label(trial, varied) for trial in ranked}
    colours = {trial.name: at for at, trial in enumerate(ranked) if trial.best and at < COLOURS}
    matter = importances(sweep) if varied else None
    with_clips = [trial for trial in ranked if trial.clips]
    shown = with_clips[:clip_trials]
    return SweepSection(
        name=sweep.config.name,
        dataset=sweep.config.dataset,
        varied=[key.rsplit(".", 1)[-1] for key in varied],
        rows=[_row(trial, varied, colours.get(trial.name)) for trial in ranked],
        by_step=_curve(ranked, labels, colours, "step"),
        by_time=_curve(ranked, labels, colours, "seconds"),
        parallel=_parallel(ranked, labels, colours, varied),
        importance=matter,
        importance_bars=_bars(matter),
        clips=clip_table(made, shown, labels),
        clips_left_out=len(with_clips) - len(shown),
    )


def trial_label(trial: TrialView, varied: list[str]) -> str:
    """`dim 256 · n_rnn 5`: what sets this trial apart; its name when nothing varies."""
    parts = [f"{key.rsplit('.', 1)[-1]} {setting(trial.experiment, key)}" for key in varied]
    return " · ".join(parts) or trial.name


def setting(experiment: Experiment, key: str) -> str:
    """The value of a dotted name for a person: 256, 2×8, 0.001, yes."""
    value: Any = experiment.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "×".join(str(item) for item in value)
    return "none" if value is None else str(value)


def _curve(trials: list[TrialView], labels: dict[str, str], colours: dict[str, int], column: str) -> Markup:
    scale = 60 if column == "seconds" else 1
    lines = []
    for trial in trials:
        rows = [row for row in trial.rows if row["kind"] == "eval"]
        points = [(row[column] / scale, float(row["valid_bits"])) for row in rows]
        lines.append(Line(trial.name, labels[trial.name], points, colours.get(trial.name), trial.state))
    x = Axis("minutes of training", "min") if column == "seconds" else Axis("step", "steps")
    title = f"{BITS.label} over {x.label}, one line a trial"
    chance = max((log2(trial.experiment.model.q_levels) for trial in trials), default=None)
    return Markup(curve_svg(lines, x, BITS, title, y_max=chance))  # built by ElementTree, which escapes


def _parallel(
    trials: list[TrialView], labels: dict[str, str], colours: dict[str, int], varied: list[str]
) -> Markup | None:
    rated = [trial for trial in trials if trial.best is not None]
    if not varied or len(rated) < 2:
        return None
    columns = [Column(name.rsplit(".", 1)[-1], [value_of(trial, name) for trial in rated]) for name in varied]
    columns.append(Column("bits", [trial.best[1] for trial in rated if trial.best]))
    traces = [
        Trace(t.name, f"{labels[t.name]}: {t.best[1]:.3f} bits", colours.get(t.name)) for t in rated if t.best
    ]
    return Markup(parallel_svg(traces, columns, "settings and validation bits, one line a trial"))


def _bars(found: Importances | None) -> Markup | None:
    if found is None:
        return None
    bars = [Bar(each.name.rsplit(".", 1)[-1], each.share, "ours") for each in found.found]
    return Markup(bars_svg(bars, "share of the ranking that each setting alone explains"))


def _row(trial: TrialView, varied: list[str], colour: int | None) -> TrialRow:
    best = trial.best
    last: dict[str, Any] = trial.rows[-1] if trial.rows else {}
    return TrialRow(
        name=trial.name,
        number=trial.name.split("-", 1)[0],
        state=trial.state,
        reason=trial.reason,
        step=last.get("step", 0),
        max_steps=trial.experiment.train.max_steps,
        seconds=last.get("seconds", 0.0),
        bits=best[1] if best else None,
        best_step=best[0] if best else None,
        values=[setting(trial.experiment, key) for key in varied],
        colour=colour,
    )
