"""Panoptic datasets, their transforms, and samplers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .ade20k_panoptic import ADE20KPanopticDataset
    from .batch_samplers import AspectRatioBatchSampler
    from .cityscapes_panoptic import CityscapesPanopticDataset
    from .coco_panoptic import CocoPanopticDataset
    from .image_folder import ImageFolderDataset, ImageNetDataset
    from .label_tables import read_label_table
    from .mapillary_panoptic import MapillaryPanopticDataset
    from .panoptic_dataset import PanopticDataset
    from .samplers import InfiniteSeededSampler, SeededSampler
    from .seeding import SampleIndex, seed_sample
    from .shapes.dataset import ShapesDataset
    from .sharded_dataset import ShardedPanopticDataset

# Datasets need torch and mmengine; the converters and readers of this room do not.
__getattr__ = lazy_names(
    __name__,
    {
        "ade20k_panoptic": "ADE20KPanopticDataset",
        "batch_samplers": "AspectRatioBatchSampler",
        "cityscapes_panoptic": "CityscapesPanopticDataset",
        "coco_panoptic": "CocoPanopticDataset",
        "image_folder": "ImageFolderDataset ImageNetDataset",
        "label_tables": "read_label_table",
        "mapillary_panoptic": "MapillaryPanopticDataset",
        "panoptic_dataset": "PanopticDataset",
        "samplers": "InfiniteSeededSampler SeededSampler",
        "seeding": "SampleIndex seed_sample",
        "shapes.dataset": "ShapesDataset",
        "sharded_dataset": "ShardedPanopticDataset",
    },
)

__all__ = [
    "PanopticDataset",
    "CocoPanopticDataset",
    "CityscapesPanopticDataset",
    "ADE20KPanopticDataset",
    "MapillaryPanopticDataset",
    "ShapesDataset",
    "ShardedPanopticDataset",
    "ImageFolderDataset",
    "ImageNetDataset",
    "AspectRatioBatchSampler",
    "SeededSampler",
    "InfiniteSeededSampler",
    "SampleIndex",
    "seed_sample",
    "read_label_table",
]
