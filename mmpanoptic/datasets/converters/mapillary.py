"""Mapillary Vistas: checks of a copy and semantic maps; panoptic files need no conversion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmpanoptic.datasets.panoptic_json import PanopticJson, read_categories
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.coco_file import load_json_object
from mmpanoptic.utils.format_errors import FormatProblem
from mmpanoptic.utils.label_png import read_label_png, write_label_png

from .incremental import Job, Summary, convert_files
from .painting import raise_listed

SPLITS = ("training", "validation")
VERSIONS = {"1.2": "panoptic_2018.json", "2.0": "panoptic_2020.json"}
"""Name of the panoptic JSON by version."""

VOID_LABEL = 255


@dataclass(frozen=True)
class VistasSplit:
    """The files of one split in one version.

    Attributes:
        split (str): ``training`` or ``validation``.
        version (str): ``1.2`` or ``2.0``.
        images (Path): Folder of the images.
        panoptic (Path): Folder of the panoptic PNGs and the JSON.
        labels (Path): Folder of the label maps.
    """

    split: str
    version: str
    images: Path
    panoptic: Path
    labels: Path

    @property
    def json(self) -> Path:
        """The panoptic JSON."""
        return self.panoptic / VERSIONS[self.version]

    @property
    def semantic(self) -> Path:
        """Folder of the label maps that :func:`make_semantic` writes."""
        return self.labels.with_name("semantic")


def find_vistas(root: Path) -> list[VistasSplit]:
    """Find the splits and versions in a copy of Vistas.

    Args:
        root: The folder with ``training`` and ``validation``. Annotations lie in ``<split>``
            itself (older archives of 1.2) or in ``<split>/v1.2`` and ``<split>/v2.0``.

    Returns:
        list[VistasSplit]: By split and version.

    Raises:
        ValueError: If there is no panoptic JSON.
    """
    found = []
    for split in SPLITS:
        for version, name in VERSIONS.items():
            for folder in (root / split, root / split / f"v{version}"):
                if (folder / "panoptic" / name).is_file():
                    images = root / split / "images"
                    panoptic, labels = folder / "panoptic", folder / "labels"
                    found.append(VistasSplit(split, version, images, panoptic, labels))
    if not found:
        names = " or ".join(VERSIONS.values())
        raise ValueError(
            f"{root} has no {{training,validation}}[/v1.2|/v2.0]/panoptic/ with {names}; unpack "
            "the archive of Mapillary Vistas there"
        )
    return found


def check_vistas(files: VistasSplit) -> tuple[LabelTable, int, list[FormatProblem]]:
    """Check the JSON of a split and whether its images and PNGs are there.

    The PNGs' content is checked by :func:`mmpanoptic.datasets.converters.checking.check_dataset`.

    Args:
        files: The split.

    Returns:
        tuple[LabelTable, int, list[FormatProblem]]: Classes, number of images, problems.

    Raises:
        PanopticFormatError: If the JSON or its categories cannot be read.
    """
    content = load_json_object(str(files.json))
    table = read_categories(content.get("categories"), str(files.json))
    parsed = PanopticJson(content, str(files.json), table)
    records = parsed.parse()
    problems = parsed.problems
    for record in records:
        for folder, key in ((files.images, "img_file"), (files.panoptic, "seg_file")):
            path = folder / str(record[key])
            if not path.is_file():
                detail = "there is no such file"
                problems.append(FormatProblem("missing_file", detail, str(path), record["img_id"]))
    return table, len(records), problems


def make_semantic(files: VistasSplit, table: LabelTable, nproc: int = 1) -> Summary:
    """Write grey label maps with contiguous labels from the palette PNGs in ``labels``.

    The value v of a label map is the category v + 1 of the panoptic JSON; values without a
    category (65 = Unlabeled in 1.2) become 255.

    Args:
        files: The split.
        table: Its classes.
        nproc: Number of processes.

    Returns:
        Summary: What was done.

    Raises:
        ValueError: If the classes do not fit into 8 bits.
        PanopticFormatError: If there are no label maps, or one is broken.
    """
    if len(table) > VOID_LABEL:
        raise ValueError(f"{len(table)} classes do not fit into an 8-bit label map")
    paths = sorted(files.labels.glob("*.png"))
    if not paths:
        raise_listed("missing_file", "the folder has no label maps", [files.labels])
    jobs = [Job(path.name, (path,), (files.semantic / path.name,)) for path in paths]
    name = f"semantic {files.split} v{files.version}"
    function, options = partial(_write_semantic, table), {"categories": table.to_categories()}
    return convert_files(function, jobs, name, files.semantic, nproc, options, adopt=True)


def _write_semantic(table: LabelTable, job: Job) -> None:
    values = read_label_png(job.sources[0], max_depth=8)
    lookup = np.full(256, VOID_LABEL, np.uint8)
    for label in table:
        if 1 <= label.dataset_id <= 256:
            lookup[label.dataset_id - 1] = label.index
    write_label_png(job.outputs[0], lookup[values])
