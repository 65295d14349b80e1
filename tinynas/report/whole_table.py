"""Tables of figures on a terminal: too wide a line wraps, a number is never cut."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDEST = 1000


def print_whole(console: Console, table: Table) -> None:
    """Print a table with all of its columns at their full width."""
    needed = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    console.width = max(console.width, needed)
    console.print(table)
