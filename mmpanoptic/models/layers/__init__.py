"""Blocks that two or more parts of the models share."""

from .aspp import ASPP
from .choice import ChoiceModule, check_choices, iter_choices, make_choice, set_path
from .classes import most_likely_class
from .deeplab_decoder import DeepLabDecoder
from .mask_paste import paste_masks
from .pad_handling import PAD_HANDLING, check_pad_handling, resize_padded_logits
from .pair_query import PairQuery
from .resize import resize_bilinear, upsample_to_image
from .resized_logits import ResizedLogits
from .segment_batch import SegmentBatch, collate_segments
from .separable import init_decoder_convs, make_fuse_convs

__all__ = [
    "ASPP",
    "PAD_HANDLING",
    "PairQuery",
    "ChoiceModule",
    "DeepLabDecoder",
    "ResizedLogits",
    "SegmentBatch",
    "check_choices",
    "check_pad_handling",
    "collate_segments",
    "init_decoder_convs",
    "iter_choices",
    "make_choice",
    "make_fuse_convs",
    "most_likely_class",
    "paste_masks",
    "resize_bilinear",
    "resize_padded_logits",
    "set_path",
    "upsample_to_image",
]
