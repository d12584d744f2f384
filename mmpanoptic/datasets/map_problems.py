"""What can be wrong with a panoptic PNG: one check for training, converters and the checker."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmpanoptic.utils.format_errors import FormatProblem

_SHOWN = 8


def find_size_problem(
    shape: Sequence[int], record: Mapping[str, Any], path: str | os.PathLike[str]
) -> FormatProblem | None:
    """Compare the size of a map with the JSON's.

    Args:
        shape (Sequence[int]): H and W of the map.
        record (Mapping): With ``height``, ``width`` and ``img_id``.
        path: The PNG.
    """
    height, width = record["height"], record["width"]
    if tuple(shape) == (height, width):
        return None
    detail = (
        f"the PNG is {shape[1]} x {shape[0]} (width x height), the JSON says {width} x {height}"
    )
    return FormatProblem("size_mismatch", detail, os.fspath(path), record.get("img_id"))


def unlisted_problem(
    unlisted: Sequence[int], path: str | os.PathLike[str], image_id: Any
) -> FormatProblem:
    """Describe ids of a PNG that ``segments_info`` does not list.

    Args:
        unlisted: The ids, at least one.
        path: The PNG.
        image_id: Of its image.
    """
    detail = f"the PNG has ids that segments_info does not list {show_ids(unlisted)}"
    return FormatProblem("png_id_not_in_json", detail, os.fspath(path), image_id, tuple(unlisted))


def show_ids(ids: Sequence[Any]) -> str:
    """Write the first segment ids for a message."""
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"(segment ids {', '.join(map(str, ids[:_SHOWN]))}{more})"
