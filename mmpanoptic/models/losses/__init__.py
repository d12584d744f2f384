"""Losses that several systems share."""

from .hard_edge_mining import HardEdgeMiningLoss
from .hard_pixel_mining import HardPixelMiningLoss
from .multicut_loss import MulticutLoss
from .pairwise_ranking import PairwiseRankingLoss
from .weighted_regression import WeightedL1Loss, WeightedMSELoss

__all__ = [
    "HardEdgeMiningLoss",
    "HardPixelMiningLoss",
    "MulticutLoss",
    "PairwiseRankingLoss",
    "WeightedL1Loss",
    "WeightedMSELoss",
]
