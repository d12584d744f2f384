"""Own data to COCO panoptic: labels of one or several sources, painted image by image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError
from mmpanoptic.utils.image_files import (
    describe_mismatch,
    list_images,
    read_image_size,
    unique_image_ids,
)
from mmpanoptic.utils.jobs import run

from .balance import image_balance
from .class_list import ClassList
from .incremental import InstanceFormat, Job, PanopticFormat, Record, Summary, convert_to_json
from .label_items import Fate, ImageFinder, ImageLabels, LabelSet, draw_items
from .own_maps import MapOptions, read_maps, shapes_of_map
from .painting import paint_shapes, write_record


@dataclass(frozen=True)
class PaintOptions:
    """How the labels of an image become one map.

    Attributes:
        classes (ClassList): The classes.
        overlap (str): Of :data:`~mmpanoptic.datasets.converters.painting.OVERLAP_RULES`.
        background (int | None): Contiguous label of pixels without a label; None leaves void.
        maps (MapOptions | None): What label maps mean, if there are any.
    """

    classes: ClassList
    overlap: str = "smaller-on-top"
    background: int | None = None
    maps: MapOptions | None = None


def merge_labels(sets: Iterable[LabelSet]) -> LabelSet:
    """Put the labels of several sources together, image by image."""
    images: dict[Path, ImageLabels] = {}
    problems: list[FormatProblem] = []
    orphans: list[Path] = []
    for labels in sets:
        problems += labels.problems
        orphans += labels.orphans
        for path, found in labels.images.items():
            if path in images:
                images[path].merge(found)
            else:
                images[path] = found
    return LabelSet(images, problems, orphans)


def list_jobs(labels: LabelSet, finder: ImageFinder) -> list[Job]:
    """List the images with their labels, sorted by name.

    Args:
        labels: Of all sources.
        finder: Of the images.

    Returns:
        list[Job]: Without outputs; see :func:`convert_own_data`.

    Raises:
        ValueError: If two images differ in the extension only, or there is none.
    """
    names: dict[str, Path] = {}
    for path in sorted(labels.images):
        name = path.relative_to(finder.folder).with_suffix("").as_posix()
        if name in names:
            raise ValueError(
                f"{names[name]} and {path} differ in the extension only, so their PNGs would have "
                "one name; put them into different folders"
            )
        names[name] = path
    ids = unique_image_ids(list(names))
    jobs = []
    for name, path in names.items():
        entry = {"id": ids[name], "file_name": path.relative_to(finder.folder).as_posix()}
        found = labels.images[path]
        jobs.append(Job(f"{name}.png", (path, *found.files), (), (entry, found)))
    if not jobs and not labels.problems:
        raise ValueError(f"there are no labels of the images in {finder.folder}")
    return jobs


def describe_unmatched(labels: LabelSet, finder: ImageFinder) -> list[str]:
    """Say which images no source of labels knows, and which labels have no image."""
    files = {path.resolve() for found in labels.images.values() for path in found.files}
    images = [
        path.relative_to(finder.folder).as_posix()
        for path in list_images(finder.folder)
        if path not in labels.images and path.resolve() not in files
    ]
    lines = []
    if images:
        count = f"{len(images)} images of {finder.folder} have no labels"
        lines.append(f"warning: {count}: {_first(images)}")
    if labels.orphans:
        orphans = [str(path) for path in labels.orphans]
        lines.append(f"warning: {len(orphans)} labels have no image: {_first(orphans)}")
    return lines


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def refuse_problems(labels: LabelSet, jobs: Sequence[Job], nproc: int = 1) -> None:
    """Raise the problems of label files, together with those that drawing would find.

    Args:
        labels: If it has no problems, nothing is done: drawing will tell its own.
        jobs: From :func:`list_jobs`.
        nproc: Number of processes.

    Raises:
        PanopticFormatError: With the problems of all images.
    """
    if not labels.problems:
        return
    problems = list(labels.problems)
    for found in run(_check_labels, jobs, nproc, "check"):
        problems += found
    raise PanopticFormatError(problems)


def _check_labels(job: Job) -> list[FormatProblem]:
    found: ImageLabels = job.data[1]
    try:
        size = read_image_size(found.path)[:2]
    except PanopticFormatError as error:
        return list(error.problems)
    problems = _compare_sizes(found, size)
    return problems or draw_items(found.items, size)[1]


def _compare_sizes(found: ImageLabels, size: tuple[int, int]) -> list[FormatProblem]:
    return [
        FormatProblem(
            "size_mismatch",
            f"{found.path}: {describe_mismatch(found.path, size, given.size, 'the annotation')}",
            given.file,
            given.image_id,
        )
        for given in found.sizes
        if given.size != size
    ]


def paint_image(options: PaintOptions, job: Job) -> Record:
    """Paint the labels of one image and write its PNG.

    Args:
        options: How.
        job: From :func:`list_jobs`.

    Returns:
        dict: Record of the image, with its balance.

    Raises:
        PanopticFormatError: With all problems of the image.
    """
    entry, found = job.data
    size = read_image_size(found.path)[:2]
    problems = _compare_sizes(found, size)
    if problems:
        raise PanopticFormatError(problems)
    ids, segments, fates, void = _paint(options, found, size)
    balance = image_balance([*fates, *found.dropped], entry["file_name"], void)
    image = {**entry, "height": size[0], "width": size[1]}
    if not segments:
        job.outputs[0].unlink(missing_ok=True)  # of an earlier run with other labels
        return {"balance": balance, "empty": True}
    return write_record(job, image, ids, segments, balance=balance)


def _paint(
    options: PaintOptions, found: ImageLabels, size: tuple[int, int]
) -> tuple[Any, list[dict[str, Any]], list[Fate], dict[str, int]]:
    """Return ids, segments, fates and void pixels by reason."""
    classes = options.classes
    shapes, fates, void = [], [], {}
    if found.maps is not None:
        read = read_maps(found, size, classes, options.maps or MapOptions(found.maps[0].parent))
        if not found.items:
            return read
        shapes, void = shapes_of_map(read, classes), read.void
        fates = [fate for fate in read.fates if fate[1] == "no_class"]
    drawn, problems = draw_items(found.items, size)
    if problems:
        raise PanopticFormatError(problems)
    shapes += drawn
    try:
        painting = paint_shapes(shapes, size, classes.table, options.overlap, options.background)
    except ValueError as error:
        first = found.items[0]
        problem = FormatProblem("overlapping_masks", str(error), first.file, first.image_id)
        raise PanopticFormatError([problem]) from error
    for shape, fate in zip(shapes, painting.fates, strict=True):
        thing = classes.table[shape.label].isthing
        fates.append(("things" if thing else "stuff", fate, shape.name))
    return painting.ids, painting.segments, fates, void


def convert_own_data(
    jobs: Sequence[Job],
    options: PaintOptions,
    out: Path,
    splits: Mapping[str, Sequence[str]],
    info: Mapping[str, Any],
    nproc: int = 1,
) -> list[Summary]:
    """Write ``annotations/panoptic_<split>.json`` and PNG folder for each split.

    Args:
        jobs: Of all images, from :func:`list_jobs`.
        options: How to paint.
        out: Folder of the dataset.
        splits: Names of the images (keys of the jobs without ``.png``) by split.
        info: Settings that decide the result, besides the options.
        nproc: Number of processes.

    Returns:
        list[Summary]: One per split.
    """
    by_key = {job.key: job for job in jobs}
    table = options.classes.table
    categories = table.to_categories()
    info = {
        "description": "own data",
        **info,
        "overlap": options.overlap,
        "background": None if options.background is None else table[options.background].name,
        "ignore": list(options.classes.ignore),
        "labels": options.classes.names,
        "supercategories": options.classes.supercategories,
        "categories": categories,
    }
    summaries = []
    for split, names in splits.items():
        path = out / "annotations" / f"panoptic_{split}.json"
        folder = path.with_suffix("")
        chosen = [
            replace(by_key[f"{name}.png"], outputs=(folder / f"{name}.png",)) for name in names
        ]
        form, function = PanopticFormat(categories), partial(paint_image, options)
        summary = convert_to_json(function, chosen, path, form, info, nproc)
        summaries.append(summary)
    return summaries


def write_whole_things(
    jobs: Sequence[Job],
    classes: ClassList,
    out: Path,
    splits: Mapping[str, Sequence[str]],
    info: Mapping[str, Any],
    nproc: int = 1,
) -> list[Summary]:
    """Write ``annotations/instances_<split>.json`` for each split: things with their whole masks.

    What a thing in front hides belongs to the mask, as far as the labels have it: relation heads
    learn from where masks overlap.

    Args:
        jobs: Of all images, from :func:`list_jobs`.
        classes: The class list.
        out: Folder of the dataset.
        splits: Names of the images (keys of the jobs without ``.png``) by split.
        info: Settings that decide the result.
        nproc: Number of processes.

    Returns:
        list[Summary]: One per split.
    """
    by_key = {job.key: job for job in jobs}
    table = classes.table
    categories = [{"id": label.dataset_id, "name": label.name} for label in table if label.isthing]
    info = {
        "description": "whole things of own data",
        **info,
        "ignore": list(classes.ignore),
        "labels": classes.names,
        "supercategories": classes.supercategories,
        "categories": categories,
    }
    summaries = []
    for split, names in splits.items():
        chosen = [by_key[f"{name}.png"] for name in names]
        chosen = [replace(job, key=job.data[0]["file_name"]) for job in chosen]
        path = out / "annotations" / f"instances_{split}.json"
        function = partial(_describe_whole, table)
        form = InstanceFormat(categories)
        summaries.append(convert_to_json(function, chosen, path, form, info, nproc))
    return summaries


def _describe_whole(table: LabelTable, job: Job) -> Record:
    """List the things of an image with the masks that the labels give them."""
    from pycocotools import mask as coco_mask

    entry, found = job.data
    size = read_image_size(found.path)[:2]
    shapes, problems = draw_items(found.items, size)
    if problems:
        raise PanopticFormatError(problems)
    annotations = [
        {
            "category_id": table[shape.label].dataset_id,
            "iscrowd": shape.iscrowd,
            "bbox": coco_mask.toBbox(shape.code).tolist(),
            "area": int(coco_mask.area(shape.code)),
            "segmentation": {**shape.code, "counts": shape.code["counts"].decode()},
        }
        for shape in shapes
        if table[shape.label].isthing and coco_mask.area(shape.code)
    ]
    return {"image": {**entry, "height": size[0], "width": size[1]}, "annotations": annotations}


def refuse_output(out: Path, images: Path, what: str = "OUT") -> None:
    """Refuse to write pictures where a second run would take them for images.

    Args:
        out: The output.
        images: Folder of the images.
        what: The output's name on the command line.

    Raises:
        ValueError: If the output lies inside the folder of the images.
    """
    target, source = (Path(os.path.realpath(path)) for path in (out, images))
    if target.is_relative_to(source):
        raise ValueError(
            f"{what} ({out}) lies inside the folder of the images ({images}), where its PNGs would "
            "be taken for images; name a folder beside it"
        )
