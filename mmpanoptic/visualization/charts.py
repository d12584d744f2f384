"""Charts as plain SVG, readable without colour."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

_ROW, _LABEL, _PLOT = 22, 190, 380
_BLUE, _ORANGE, _GREY = "#0b5394", "#b45309", "#5f6368"
_DASHES = ("", "6 4", "2 3")
Row = tuple[str, float | None, list[float | None] | None]


def bar_chart(title: str, rows: Sequence[Row], unit: str = "", top: float | None = None) -> Markup:
    """Draw a bar a row, with its interval.

    Args:
        title (str): Name of the chart, also for screen readers.
        rows: Label, value and interval (ends may be None) or None; a value of None has no bar.
        unit (str): Behind each value.
        top (float | None): Value at the right end; the largest one by default.

    Returns:
        Markup: ``<svg>``.
    """
    ends = [v for _, value, ends in rows for v in (value, *(ends or ())) if v is not None]
    scale = _PLOT / (top or max([*ends, 1e-9]))
    parts = []
    for k, (label, value, ends_of_row) in enumerate(rows):
        y = 28 + k * _ROW
        parts.append(_text(_LABEL - 6, y + 14, label, "end"))
        if value is None:
            parts.append(_text(_LABEL + 4, y + 14, "none"))
            continue
        width = max(0.0, value * scale)
        parts.append(
            f'<rect x="{_LABEL}" y="{y + 3}" width="{width:.1f}" height="14" fill="{_BLUE}"/>'
        )
        low, high = ends_of_row or (None, None)
        right = width
        if low is not None and high is not None:
            a, b, middle = _LABEL + low * scale, _LABEL + high * scale, y + 10
            parts.append(
                f'<path d="M{a:.1f} {middle}H{b:.1f}M{a:.1f} {y + 5}v10M{b:.1f} {y + 5}v10" '
                f'stroke="{_ORANGE}" stroke-width="2" fill="none"/>'
            )
            right = max(right, high * scale)
        parts.append(_text(_LABEL + right + 5, y + 14, f"{value:.1f}{unit}"))
    return _svg(title, _LABEL + _PLOT + 70, 34 + len(rows) * _ROW, parts)


def line_chart(
    title: str,
    lines: Sequence[tuple[str, Sequence[tuple[float, float | None]]]],
    x_name: str,
    y_name: str,
    x_span: tuple[float, float] = (0.0, 1.0),
    y_span: tuple[float, float] = (0.0, 100.0),
    marks: Sequence[float] = (),
) -> Markup:
    """Draw lines through points; a point without a value is left out.

    Args:
        title (str): Name of the chart, also for screen readers.
        lines: Name and points (x, y) of each.
        x_name (str): Below the axis.
        y_name (str): Above the axis.
        x_span (tuple[float, float]): Ends of the axis.
        y_span (tuple[float, float]): Likewise.
        marks: Vertical lines at these x.

    Returns:
        Markup: ``<svg>``.
    """
    width, height, left, top = 400, 260, 46, 44
    span_x, span_y = (max(b - a, 1e-9) for a, b in (x_span, y_span))

    def place(x: float, y: float) -> tuple[float, float]:
        inside = min(max((y - y_span[0]) / span_y, 0), 1)
        return left + (x - x_span[0]) / span_x * width, top + height * (1 - inside)

    frame = f'x="{left}" y="{top}" width="{width}" height="{height}"'
    parts = [
        f'<rect {frame} fill="none" stroke="{_GREY}"/>',
        _text(left + width / 2, top + height + 34, x_name, "middle"),
        _text(left, top - 6, y_name),
    ]
    for k in range(5):
        x, y = x_span[0] + span_x * k / 4, y_span[0] + span_y * k / 4
        parts.append(_text(place(x, 0)[0], top + height + 16, f"{x:.2f}", "middle"))
        parts.append(_text(left - 4, place(0, y)[1] + 4, f"{y:.0f}", "end"))
    for x in marks:
        at = place(x, 0)[0]
        parts.append(
            f'<path d="M{at:.1f} {top}v{height}" stroke="{_GREY}" stroke-dasharray="3 3"/>'
        )
    for k, (name, points) in enumerate(lines):
        color, dash = (_BLUE, _ORANGE, _GREY)[k % 3], _DASHES[k % 3]
        known = [place(x, y) for x, y in points if y is not None]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in known)
        if path:
            stroke = f'stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"'
            parts.append(f'<path d="M{path}" fill="none" {stroke}/>')
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in known
            ]
        y = top + 18 + 18 * k
        parts.append(
            f'<path d="M{left + width + 12} {y - 4}h26" stroke="{color}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        parts.append(_text(left + width + 44, y, name))
    return _svg(title, left + width + 190, top + height + 46, parts)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> Markup:
    name = escape(title)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{name}" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#1c1c1c">'
    )
    heading = f'<text x="6" y="18" font-weight="600">{name}</text>'
    # What is not ours in the parts is escaped above.
    return Markup("".join([head, heading, *parts, "</svg>"]))  # noqa: S704
