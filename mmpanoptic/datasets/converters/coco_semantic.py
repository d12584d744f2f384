"""COCO panoptic to semantic label maps, in the six numberings that code bases expect."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.files import refuse_overwriting
from mmpanoptic.utils.label_png import write_label_png

from .incremental import Job, Summary, convert_files
from .maps import relabel
from .panoptic_source import PanopticSource, read_ids

_THINGS_OTHER = 183
_MARK = ".conversion.json"


def _stuff_numbers(table: LabelTable) -> dict[int, int]:
    """Number the stuff classes 1.. in the order of the category list, by contiguous label."""
    return {label: number for number, label in enumerate(table.stuff_labels, 1)}


def _contiguous(table: LabelTable) -> tuple[list[int], int]:
    return [label.index for label in table], 255


def _things_zero(table: LabelTable) -> tuple[list[int], int]:
    numbers = _stuff_numbers(table)
    return [numbers.get(label.index, 0) for label in table], 255


def _things_last(table: LabelTable) -> tuple[list[int], int]:
    numbers = _stuff_numbers(table)
    return [numbers.get(label.index, len(numbers) + 1) for label in table], 0


def _one_based(table: LabelTable) -> tuple[list[int], int]:
    return [label.index + 1 for label in table], 0


def _category_id(table: LabelTable) -> tuple[list[int], int]:
    return [label.dataset_id for label in table], 0


def _things_other(table: LabelTable) -> tuple[list[int], int]:
    return [_THINGS_OTHER if label.isthing else label.dataset_id for label in table], 0


STYLES: dict[str, Callable[[LabelTable], tuple[list[int], int]]] = {
    "contiguous": _contiguous,
    "things_zero": _things_zero,
    "things_last": _things_last,
    "one_based": _one_based,
    "category_id": _category_id,
    "things_other": _things_other,
}
"""Numberings by name: value of each contiguous label, and the value of void."""

STYLE_HELP = {
    "contiguous": "0..C-1 in category order, void 255 (mmdet, Mask2Former)",
    "things_zero": "all things 0, stuff 1.., void 255 (detectron2's Panoptic FPN, Auto-Panoptic)",
    "things_last": "stuff 1.., all things the next number, void 0 (RAP)",
    "one_based": "1..C in category order, void 0 (RAP's other script)",
    "category_id": "the category ids, void 0 (panopticapi)",
    "things_other": "stuff by category id, all things 183, void 0 (panopticapi --things_other)",
}

DEFAULT_FOLDERS = {
    "contiguous": "panoptic_semseg",
    "things_zero": "panoptic_stuff",
    "things_last": "semantic",
    "one_based": "semantic_one_based",
    "category_id": "semantic_category_id",
    "things_other": "semantic_things_other",
}
"""Prefix of the output folder beside the JSON, as the code bases name it; the split follows."""


def style_values(table: LabelTable, style: str) -> tuple[list[int], int]:
    """Look a numbering up.

    Args:
        table: The classes.
        style: A key of :data:`STYLES`.

    Returns:
        tuple[list[int], int]: Value of each contiguous label, and of void.

    Raises:
        ValueError: If the style is unknown, or the classes do not fit into 8 bits with it.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; known: {', '.join(STYLES)}")
    values, void = STYLES[style](table)
    if min(values) < 0 or max(values) > 255 or void in values:
        raise ValueError(
            f"style {style} would need the values {min(values)}..{max(values)} and void {void}: "
            "that does not fit into an 8-bit map; choose another style"
        )
    return values, void


def convert_to_semantic(
    source: PanopticSource, style: str, out: Path | None = None, nproc: int = 1
) -> Summary:
    """Write one 8-bit label map per panoptic PNG, under the same name.

    Args:
        source: The set.
        style: A key of :data:`STYLES`.
        out: Folder; default ``<prefix>_<split>`` beside the JSON, see :data:`DEFAULT_FOLDERS`.
        nproc: Number of processes.

    Returns:
        Summary: What was done.

    Raises:
        ValueError: If the folder holds maps of another style or of other classes.
        PanopticFormatError: If a PNG does not fit the JSON.
    """
    values, void = style_values(source.table, style)
    out = out or source.json.parent / f"{DEFAULT_FOLDERS[style]}_{source.split}"
    settings = {"style": style, "void": void, "values": _by_name(source.table, values)}
    jobs = [
        Job(
            record["seg_file"],
            (source.pngs / record["seg_file"], source.json),
            (out / record["seg_file"],),
            record,
        )
        for record in source.records
    ]
    refuse_overwriting((s for job in jobs for s in job.sources), (j.outputs[0] for j in jobs))
    adopt = _mark_folder(out, settings)
    function, name = partial(_write_map, values, void), f"{style} {source.split}"
    return convert_files(function, jobs, name, out, nproc, settings, adopt)


def _by_name(table: LabelTable, values: list[int]) -> dict[str, int]:
    return {label.name: value for label, value in zip(table, values, strict=True)}


def _mark_folder(folder: Path, settings: dict[str, object]) -> bool:
    """Refuse to mix two numberings in one folder: the maps themselves would not tell.

    Returns:
        bool: Whether an earlier run marked it.
    """
    mark = folder / _MARK
    if mark.exists() and (found := read_json(mark)) != settings:
        raise ValueError(
            f"{folder} holds maps of style {found.get('style')} or of other classes; choose "
            "another --out-dir or delete the folder"
        )
    if mark.exists():
        return True
    write_json(mark, settings)
    return False


def _write_map(values: list[int], void: int, job: Job) -> None:
    ids = read_ids(job.sources[0], job.data)
    segments = sorted(job.data["segments_info"], key=lambda segment: segment["id"])
    painted = relabel(
        ids,
        [segment["id"] for segment in segments],
        [values[segment["label"]] for segment in segments],
        void,
    )
    write_label_png(job.outputs[0], painted.astype(np.uint8))
