"""A batch of songs as a person sees it: the best in the terminal, all on a page."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from orchestrator.live import View, bar
from orchestrator.pages.render import clock
from orchestrator.pages.songs_page import write_songs_page
from orchestrator.ranked_songs import SongRow, ranked_songs
from orchestrator.workspace import Workspace
from samplernn.errors import BadInput

SHOWN = 10
"""Songs in the terminal."""
COLUMNS = (
    ("novelty", "novelty", "{:.2f}"),
    ("variety, dB", "variety_db", "{:.1f}"),
    ("LUFS", "lufs", "{:.1f}"),
    ("peak, dBTP", "true_peak_dbtp", "{:.1f}"),
)
"""(heading, measure, form) of what the terminal shows of a song."""


def show_songs(workspace: Workspace, batch: str, console: Console, page: bool = True) -> None:
    """Print the best songs of a batch, and with `page` write the page of all and say where it is.

    Raises BadInput when the batch has no finished song.
    """
    rows = ranked_songs(workspace, batch)
    if not rows:
        raise BadInput(f"the batch {batch} has no finished song; run orchestrator generate again")
    index = _write_page(workspace, batch, rows, console) if page else None
    order = "the best first" if any(row.measures for row in rows) else "not measured"
    console.print(f"\n{len(rows)} song{'s' if len(rows) > 1 else ''}, {order}:", highlight=False)
    console.print(songs_table(rows[:SHOWN]))
    more = f"and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    if index is None:
        told = f"{more} in {workspace.batch(batch)}/songs".strip()
    else:
        told = f"{more}; all of them: " if more else "to hear them: "
        told += f"open {index}"
    console.print(told, highlight=False, markup=False, soft_wrap=True)


def songs_table(rows: list[SongRow]) -> Table:
    """Ranked songs in 80 columns; what was not measured is left out, and faults where there is none."""
    shown = [column for column in COLUMNS if any(column[1] in row.measures for row in rows)]
    faults = any(row.fault for row in rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("song", no_wrap=True)
    for heading in ("length", *(heading for heading, _, _ in shown)):
        table.add_column(heading, justify="right", no_wrap=True)
    if faults:
        table.add_column("fault", style="red")
    for row in rows:
        values = [(row.measures.get(measure), form) for _, measure, form in shown]
        cells = ["–" if value is None else form.format(value) for value, form in values]
        table.add_row(row.id, clock(row.seconds), *cells, *([Text(row.fault)] if faults else []))
    return table


def _write_page(workspace: Workspace, batch: str, rows: list[SongRow], console: Console) -> str:
    """Where its index.html is; a bar shows how far the pictures are drawn."""
    drawn = [0, len(rows)]

    def line() -> str:
        return f"page of {batch}: {drawn[0]} of {drawn[1]} songs drawn"

    view = View(console, lambda: Group(bar(*drawn), Text(line(), style="dim")), line)

    def heard(done: int, total: int) -> None:
        drawn[:] = [done, total]
        view.tick()

    with view.showing():
        return write_songs_page(workspace, batch, rows, heard)
