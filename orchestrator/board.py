"""The live table of a sweep: every trial's state, step, bits and speed, and an ETA for the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.live import Clock, bar, span
from orchestrator.plan import PlannedTrial
from orchestrator.trials import ENDED, SweepView

COLOURS = {
    "running": "cyan",
    "failed": "red",
    "interrupted": "magenta",
    "done": "green",
    "stopped": "yellow",
    "waiting": "dim",
}
"""The states in the order of interest, and their colours."""
AROUND_ROWS = 8
"""Lines of the screen that are not a trial's: the header, the bar, what is said above and below."""
REASONS_SHOWN = 3
ETA_AFTER_S = 10.0
"""Seconds of training before how long the rest takes is said: before, it is mostly how long things take to start."""


@dataclass
class TrialLine:
    """What is known of one trial."""

    name: str
    max_steps: int
    state: str = "waiting"
    step: int = 0
    train_bits: float | None = None
    valid_bits: float | None = None
    samples_per_s: float | None = None
    reason: str = ""
    seconds_left: float | None = None
    """As read from storage: of the trial alone."""
    gpu: str = ""
    node: str = ""
    clip: int | None = None
    """The step of the newest clips."""

    @property
    def steps_left(self) -> int:
        """Steps that this trial may still take."""
        return 0 if self.state in ENDED else self.max_steps - self.step


class Board:
    """All trials of a sweep as reports come in."""

    def __init__(self, name: str, planned: list[PlannedTrial], expected: int = 0) -> None:
        """`expected` is the number of trials where more will come than are planned yet."""
        self.name, self.expected = name, expected
        self.lines = {t.name: TrialLine(t.name, t.experiment.train.max_steps) for t in planned}
        self._clock: Clock | None = None
        self._training: Clock | None = None
        """Runs since the first worker began to train."""
        self._taken = 0

    @classmethod
    def of(cls, view: SweepView) -> Board:
        """The board of a sweep as it stands on storage."""
        board = cls(view.config.name, [])
        for trial in view.trials:
            line = TrialLine(trial.name, trial.experiment.train.max_steps, trial.state, reason=trial.reason)
            for row in trial.rows:
                line.step = row["step"]
                line.train_bits = row.get("train_bits", line.train_bits)
                line.samples_per_s = row.get("samples_per_s", line.samples_per_s)
            line.valid_bits = trial.best[1] if trial.best else None
            line.seconds_left, (line.gpu, line.node) = trial.seconds_left, trial.place
            line.clip = trial.clips[-1].step if trial.clips else None
            board.lines[trial.name] = line
        return board

    def begin(self) -> None:
        """The sweep is being run from now on: count the time."""
        self._clock = Clock()

    def seen(self, trial: str, report: dict[str, Any]) -> None:
        """Take in one report of the scheduler."""
        if report["kind"] == "planned":
            self.lines.setdefault(trial, TrialLine(trial, report["max_steps"]))
            return
        line = self.lines[trial]
        if report["kind"] == "end":
            line.state, line.reason = report["state"], report["reason"]
            if line.state == "done":
                line.step = line.max_steps
            return
        if report["kind"] not in ("start", "log", "saved"):
            return
        line.state = "running"
        self._training = self._training or Clock()
        if report["kind"] != "start":
            self._taken += max(0, report["step"] - line.step)
        line.step = report["step"]
        line.train_bits = report.get("train_bits", line.train_bits)
        line.samples_per_s = report.get("samples_per_s", line.samples_per_s)
        if "bits" in report:
            line.valid_bits = min(report["bits"], line.valid_bits or report["bits"])

    @property
    def eta_s(self) -> float | None:
        """Seconds until everything planned is done, if no trial is stopped early; None until a speed is known."""
        if self._training is None or self._training.seconds < ETA_AFTER_S or not self._taken:
            return None
        return self._steps()[1] * self._training.seconds / self._taken

    def _steps(self) -> tuple[int, int]:
        """All steps that trials may take, and those that are left; trials yet to come are taken to be as long."""
        total = sum(line.max_steps for line in self.lines.values())
        left = sum(line.steps_left for line in self.lines.values())
        coming = max(0, self.expected - len(self.lines)) * total // max(1, len(self.lines))
        return total + coming, left + coming

    def render(self, height: int | None = None) -> Group:
        """The table, a bar and why trials failed; on a screen of `height` lines the trials that matter most."""
        rows = list(self.lines.values())
        most = len(rows) if height is None else max(3, height - AROUND_ROWS)
        if len(rows) > most:
            rows = sorted(rows, key=_interest)[:most]
        table = _table(rows, self._clock is None)
        parts: list[RenderableType] = [table]
        if len(rows) < len(self.lines):
            parts.append(Text(f"and {len(self.lines) - len(rows)} more trials", style="dim"))
        total, steps_left = self._steps()
        parts += [bar(total - steps_left, total), Text(self.line(), style="dim")]
        parts += [Text(reason, style="red") for reason in self.failures(height and REASONS_SHOWN)]
        return Group(*parts)

    def failures(self, most: int | None = None) -> list[str]:
        """A line for each failed trial with its reason; with `most`, the first of them and how many more."""
        lines = [f"{line.name}: {line.reason}" for line in self.lines.values() if line.state == "failed"]
        if most is None or len(lines) <= most:
            return lines
        return [*lines[:most], f"and {len(lines) - most} more failed"]

    def line(self) -> str:
        """Everything in one line."""
        count = {state: sum(line.state == state for line in self.lines.values()) for state in COLOURS}
        told = ", ".join(f"{number} {state}" for state, number in count.items() if number)
        if self.expected > len(self.lines):
            told += f"{', ' if told else ''}{self.expected - len(self.lines)} to come"
        rated = [line for line in self.lines.values() if line.valid_bits is not None]
        best = min(rated, key=lambda line: line.valid_bits or 0.0, default=None)
        text = f"sweep {self.name}{self._clock or ''}: {told}"
        if best is not None:
            text += f"; best {best.valid_bits:.3f} bits ({best.name})"
        eta = self.eta_s
        return text + (f"; at most {span(eta)} left" if eta else "")


def _interest(line: TrialLine) -> tuple[int, float, str]:
    return list(COLOURS).index(line.state), line.valid_bits or 99.0, line.name


def _table(rows: list[TrialLine], places: bool) -> Table:
    """A row a trial; with where it runs, when it will be done and its newest clips where that was read from storage."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    headers = ["trial", "state", "step", "train bits", "valid bits", "samples/s"]
    for header in headers + (["ETA", "GPU", "node", "last clip"] if places else []):
        left = header in ("trial", "state", "GPU", "node")
        folds = header in ("trial", "node")
        table.add_column(header, justify="left" if left else "right", no_wrap=not folds, overflow="fold")
    for line in rows:
        cells = [
            f"{line.step:,}/{line.max_steps:,}",
            *(f"{bits:.3f}" if bits is not None else "" for bits in (line.train_bits, line.valid_bits)),
            f"{line.samples_per_s:,.0f}" if line.samples_per_s and line.state == "running" else "",
        ]
        if places:
            left_s, clip = line.seconds_left, line.clip
            cells += ["" if left_s is None else span(left_s), line.gpu, line.node]
            cells.append("" if clip is None else f"step {clip:,}")
        table.add_row(line.name, Text(line.state, style=COLOURS[line.state]), *cells)
    return table
