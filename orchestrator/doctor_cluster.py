"""`doctor --cluster`: every node of the cluster side by side, and what to do about each cell that is not right.

It runs by itself before a sweep on more than one node. Two rounds: each node writes a file and looks at itself; then
each reads what all others wrote.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cluster.connect import Unreachable
from cluster.nodes import Node, Probes, Silent, alive_nodes, probes
from orchestrator.doctor import MARKS, Finding
from orchestrator.node_check import NodeFacts, look, read_all, versions
from orchestrator.workspace import Workspace

COLUMNS = (
    "answers", "versions", "clock", "storage", "temporary files", "shared memory", "open files", "GPU", "datasets"
)  # fmt: skip
DRIVER = "driver"
CLOCK_S = {"warn": 1.0, "bad": 60.0}
"""Nothing here is ordered by clocks, but tokens expire and people read times."""


@dataclass(frozen=True)
class NodeReport:
    """A row of the table: a node and its cells, one a column (an unanswering node has the first alone)."""

    node: Node
    findings: list[Finding]

    @property
    def state(self) -> Literal["ok", "warn", "bad"]:
        """Of its worst cell."""
        states = {finding.state for finding in self.findings}
        return "bad" if "bad" in states else "warn" if "warn" in states else "ok"


def examine_cluster(workspace: Workspace) -> list[NodeReport]:
    """Ask every alive node. Ray must be connected; what is written for it in the workspace is deleted again.

    Raises StorageError when this process itself can't write to the workspace.
    """
    cache, name = workspace.cache("doctor"), secrets.token_hex(8)
    folder = cache.at(name)
    folder.write(DRIVER, DRIVER.encode())
    try:
        with probes() as asked:
            clocks = asked.clocks()
            facts: dict[Node, NodeFacts] = asked.ask(look, folder, [DRIVER], own=True)
            crossed: dict[Node, Finding] = asked.ask(read_all, folder, [node.id for node in facts])
            return _reports(asked, facts, crossed, clocks)
    finally:
        cache.delete(name)


def _reports(
    asked: Probes,
    facts: dict[Node, NodeFacts],
    crossed: dict[Node, Finding],
    clocks: dict[Node, tuple[float, float]],
) -> list[NodeReport]:
    reports = []
    for node in asked.actors:
        if node in asked.silent:
            reports.append(NodeReport(node, [unanswered(asked.silent[node])]))
            continue
        own = [
            crossed[node] if finding.name == "storage" and finding.state == "ok" else finding
            for finding in facts[node].findings
        ]
        first = [
            Finding("answers", "yes"),
            same_versions(versions(), facts[node].versions),
            clock(*clocks[node]),
        ]
        reports.append(NodeReport(node, [*first, *own]))
    return reports


def unanswered(silent: Silent) -> Finding:
    """The one cell of a node that did not answer."""
    if "ModuleNotFoundError" in silent.reason:
        return Finding(
            "answers", silent.reason, "bad", "set this project up there (make setup), at the path it has here"
        )
    return Finding(
        "answers", silent.reason, "warn", "it is being lost or overloaded; trials that it took are moved"
    )


def same_versions(here: dict[str, str], there: dict[str, str]) -> Finding:
    """Whether a node has what the driver has."""
    other = [f"{name} {there[name]} (here {here[name]})" for name in here if here[name] != there[name]]
    if not other:
        return Finding("versions", "the same")
    remedy = "bring the node to this code and lock: ray up again, or git pull && make setup there, or one image for all"
    return Finding("versions", ", ".join(other), "bad", remedy)


def clock(difference: float, doubt: float) -> Finding:
    """Whether a node's clock is right, both in seconds; a difference within the doubt is none."""
    off = max(0.0, abs(difference) - doubt)
    value = f"{difference:+.3f} s (± {doubt:.3f})"
    state: Literal["ok", "warn", "bad"] = (
        "bad" if off > CLOCK_S["bad"] else "warn" if off > CLOCK_S["warn"] else "ok"
    )
    remedy = (
        ""
        if state == "ok"
        else "let the node take its time from the network: systemctl restart chrony (or systemd-timesyncd)"
    )
    return Finding("clock", value, state, remedy)


def render_cluster(reports: list[NodeReport], only: Literal["all", "wrong"] = "all") -> RenderableType:
    """The table, a row a node, and below it every cell that is not right with its remedy."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("node", *COLUMNS[1:]):
        table.add_column(name, no_wrap=name == "node")
    told: list[RenderableType] = []
    for report in reports:
        if only == "wrong" and report.state == "ok":
            continue
        cells = {finding.name: MARKS[finding.state] for finding in report.findings}
        table.add_row(_called(report.node), *(cells.get(name, "[dim]?[/]") for name in COLUMNS[1:]))
        for finding in report.findings:
            if finding.state != "ok":
                text = f"{MARKS[finding.state]} {escape(_called(report.node))} {finding.name}: {escape(finding.value)}"
                told.append(Text.from_markup(f"{text}\n   [dim]→[/] {escape(finding.remedy)}"))
    return Group(table, *(["", *told] if told else []), "", summary(reports))


def summary(reports: list[NodeReport]) -> str:
    """One line: how many nodes are right."""
    states = Counter(report.state for report in reports)
    parts = [f"{states['ok']} of {len(reports)} nodes are right"]
    parts += [f"{states['warn']} worth a look"] * bool(states["warn"])
    parts += [f"{states['bad']} must be mended before they can work"] * bool(states["bad"])
    return "; ".join(parts)


def check_before(workspace: Workspace, show: Callable[[RenderableType], None]) -> None:
    """Before a sweep on several nodes: shows what is not right. Raises Unreachable where a cell is red."""
    if len(alive_nodes()) < 2:
        return
    reports = examine_cluster(workspace)
    if all(report.state == "ok" for report in reports):
        return
    show(render_cluster(reports, only="wrong"))
    bad = [report for report in reports if report.state == "bad"]
    if bad:
        cells = [f.name for report in bad for f in report.findings if f.state == "bad"]
        raise Unreachable(
            f"{len(bad)} of {len(reports)} nodes can't do their part ({', '.join(dict.fromkeys(cells))}; the first: "
            f"{_called(bad[0].node)}); mend what the table says, or stop Ray on them, and run the same command again"
        )


def _called(node: Node) -> str:
    return f"{node.host} ({node.address})"
