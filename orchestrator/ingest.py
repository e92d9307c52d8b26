"""`ingest`: a folder of audio into a dataset, with a bar and a report."""

from __future__ import annotations

from rich.console import Console, Group
from rich.text import Text

from cluster.connect import connect
from orchestrator.audio_folder import scan
from orchestrator.config import IngestConfig
from orchestrator.drift import refuse_other_config
from orchestrator.ingest_report import Report
from orchestrator.lease import hold
from orchestrator.live import Clock, View, bar, span
from orchestrator.on_ray.ingest import ingest
from orchestrator.pages.dataset_page import write_dataset_page
from orchestrator.workspace import CONFIG, Workspace
from samplernn import commit
from samplernn.chunks import CARD
from samplernn.storage import Storage


def run_ingest(workspace: Workspace, config: IngestConfig, console: Console) -> Report:
    """Ingest on Ray, show progress, print the report and return it."""
    meter = _Meter(config.name)
    view = View(console, meter.render, meter.line)
    folder = workspace.dataset(config.name)
    scan(config.source)  # what can be refused is refused before Ray is started
    with hold(folder):
        refuse_other_config(folder, CONFIG, config)

    def heard(done: int, total: int, name: str) -> None:
        meter.heard(done, total, name)
        view.tick()

    with view.showing(), connect():
        report = ingest(config, folder, heard)
    _show(report, folder, console)
    return report


def show_report(workspace: Workspace, name: str, console: Console) -> None:
    """Print the report of a dataset that is there, and bring its page up to date."""
    folder = workspace.dataset(name)
    _show(Report(commit.read_record(folder, CARD), str(folder)), folder, console)


def _show(report: Report, folder: Storage, console: Console) -> None:
    console.print(report.to_text(), markup=False, soft_wrap=True)
    console.print(f"Page: {write_dataset_page(folder, report)}", markup=False, soft_wrap=True)


class _Meter:
    """Files, or pieces of long ones, that are done, and ETA."""

    def __init__(self, dataset: str) -> None:
        self.done, self.total, self.name = 0, 0, ""
        self._dataset, self._clock = dataset, Clock()
        self._first = 0.0

    def heard(self, done: int, total: int, name: str) -> None:
        """One more has ended."""
        if done == 1:
            self._first = self._clock.seconds  # Ray's start says nothing of how long a file takes
        self.done, self.total, self.name = done, total, name

    def line(self) -> str:
        if not self.total:
            return f"dataset {self._dataset}{self._clock}: starting"
        left = (self._clock.seconds - self._first) / max(1, self.done - 1) * (self.total - self.done)
        eta = f"; {span(left)} left" if 1 < self.done < self.total else ""
        return f"dataset {self._dataset}{self._clock}: {self.done} of {self.total}, {self.name}{eta}"

    def render(self) -> Group:
        return Group(bar(self.done, self.total), Text(self.line(), style="dim"))
