"""ADE20K panoptic."""

from __future__ import annotations

from mmpanoptic.registry import DATASETS

from .panoptic_dataset import PanopticDataset


@DATASETS.register_module()
class ADE20KPanopticDataset(PanopticDataset):
    """ADE20K with its 100 things and 50 stuff classes, in any numbering of the categories.

    The classes come from the JSON, since three numberings are in use: mmdet's (things 0..99, stuff
    100..149, what ``tools/dataset_converters/ade20k.py`` writes by default), Mask2Former's
    (0..149) and scenic's (1..150). The contiguous label is the position in the JSON's categories,
    so a model has to be tested with the numbering it was trained with.

    Differences from the original (mmdet's class of the same name): instances with a wrong box are
    not dropped, since boxes are not read from the JSON.
    """

    METAINFO = {"name": "ade20k_panoptic"}
    ANN_FILE_HINT = "make it with: mmpanoptic convert ade20k DATA_ROOT"
