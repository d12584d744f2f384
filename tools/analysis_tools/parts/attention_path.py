"""Attention between the branches of Auto-Panoptic, and its semantic classifier."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from mmpanoptic.models.segmentors.auto_panoptic import (
    PUBLISHED_REDUCTIONS,
    AttentionUnits,
    pool_levels,
)
from mmpanoptic.models.semantic_heads.searchable_head import SearchableSemanticHead
from tests.reference import auto_panoptic as plain

DESCRIPTION = (
    "attention of both branches and semantic logits from given features, image of 800 x 1344."
)
BASELINE = "the published form: features are enlarged, concatenated, then pooled or classified."
SIZES = {"default": (800, 1344), "small": (64, 128)}
CHANNELS, SEMANTIC_CHANNELS, STUFF = 256, 128, 53
LEVELS, SEMANTIC_LEVELS = 5, 4
CHOICES = {"f2b": (2, 0, 0, 0), "b2f": (1, 1, 1, 2, 0)}  # of the searched COCO model


def make_inputs(size: str = "default") -> dict[str, Any]:
    """Draw pyramids of both branches and the weights of attention units and classifier."""
    torch.manual_seed(0)
    height, width = (length // 4 for length in SIZES[size])
    shapes = [(-(-height // 2**i), -(-width // 2**i)) for i in range(LEVELS)]
    pooled = (LEVELS - 1) * CHANNELS, SEMANTIC_LEVELS * SEMANTIC_CHANNELS
    model = SimpleNamespace(
        semantic_head=SearchableSemanticHead(
            range(80, 80 + STUFF), range(80), CHANNELS, SEMANTIC_CHANNELS, choices=(1, 1, 1)
        ),
        f2b=AttentionUnits(
            "f2b",
            pooled[0],
            SEMANTIC_CHANNELS,
            SEMANTIC_LEVELS,
            CHOICES["f2b"],
            PUBLISHED_REDUCTIONS,
        ),
        b2f=AttentionUnits(
            "b2f", pooled[1], CHANNELS, LEVELS, CHOICES["b2f"], PUBLISHED_REDUCTIONS
        ),
    )
    return {
        "model": model,
        "feats": [torch.randn(1, CHANNELS, *shape) for shape in shapes],
        "semantic": [torch.rand(1, SEMANTIC_CHANNELS, *s) for s in shapes[:SEMANTIC_LEVELS]],
    }


@torch.no_grad()
def baseline(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Enlarge, concatenate, pool; enlarge, modulate, concatenate, classify."""
    model = inputs["model"]
    attended = plain.attend(model, inputs["feats"], inputs["semantic"])
    return {
        "f2b": torch.cat(attended["f2b_attention"], 1),
        "b2f": torch.cat(attended["b2f_attention"], 1),
        "score": plain.classify(model, attended),
    }


@torch.no_grad()
def ours(inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Do what AutoPanoptic.exchange does besides the layers and the product with the features."""
    model, feats, semantic = (inputs[name] for name in ("model", "feats", "semantic"))
    size = feats[0].shape[2:]
    f2b = model.f2b(pool_levels(feats[1:], size))
    b2f = model.b2f(pool_levels(semantic, size))
    score = model.semantic_head.classify(semantic, f2b)
    return {"f2b": torch.cat(f2b, 1), "b2f": torch.cat(b2f, 1), "score": score}


def check(expected: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    """Compare to 1e-6 of the largest value."""
    for name, value in expected.items():
        error = ((got[name] - value).abs().max() / value.abs().max()).item()
        if not error < 1e-6:
            raise AssertionError(f"{name} differs by {error:.2g} of its largest value")
