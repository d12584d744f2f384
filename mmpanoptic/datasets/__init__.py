"""Panoptic datasets, their transforms, and samplers."""

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

__all__ = [
    "PanopticDataset",
    "CocoPanopticDataset",
    "CityscapesPanopticDataset",
    "ADE20KPanopticDataset",
    "MapillaryPanopticDataset",
    "ShapesDataset",
    "ImageFolderDataset",
    "ImageNetDataset",
    "AspectRatioBatchSampler",
    "SeededSampler",
    "InfiniteSeededSampler",
    "SampleIndex",
    "seed_sample",
    "read_label_table",
]
