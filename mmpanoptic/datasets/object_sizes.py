"""What the sizes of a dataset's objects ask of a model: image scale, heatmap, least areas."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmpanoptic.utils.coco_file import load_json_object

SIZE_SETTINGS = (
    "size_short_edge",
    "size_max_size",
    "size_crop_size",
    "size_sigma",
    "size_nms_kernel",
    "size_top_k",
    "size_stuff_area",
    "size_small_area",
    "size_anchors",
)
"""Placeholders that stand for what :meth:`ObjectSizes.settings` chooses."""

STEP = 32
"""Sizes of images are multiples of it: the stride of the coarsest usual map."""

USUAL_EDGE = 512
LARGEST_EDGE = 1024
LARGEST_AREA = 1e12
"""In pixels; what is larger is no size, and `check.py` says so."""
LEAST_DIAMETER = 24.0
"""In pixels of the network's input: six cells of a map of stride 4."""


@dataclass(frozen=True)
class ObjectSizes:
    """Sizes in an annotation file, in pixels of the original images.

    Attributes:
        source (str): The file.
        things (int): How many things are measured; crowds and entries without an area are not.
        short_edge (float): Median of the images' short edges; 512 without images.
        small (float): Diameter that 10 % of the things stay below (of a disc of their area).
        lower (float): The same for 25 %.
        median (float): The same for 50 %.
        most (int): Things of the fullest image.
        stuff_area (float): Area that 5 % of the stuff segments stay below; infinite without stuff.
    """

    source: str
    things: int
    short_edge: float
    small: float
    lower: float
    median: float
    most: int
    stuff_area: float

    def settings(self, short_edge: int | None = None) -> dict[str, Any]:
        """Choose what a model for these objects needs.

        A quarter of the things may be smaller than six cells of a map of stride 4 in the network's
        input; for this images are enlarged up to twice, and up to 1024 pixels. Where
        objects are large, images of more than 512 pixels are made smaller.

        Args:
            short_edge (int | None): Short edge of the network's input, where another one than
                the suggested one is taken; the other settings follow it.

        Returns:
            dict[str, Any]: A value for each of :data:`SIZE_SETTINGS`: suggested short edge;
            longest edge and ``(height, width)`` of the crop in pixels of the input; sigma of the
            centres' Gaussians there; side of the window of non-maximum suppression in the original
            image; limit of the number of centres; least area of stuff in the original image; area
            in the input below which a thing is a small one of this dataset; sides of the anchors
            of five levels in pixels of the input, each twice the one before.
        """
        chosen = self.suggested_edge() if short_edge is None else short_edge
        factor = chosen / self.short_edge
        sigma, kernel, small_area, anchor = 8.0, 2 * round(8.0 / factor) + 1, 4096, 32
        if self.things:
            sigma = float(np.clip(round(self.lower * factor / 2) / 2, 2.0, 8.0))
            half = min(3 * self.lower / 8, 8.0 / factor)
            kernel = 2 * max(round(half), 1) + 1
            small_area = round(min(np.pi / 4 * (self.lower * factor) ** 2, 4096))
            anchor = round(float(np.clip(self.small * factor, 4, 32)))
        return dict(
            zip(
                SIZE_SETTINGS,
                (
                    self.suggested_edge(),
                    2 * chosen,
                    (chosen, chosen),
                    sigma,
                    kernel,
                    max(200, 2 * self.most),
                    round(float(np.clip(self.stuff_area / 2, 16, 1024))),
                    small_area,
                    tuple(anchor << level for level in range(5)),
                ),
                strict=True,
            )
        )

    def suggested_edge(self) -> int:
        """Choose the short edge of the network's input in pixels, a multiple of 32."""
        usual = min(self.short_edge, USUAL_EDGE)
        needed = self.short_edge * LEAST_DIAMETER / self.lower if self.things else usual
        largest = max(min(2 * self.short_edge, LARGEST_EDGE), usual)
        return max(round(float(np.clip(needed, usual, largest)) / STEP), 1) * STEP

    def is_fine(self) -> bool:
        """Tell whether a quarter of the things stays small in images of the usual size."""
        shrinks = max(self.short_edge / USUAL_EDGE, 1)
        return self.things > 0 and self.lower / shrinks < LEAST_DIAMETER * 2 / 3

    def describe(self) -> str:
        """Say in a line what was measured."""
        things = f"{self.things} things of {self.source}"
        if not self.things:
            return f"{things}; short edge of the images {self.short_edge:.0f}"
        return (
            f"{things}, of diameter {self.small:.0f}, {self.lower:.0f} and {self.median:.0f} "
            f"pixels (10 %, 25 %, median), at most {self.most} an image; short edge of the images "
            f"{self.short_edge:.0f}"
        )


USUAL_SETTINGS: dict[str, Any] = dict(
    zip(
        SIZE_SETTINGS,
        (512, 1024, (512, 512), 8.0, 17, 200, 256, 4096, (32, 64, 128, 256, 512)),
        strict=True,
    )
)
"""For photographs of everyday things; what stands where no annotation file is there to measure."""


def measure_object_sizes(ann_file: str | os.PathLike[str]) -> ObjectSizes:
    """Read the sizes of images and segments from a panoptic JSON, without its PNGs.

    What is malformed is left out: reading the dataset reports it.

    Args:
        ann_file: JSON in COCO-panoptic format.

    Returns:
        ObjectSizes: Of the whole file.

    Raises:
        PanopticFormatError: If it cannot be read.
    """
    content = load_json_object(ann_file)
    isthing = {
        entry.get("id"): bool(entry.get("isthing")) for entry in _objects(content, "categories")
    }
    edges = [
        min(entry["height"], entry["width"])
        for entry in _objects(content, "images")
        if _is_size(entry.get("height")) and _is_size(entry.get("width"))
    ]
    areas: dict[bool, list[float]] = {True: [], False: []}
    most = 0
    for annotation in _objects(content, "annotations"):
        segments = [
            (isthing[segment["category_id"]], segment["area"])
            for segment in _objects(annotation, "segments_info")
            if not segment.get("iscrowd")
            and segment.get("category_id") in isthing
            and _is_size(segment.get("area"))
        ]
        most = max(most, sum(thing for thing, _ in segments))
        for thing, area in segments:
            areas[thing].append(area)
    small, lower, median = _diameters(areas[True])
    return ObjectSizes(
        source=os.fspath(ann_file),
        things=len(areas[True]),
        short_edge=float(np.median(edges)) if edges else float(USUAL_EDGE),
        small=small,
        lower=lower,
        median=median,
        most=most,
        stuff_area=float(np.quantile(areas[False], 0.05)) if areas[False] else float("inf"),
    )


def _objects(parent: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    entries = parent.get(name)
    return [e for e in entries if isinstance(e, Mapping)] if isinstance(entries, list) else []


def _is_size(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value < LARGEST_AREA


def _diameters(areas: Sequence[float]) -> tuple[float, float, float]:
    if not areas:
        return (0.0, 0.0, 0.0)
    small, lower, median = np.sqrt(np.quantile(areas, (0.1, 0.25, 0.5)) * (4 / np.pi))
    return float(small), float(lower), float(median)
