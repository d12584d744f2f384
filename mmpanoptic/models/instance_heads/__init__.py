"""Instance heads: features to whatever instances are formed from."""

from .affinity import AffinityHead, AffinityOutputs
from .affinity_targets import AffinityTargets, EdgeWeights, make_affinity_targets
from .center_offset_head import CenterOffsetHead, CenterOffsetOutputs
from .center_offset_targets import CenterOffsetTargets, make_center_offset_targets

__all__ = [
    "AffinityHead",
    "AffinityOutputs",
    "AffinityTargets",
    "CenterOffsetHead",
    "CenterOffsetOutputs",
    "CenterOffsetTargets",
    "EdgeWeights",
    "make_affinity_targets",
    "make_center_offset_targets",
]
