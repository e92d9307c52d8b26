"""The live table of a sweep: every trial's state, step, bits and speed, and an ETA for the whole."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.live import bar, span
from orchestrator.plan import PlannedTrial
from orchestrator.trials import SweepView

COLOURS = {"waiting": "dim", "running": "cyan", "done": "green", "stopped": "yellow", "failed": "red"}
ROWS_SHOWN = 24


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

    @property
    def steps_left(self) -> int:
        """Steps that this trial may still take."""
        return self.max_steps - self.step if self.state in ("waiting", "running") else 0


class Board:
    """All trials of a sweep as reports come in."""

    def __init__(self, name: str, planned: list[PlannedTrial]) -> None:
        self.name = name
        self.lines = {t.name: TrialLine(t.name, t.experiment.train.max_steps) for t in planned}
        self._began, self._taken = time.monotonic(), 0

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
            board.lines[trial.name] = line
        return board

    def seen(self, trial: str, report: dict[str, Any]) -> None:
        """Take in one report of the scheduler."""
        line = self.lines[trial]
        if report["kind"] == "end":
            line.state, line.reason = report["state"], report["reason"]
            if line.state == "done":
                line.step = line.max_steps
            return
        if report["kind"] == "failed":
            return
        line.state = "running"
        if report["kind"] != "start":
            self._taken += max(0, report["step"] - line.step)
        line.step = report["step"]
        line.train_bits = report.get("train_bits", line.train_bits)
        line.samples_per_s = report.get("samples_per_s", line.samples_per_s)
        if "bits" in report:
            line.valid_bits = min(report["bits"], line.valid_bits or report["bits"])

    @property
    def eta_s(self) -> float | None:
        """Seconds until everything planned is done, if no trial is stopped early; None before there is a speed."""
        left = sum(line.steps_left for line in self.lines.values())
        elapsed = time.monotonic() - self._began
        return left * elapsed / self._taken if self._taken else None

    def render(self) -> Group:
        """The table and a bar."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for header in ("trial", "state", "step", "train", "valid", "samples/s"):
            table.add_column(
                header, justify="left" if header in ("trial", "state") else "right", no_wrap=True
            )
        table.add_column("", no_wrap=True, ratio=1)
        lines = sorted(self.lines.values(), key=lambda line: (line.state == "waiting", line.name))
        for line in lines[:ROWS_SHOWN]:
            table.add_row(
                line.name,
                Text(line.state, style=COLOURS[line.state]),
                f"{line.step:,}/{line.max_steps:,}",
                *(f"{bits:.3f}" if bits is not None else "" for bits in (line.train_bits, line.valid_bits)),
                f"{line.samples_per_s:,.0f}" if line.samples_per_s and line.state == "running" else "",
                Text(line.reason, style="dim", overflow="ellipsis"),
            )
        if len(lines) > ROWS_SHOWN:
            table.add_row(f"and {len(lines) - ROWS_SHOWN} more")
        total = sum(line.max_steps for line in self.lines.values())
        left = sum(line.steps_left for line in self.lines.values())
        return Group(table, bar(total - left, total), Text(self.line(), style="dim"))

    def line(self) -> str:
        """Everything in one line."""
        count = {state: sum(line.state == state for line in self.lines.values()) for state in COLOURS}
        told = ", ".join(f"{number} {state}" for state, number in count.items() if number)
        rated = [line for line in self.lines.values() if line.valid_bits is not None]
        best = min(rated, key=lambda line: line.valid_bits or 0.0, default=None)
        text = f"sweep {self.name}: {told}"
        if best is not None:
            text += f"; best {best.valid_bits:.3f} bits ({best.name})"
        eta = self.eta_s
        return text + (f"; at most {span(eta)} left" if eta and count["running"] + count["waiting"] else "")
