"""Cross entropy over the hardest pixels of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mmpanoptic.models.layers.resize import upsample_to_image
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import IGNORE_LABEL

MINING = ("batch", "image")


@MODELS.register_module()
class HardPixelMiningLoss(nn.Module):
    """Average the ``top_k`` share of the largest pixel losses.

    DeeperLab (arXiv:1902.05093), section 3.2: "weighted bootstrapped cross entropy"; EfficientPS
    (arXiv:2004.02307), section 3.2. Pixels compete within the whole batch on a device or within
    their image; ignored pixels take part with loss 0.

    Differences from the original: logits come at the stride of the head. With ``memory_lean``
    they are enlarged image by image and again in the backward pass, so that no full-size logits
    or softmax outlive their image; same values.

    Args:
        top_k (float): Share of the pixels that count, in (0, 1]; 1 is the mean over all pixels.
        loss_weight (float): Factor of the loss.
        memory_lean (bool): Trade a second upsampling for memory.
        mining (str): "batch" lets all pixels of the batch compete, "image" those of each image.
        round_up (bool): Round a fractional number of pixels up (EfficientPS) instead of down.

    Raises:
        ValueError: If ``top_k`` is not in (0, 1] or ``mining`` is unknown.
    """

    def __init__(
        self,
        top_k: float = 0.2,
        loss_weight: float = 1.0,
        memory_lean: bool = True,
        mining: str = "batch",
        round_up: bool = False,
    ) -> None:
        super().__init__()
        if mining not in MINING:
            raise ValueError(
                f"HardPixelMiningLoss: mining is one of {', '.join(MINING)}, got {mining!r}"
            )
        if not 0 < top_k <= 1:
            raise ValueError(f"HardPixelMiningLoss: top_k is a share in (0, 1], got {top_k}")
        self.top_k = top_k
        self.loss_weight = loss_weight
        self.memory_lean = memory_lean
        self.mining = mining
        self.round_up = round_up

    def forward(
        self, logits: Tensor, target: Tensor, weight: Tensor | None = None, stride: int = 1
    ) -> Tensor:
        """Compute the loss in float32.

        Args:
            logits (Tensor): ``(N, C, h, w)`` at ``1 / stride`` of the target's resolution.
            target (Tensor): int64 labels ``(N, H, W)``.
            weight (Tensor | None): Pixel weights ``(N, H, W)``.
            stride (int): Pixels per cell of ``logits``.

        Returns:
            Tensor: Scalar.
        """
        with torch.autocast(logits.device.type, enabled=False):
            losses = self._pixel_losses(logits, target, stride)
            if weight is not None:
                losses = losses * weight
            losses = losses.flatten(0 if self.mining == "batch" else 1)
            if self.top_k < 1:
                share = self.top_k * losses.shape[-1]
                count = max(math.ceil(share) if self.round_up else int(share), 1)
                losses = losses.topk(count, sorted=False).values
            return losses.mean() * self.loss_weight

    def _pixel_losses(self, logits: Tensor, target: Tensor, stride: int) -> Tensor:
        def compute(cells: Tensor, labels: Tensor) -> Tensor:
            full = upsample_to_image(cells.float(), stride, (labels.shape[1], labels.shape[2]))
            return functional.cross_entropy(
                full, labels, ignore_index=IGNORE_LABEL, reduction="none"
            )

        if not (self.memory_lean and logits.requires_grad):
            return compute(logits, target)
        parts = zip(logits.split(1), target.split(1), strict=True)
        return torch.cat(
            [
                checkpoint(compute, *part, use_reentrant=False, preserve_rng_state=False)
                for part in parts
            ]
        )
