"""Ranking loss of RAP, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.models.losses import PairwiseRankingLoss
from tests.reference.rap import ranking_loss

DESCRIPTION = "loss and gradient of 2 images with 128 positive proposals each."
BASELINE = "two loops over the proposals."
SIZES = {"default": (128, 15), "small": (20, 6)}


def make_inputs(size: str = "default") -> dict[str, Any]:
    """Draw values, the instance of each proposal, and who lies in front of whom."""
    rng = np.random.default_rng(0)
    count, instances = SIZES[size]
    owners = [rng.integers(0, instances, count) for _ in range(2)]
    matrices = [np.triu(rng.random((instances, instances)) < 0.3, 1) for _ in owners]
    return {
        "values": torch.from_numpy(rng.normal(0, 2, 2 * count)).float(),
        "owners": [own.tolist() for own in owners],
        "fronts": [set(map(tuple, np.argwhere(matrix).tolist())) for matrix in matrices],
        "owner_tensors": [torch.from_numpy(own) for own in owners],
        "matrices": [torch.from_numpy(matrix) for matrix in matrices],
        "loss": PairwiseRankingLoss(),
    }


def baseline(inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Loop over pairs."""
    values = inputs["values"].clone().requires_grad_()
    loss = ranking_loss(values, inputs["owners"], inputs["fronts"])
    return loss.detach(), torch.autograd.grad(loss, values)[0]


def ours(inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Look the relations of the proposals up and compute all pairs at once."""
    values = inputs["values"].clone().requires_grad_()
    pairs = [
        matrix[own][:, own]
        for matrix, own in zip(inputs["matrices"], inputs["owner_tensors"], strict=True)
    ]
    loss = inputs["loss"](values.split([len(one) for one in pairs]), pairs)
    return loss.detach(), torch.autograd.grad(loss, values)[0]


def check(expected: tuple[Tensor, Tensor], got: tuple[Tensor, Tensor]) -> None:
    """Compare loss and gradient."""
    for first, second in zip(expected, got, strict=True):
        torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-6)
