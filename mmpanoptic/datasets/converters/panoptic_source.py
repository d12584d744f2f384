"""A COCO-panoptic set as the input of a converter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.datasets.map_problems import find_size_problem, unlisted_problem
from mmpanoptic.datasets.panoptic_json import PanopticJson, read_categories
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.archives import is_file, is_folder
from mmpanoptic.utils.coco_file import load_json_object
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError
from mmpanoptic.utils.panoptic_png import read_panoptic_png


@dataclass(frozen=True)
class PanopticSource:
    """A panoptic JSON with its PNG folder, checked.

    Attributes:
        json (Path): The file.
        pngs (Path): Folder of the PNGs.
        content (dict): Of the file.
        table (LabelTable): Classes in the order of the JSON's categories.
        records (list[dict]): One per annotated image; see :meth:`PanopticJson.records`.
    """

    json: Path
    pngs: Path
    content: dict[str, Any]
    table: LabelTable
    records: list[dict[str, Any]]

    def images(self) -> list[dict[str, Any]]:
        """Return the entries of ``images`` in the order of the records."""
        by_id = {image["id"]: image for image in self.content["images"]}
        return [by_id[record["img_id"]] for record in self.records]

    @property
    def split(self) -> str:
        """Name of the file without ``panoptic_``, such as ``val2017``."""
        return self.json.stem.removeprefix("panoptic_")


def find_png_folder(path: Path, folder: Path | None = None) -> Path:
    """Find the PNG folder of a panoptic JSON.

    Args:
        path: The JSON.
        folder: Where the user says it is.

    Returns:
        Path: ``folder``, else the JSON's path without ``.json``, else the folder of that name
        beside the JSON's folder (detectron2's layout), else the JSON's own folder if it holds
        PNGs (Mapillary Vistas).

    Raises:
        ValueError: If it is in none of these places.
    """
    places = [folder] if folder else [path.with_suffix(""), path.parent.parent / path.stem]
    for place in places:
        if is_folder(place):
            return place
    if not folder and any(path.parent.glob("*.png")):
        return path.parent
    raise ValueError(
        f"no folder with the PNGs of {path}: looked for {' and '.join(map(str, places))}; name it "
        "with --png-dir"
    )


def load_source(path: Path, folder: Path | None = None) -> PanopticSource:
    """Read and check a panoptic JSON and look whether its PNGs are there.

    Args:
        path: The JSON; ``area``, ``bbox`` and ``iscrowd`` may be absent.
        folder: Of the PNGs; see :func:`find_png_folder`.

    Returns:
        PanopticSource: The set.

    Raises:
        PanopticFormatError: Listing everything that is wrong with the JSON, or all missing PNGs.
    """
    content = load_json_object(str(path))
    pngs = find_png_folder(path, folder)
    table = read_categories(content.get("categories"), str(path))
    records = PanopticJson(content, str(path), table, fill_missing=True).records()
    missing = [
        FormatProblem("missing_file", "there is no such PNG", str(png), record["img_id"])
        for record in records
        if not is_file(png := pngs / record["seg_file"])
    ]
    if missing:
        raise PanopticFormatError(missing)
    return PanopticSource(path, pngs, content, table, records)


def read_ids(path: Path, record: dict[str, Any]) -> np.ndarray:
    """Read the segment ids of a record and compare them with what the JSON says.

    Args:
        path: The PNG.
        record: From :class:`PanopticSource`.

    Returns:
        np.ndarray: int32 ``(H, W)``.

    Raises:
        PanopticFormatError: If the size differs or the PNG holds ids that are not listed.
    """
    ids = read_panoptic_png(path)
    wrong = find_size_problem(ids.shape, record, path)
    problems = [] if wrong is None else [wrong]
    listed = {0, *(segment["id"] for segment in record["segments_info"])}
    unlisted = [int(value) for value in np.unique(ids) if int(value) not in listed]
    if unlisted:
        problems.append(unlisted_problem(unlisted, path, record["img_id"]))
    if problems:
        raise PanopticFormatError(problems)
    return ids
