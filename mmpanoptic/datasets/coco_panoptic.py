"""COCO panoptic 2017."""

from __future__ import annotations

from mmpanoptic.registry import DATASETS

from .label_sets import COCO_PANOPTIC
from .panoptic_dataset import PanopticDataset


@DATASETS.register_module()
class CocoPanopticDataset(PanopticDataset):
    """COCO panoptic with its 133 classes: 80 things, then 53 stuff classes.

    Differences from the original (mmdet's class of the same name): the name of a PNG comes from
    the annotation, tiny segments stay, crowds keep their flag, ids are checked.
    """

    METAINFO = {"name": "coco_panoptic", **COCO_PANOPTIC.to_metainfo()}
    ANN_FILE_HINT = (
        "it is in panoptic_annotations_trainval2017.zip of cocodataset.org, the PNGs are in zips "
        "inside of it"
    )
