"""Mapillary Vistas panoptic."""

from __future__ import annotations

from mmpanoptic.registry import DATASETS

from .panoptic_dataset import PanopticDataset


@DATASETS.register_module()
class MapillaryPanopticDataset(PanopticDataset):
    """Mapillary Vistas 1.2 (37 things, 28 stuff classes) or 2.0 (124 classes).

    The published ``panoptic_2018.json`` and ``panoptic_2020.json`` are read as they are; the
    classes come from their categories. ``tools/dataset_converters/mapillary.py`` checks a copy
    and prints the paths to configure.
    """

    METAINFO = {"name": "mapillary_panoptic"}
    ANN_FILE_HINT = (
        "it is part of the archive; mmpanoptic convert mapillary DATA_ROOT prints "
        "the paths of a copy"
    )
