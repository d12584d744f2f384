"""Tables for logs and terminals."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH = 200  # wide enough for every table here; a log has no terminal to ask


def render_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Draw a table as plain text.

    Args:
        title (str): First line.
        header (Sequence[str]): Names of the columns.
        rows (Sequence): Text as it is, integers with separators, floats with two digits, nan and
            None as a dash.

    Returns:
        str: Several lines.
    """
    table = Table(title=title, title_justify="left", title_style="", box=box.ASCII2)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_format(value) for value in row))
    buffer = io.StringIO()
    Console(file=buffer, width=_WIDTH, color_system=None, markup=False).print(table)
    return buffer.getvalue().rstrip("\n")


def _format(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
