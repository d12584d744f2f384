"""Blocks that two or more parts of the models share."""

from .checkpointing import checkpoint_backbone
from .choice import (
    ChoiceModule,
    check_choices,
    iter_choices,
    make_choice,
    set_path,
    slice_path,
)
from .deeplab_decoder import ASPP, DeepLabDecoder
from .pair_query import PairQuery
from .resize import resize_bilinear, upsample_to_image
from .segment_batch import SegmentBatch, collate_segments
from .separable import init_decoder_convs, make_fuse_convs

__all__ = [
    "ASPP",
    "PairQuery",
    "ChoiceModule",
    "DeepLabDecoder",
    "SegmentBatch",
    "check_choices",
    "checkpoint_backbone",
    "collate_segments",
    "init_decoder_convs",
    "iter_choices",
    "make_choice",
    "make_fuse_convs",
    "resize_bilinear",
    "set_path",
    "slice_path",
    "upsample_to_image",
]
