"""The shapes dataset as models read it."""

from __future__ import annotations

from mmpanoptic.registry import DATASETS

from ..panoptic_dataset import PanopticDataset
from .catalog import SHAPES_TABLE


@DATASETS.register_module()
class ShapesDataset(PanopticDataset):
    """Generated scenes: six things, five stuff classes.

    ``tools/dataset_converters/shapes.py`` makes the files; ``instances_file`` gives the whole
    (amodal) masks of things that others hide.
    """

    METAINFO = {"name": "shapes", **SHAPES_TABLE.to_metainfo()}
    ANN_FILE_HINT = "make it with: mmpanoptic convert shapes DATA_ROOT"
