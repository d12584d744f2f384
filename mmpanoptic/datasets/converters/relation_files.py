"""Relations of a whole set: reading, many processes, verification, writing."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.datasets.map_problems import show_ids
from mmpanoptic.datasets.panoptic_json import PanopticJson, read_categories
from mmpanoptic.utils import write_json
from mmpanoptic.utils.coco_file import InstanceJson, is_box, load_json_object, place_of
from mmpanoptic.utils.files import refuse_overwriting
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError
from mmpanoptic.utils.jobs import run, write_file
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from .relations import (
    ImageRelations,
    RelationCounts,
    RelationOptions,
    add_overlaps,
    find_relations,
)

_PICKLE_PROTOCOL = 2
"""What the published tool wrote and reads."""

ImageEntry = tuple[Any, tuple[int, int], list[dict[str, Any]], list[dict[str, Any]], str]


@dataclass(frozen=True)
class RelationSet:
    """A set with both annotations.

    Attributes:
        content (dict): The instance JSON.
        entries (list[ImageEntry]): Of each image with both annotations: id, size, annotations,
            segments and name of the PNG, in the order of the panoptic JSON.
        thing_ids (frozenset[int]): Category ids of the things.
        panoptic (Path): The panoptic JSON.
        instances (Path): The instance JSON.
    """

    content: dict[str, Any]
    entries: list[ImageEntry]
    thing_ids: frozenset[int]
    panoptic: Path
    instances: Path


def load_set(instances: Path, panoptic: Path) -> RelationSet:
    """Read both annotations of a set.

    Args:
        instances (Path): COCO instance JSON.
        panoptic (Path): COCO-panoptic JSON of the same images.

    Returns:
        RelationSet: Images that lack one of the annotations are left out.

    Raises:
        PanopticFormatError: If a file lacks something.
    """
    reader = InstanceJson(load_json_object(instances), instances)
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in reader.annotations():
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    maps = load_json_object(panoptic)
    table = read_categories(maps.get("categories"), str(panoptic), drop_colors=True)
    parsed = PanopticJson(maps, panoptic, table)
    records = parsed.records()
    _check_boxes(reader, by_image, parsed, records)
    entries = [
        (
            record["img_id"],
            (record["height"], record["width"]),
            by_image[record["img_id"]],
            record["segments_info"],
            record["seg_file"],
        )
        for record in records
        if record["img_id"] in by_image
    ]
    things = frozenset(label.dataset_id for label in table if label.isthing)
    return RelationSet(dict(reader.content), entries, things, panoptic, instances)


def _check_boxes(
    reader: InstanceJson,
    by_image: Mapping[Any, Sequence[Mapping[str, Any]]],
    parsed: PanopticJson,
    records: Sequence[Mapping[str, Any]],
) -> None:
    """Refuse instances and segments without a box, which the matching needs."""
    for image_id, entries in by_image.items():
        for annotation in entries:
            if not is_box(annotation.get("bbox")):
                place = place_of("annotations", annotation["position"], annotation)
                detail = f"{place}.bbox must be [x, y, width, height], got {annotation.get('bbox')}"
                reader.add("bad_field", detail, image_id)
    for record in records:
        lacking = [s["id"] for s in record["segments_info"] if "bbox" not in s]
        if lacking:
            detail = f"segments lack bbox {show_ids(lacking)}"
            parsed.add("missing_field", detail, record["img_id"], lacking)
    if reader.problems or parsed.problems:
        raise PanopticFormatError([*reader.problems, *parsed.problems])


def extract_relations(
    source: RelationSet,
    options: RelationOptions,
    nproc: int = 1,
    png_dir: Path | None = None,
    show_progress: bool = True,
) -> tuple[dict[Any, dict[Any, list[Any]]], RelationCounts]:
    """Find the relations of a set; the result does not depend on the number of processes.

    Args:
        source (RelationSet): The set.
        options (RelationOptions): How.
        nproc (int): Number of processes.
        png_dir (Path | None): Compare the areas of the thing segments with the PNGs in this
            folder.
        show_progress (bool): Show a progress bar on the terminal.

    Returns:
        tuple: Ids in front by instance id by image id (images without relations have an empty
        entry), and what was seen.

    Raises:
        PanopticFormatError: If an area differs from the PNG.
    """
    work = partial(_process, source.thing_ids, options, png_dir)
    relations: dict[Any, dict[Any, list[Any]]] = {}
    total, problems = RelationCounts(), []
    label = "relations" if show_progress else None
    results = run(work, source.entries, nproc, label)
    for (image_id, *_), (found, wrong) in zip(source.entries, results, strict=True):
        relations[image_id] = found.fronts
        total.add(found.counts)
        problems += [
            FormatProblem("wrong_area", text, str(source.panoptic), image_id) for text in wrong
        ]
    if problems:
        raise PanopticFormatError(problems)
    return relations, total


def write_relations(
    source: RelationSet,
    relations: Mapping[Any, Mapping[Any, Sequence[Any]]],
    out: Path,
    relations_json: Path | None = None,
    relations_pickle: Path | None = None,
) -> list[Path]:
    """Write the instance JSON with the field ``overlap``.

    Args:
        source (RelationSet): The set; its annotations get the field.
        relations (Mapping): From :func:`extract_relations`.
        out (Path): The instance JSON to write.
        relations_json (Path | None): Also write the relations alone, with ids as text.
        relations_pickle (Path | None): The same as a pickle, as the published tools exchange it.

    Returns:
        list[Path]: The files.
    """
    targets = [path for path in (out, relations_json, relations_pickle) if path is not None]
    refuse_overwriting([source.instances, source.panoptic], targets)
    add_overlaps(source.content["annotations"], relations)
    write_json(out, source.content)
    written = [out]
    if relations_json is not None:
        write_json(relations_json, relations)
        written.append(relations_json)
    if relations_pickle is not None:
        plain = {image: dict(fronts) for image, fronts in relations.items()}
        write_file(relations_pickle, pickle.dumps(plain, protocol=_PICKLE_PROTOCOL))
        written.append(relations_pickle)
    return written


def _process(
    thing_ids: frozenset[int], options: RelationOptions, png_dir: Path | None, entry: ImageEntry
) -> tuple[ImageRelations, list[str]]:
    """Find the relations of one image, and what differs from its PNG."""
    _, size, instances, segments, file_name = entry
    wrong = [] if png_dir is None else _compare_areas(png_dir / file_name, segments, thing_ids)
    return find_relations(instances, segments, thing_ids, size, options), wrong


def _compare_areas(
    png: Path, segments: Sequence[Mapping[str, Any]], thing_ids: frozenset[int]
) -> list[str]:
    """Compare the areas of thing segments with their pixels inside their boxes."""
    ids = read_panoptic_png(png)
    wrong = []
    for segment in segments:
        if segment["category_id"] not in thing_ids:
            continue
        x, y, width, height = (int(value) for value in segment["bbox"])
        count = np.count_nonzero(ids[y : y + height, x : x + width] == segment["id"])
        if count != segment["area"]:
            wrong.append(
                f"segment {segment['id']} has area {segment['area']}, but {count} pixels in its "
                f"box in {png.name}"
            )
    return wrong
