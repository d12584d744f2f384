"""Panoptic maps of mask transformers from classified masks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

from mmpanoptic.models.fusion_heads import MaskSetFusionHead

DESCRIPTION = "Masks of 160 x 160 cells to a map of 480 x 640; of the queries, 20 or all are sure."
BASELINE = "post_process_panoptic_segmentation of the transformers package, for EoMT (same rules)."

SIZES = {"default": (480, 640), "small": (96, 128)}
CLASSES = 133
THINGS = range(80)
CASES = {
    "100 queries": {"queries": 100, "sure": 20},
    "200 queries": {"queries": 200, "sure": 20},
    "100 sure queries": {"queries": 100, "sure": 100},
}


def make_inputs(size: str = "default", queries: int = 100, sure: int = 20) -> dict[str, Any]:
    """Spread blobs over the image, the last classes as stuff."""
    generator = torch.Generator().manual_seed(0)
    height, width = SIZES[size]
    cells = width // 4
    place = torch.rand(queries, 3, generator=generator)
    y, x = torch.meshgrid(*[torch.linspace(0, 1, cells)] * 2, indexing="ij")
    away = (y - place[:, :1, None]) ** 2 + (x - place[:, 1:2, None]) ** 2
    masks = 12 * (0.02 * place[:, 2:, None] - away) / 0.02
    classes = torch.randn(queries, CLASSES + 1, generator=generator)
    classes[:, -1] += 9
    best = torch.randint(0, CLASSES, (sure,), generator=generator)
    classes[torch.arange(sure), best] += 18
    return {"classes": classes[None], "masks": masks[None], "size": (height, width)}


def baseline(inputs: dict[str, Any]) -> torch.Tensor:
    """Call the library."""
    longest = max(inputs["size"])
    size = {"shortest_edge": longest, "longest_edge": longest}
    processor = EomtImageProcessorPil(size=size)
    outputs = SimpleNamespace(
        class_queries_logits=inputs["classes"], masks_queries_logits=inputs["masks"]
    )
    stuff = [label for label in range(CLASSES) if label not in THINGS]
    found = processor.post_process_panoptic_segmentation(
        outputs, target_sizes=[inputs["size"]], stuff_classes=stuff, size=size
    )
    return found[0]["segmentation"].int() + 1


def ours(inputs: dict[str, Any]) -> torch.Tensor:
    """Call the fusion head."""
    longest = max(inputs["size"])
    meta = {"batch_input_shape": (longest, longest), "img_shape": inputs["size"]}
    head = MaskSetFusionHead(CLASSES, THINGS)
    return head.predict(inputs["classes"], inputs["masks"], [meta])[0][
        "pred_panoptic_seg"
    ].index_map[0]


def check(expected: torch.Tensor, got: torch.Tensor) -> None:
    """Compare the maps."""
    equal = (expected == got).float().mean().item()
    if equal < 0.999:
        raise AssertionError(f"{equal:.4%} of the pixels are equal")
