"""Functions from network outputs to segments: centres, logits, masks, painting, numbering.

Nothing here is registered; the heads of ``models/fusion_heads`` put these functions together.
"""

from .augmented import MeanLogits
from .centers import (
    assign_to_centers,
    find_centers,
    find_centers_padded,
    group_things,
    group_things_padded,
)
from .mask_paste import paste_masks
from .painting import paint_in_order
from .resized_logits import (
    PAD_HANDLING,
    ResizedLogits,
    check_pad_handling,
    most_likely_class,
    resize_padded_logits,
)
from .segments import list_segments, merge_segments, number_segments, segment_statistics

__all__ = [
    "PAD_HANDLING",
    "MeanLogits",
    "ResizedLogits",
    "assign_to_centers",
    "check_pad_handling",
    "find_centers",
    "find_centers_padded",
    "group_things",
    "group_things_padded",
    "list_segments",
    "merge_segments",
    "most_likely_class",
    "number_segments",
    "paint_in_order",
    "paste_masks",
    "resize_padded_logits",
    "segment_statistics",
]
