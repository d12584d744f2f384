"""Tables for logs and terminals, as users of mmdet know them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from terminaltables import AsciiTable


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
    table = AsciiTable([list(header), *([_format(value) for value in row] for row in rows)])
    table.justify_columns = dict.fromkeys(range(1, len(header)), "right")
    # AsciiTable leaves a title out that is wider than the table.
    return "\n".join([title, table.table] if title else [table.table])


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
