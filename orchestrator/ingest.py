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
from orchestrator.workspace import CONFIG, Workspace


def run_ingest(workspace: Workspace, config: IngestConfig, console: Console) -> Report:
    """Ingest on Ray, show progress, print the report and return it."""
    meter = _Meter(config.name)
    view = View(console, meter.render, meter.line)
    folder = workspace.dataset(config.name)
    scan(config.source)  # what can be refused is refused before Ray is started
    with hold(folder):
        refuse_other_config(folder, CONFIG, config)

    def heard(done: int, total: int, name: str) -> None:
        meter.done, meter.total, meter.name = done, total, name
        view.tick()

    with view.showing(), connect():
        report = ingest(config, folder, heard)
    console.print(report.to_text(), markup=False, soft_wrap=True)
    return report


class _Meter:
    """Files done and ETA."""

    def __init__(self, dataset: str) -> None:
        self.done, self.total, self.name = 0, 0, ""
        self._dataset, self._clock = dataset, Clock()

    def line(self) -> str:
        if not self.total:
            return f"dataset {self._dataset}{self._clock}: starting"
        left = self._clock.seconds / max(1, self.done) * (self.total - self.done)
        eta = f"; {span(left)} left" if 0 < self.done < self.total else ""
        return f"dataset {self._dataset}{self._clock}: {self.done} of {self.total} files{eta}"

    def render(self) -> Group:
        return Group(bar(self.done, self.total), Text(self.line(), style="dim"))
