"""Tables for logs and terminals."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

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


def to_percent(numbers: Any) -> Any:
    """Turn fractions into percentages, floats only, and nan into None, which JSON has.

    Args:
        numbers: Nested dicts and lists.

    Returns:
        Any: The same, in percent.
    """
    if isinstance(numbers, dict):
        return {str(key): to_percent(value) for key, value in numbers.items()}
    if isinstance(numbers, Sequence) and not isinstance(numbers, str):
        return [to_percent(value) for value in numbers]
    if isinstance(numbers, float):
        return None if math.isnan(numbers) else 100 * numbers
    return numbers


def _format(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
