"""Auto-Panoptic: a two-stage model whose branches exchange attention."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpanoptic.models.layers.choice import check_choices, make_choice
from mmpanoptic.registry import MODELS

from .two_stage import TwoStagePanopticSegmentor

PUBLISHED_REDUCTIONS = (4, 8, 6)
"""Of the units "r4", "r8", "r16": the original reads the last digit of a name, so "r16" has 6.

What the names say, ``(4, 8, 16)``, is a space of its own; published weights do not fit it.
"""


class AttentionUnit(nn.Module):
    """Turn pooled features of one branch into channel weights for the other.

    ``g = 1 - sigmoid(W2 relu(W1 x + b1) + b2)``. Auto-Panoptic (arXiv:2010.16119), section 3.2.

    Args:
        in_channels (int): Channels of the pooled features.
        out_channels (int): Channels of the features to modulate.
        reduction (int): The hidden width is ``out_channels // reduction``.

    Raises:
        ValueError: If nothing would be left of the hidden layer.
    """

    def __init__(self, in_channels: int, out_channels: int, reduction: int) -> None:
        super().__init__()
        if not 1 <= reduction <= out_channels:
            raise ValueError(
                f"the reduction of an attention unit must lie in 1..{out_channels} (its output "
                f"channels), got {reduction}"
            )
        hidden = out_channels // reduction
        self.fc = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out_channels)
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """Map ``(N, in_channels)`` to weights ``(N, out_channels)`` in 0..1."""
        # Pooled in float32, whatever the model computes in.
        return 1 - torch.sigmoid(self.fc(pooled.to(next(self.parameters()).dtype)))


class AttentionUnits(nn.ModuleList):
    """One unit per level, all on the same pooled features.

    Args:
        decision (str): Name of the decisions: "f2b" for ``f2b.0``...
        in_channels (int): Channels of the pooled features.
        out_channels (int): Channels of the features to modulate.
        num_units (int): Number of levels.
        choices (Sequence[int] | None): Number of the reduction of each unit; None for a supernet.
        reductions (Sequence[int]): What to choose from, see :data:`PUBLISHED_REDUCTIONS`.

    Raises:
        ValueError: If the choices do not fit.
    """

    def __init__(
        self,
        decision: str,
        in_channels: int,
        out_channels: int,
        num_units: int,
        choices: Sequence[int] | None,
        reductions: Sequence[int],
    ) -> None:
        chosen = check_choices(f"choices of {decision}", choices, num_units)
        makers = [partial(AttentionUnit, in_channels, out_channels, r) for r in reductions]
        super().__init__(
            make_choice(f"{decision}.{i}", makers, chosen[i]) for i in range(num_units)
        )

    def forward(self, pooled: Tensor) -> list[Tensor]:
        """Map ``(N, in_channels)`` to one ``(N, out_channels)`` per unit."""
        return [unit(pooled) for unit in self]


def modulate(x: Tensor, attention: Tensor) -> Tensor:
    """Compute ``x + g x`` for maps ``(N, C, H, W)`` and channel weights g ``(N, C)``."""
    return x * (1 + attention)[:, :, None, None]


def mean_of_upsampled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average a map as if it were enlarged to ``size`` first.

    Bilinear interpolation with aligned corners is linear and separable, so the mean of the
    enlarged map is a fixed weighting of the rows and columns of the small one.

    Args:
        x (Tensor): ``(N, C, h, w)``.
        size (tuple[int, int]): Height and width to enlarge to.

    Returns:
        Tensor: ``(N, C)``; float32 or wider.
    """
    x = x if x.dtype == torch.float64 else x.float()
    rows = column_means(x.shape[2], size[0], x.device).to(x.dtype)
    columns = column_means(x.shape[3], size[1], x.device).to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        return (x @ columns) @ rows


def pool_levels(levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Average the levels of a pyramid as if all had one size.

    Args:
        levels (Sequence[Tensor]): ``(N, C_i, h_i, w_i)``.
        size (tuple[int, int]): Height and width that they would be enlarged to.

    Returns:
        Tensor: ``(N, sum of C_i)``; float32 or wider.
    """
    return torch.cat([mean_of_upsampled(x, size) for x in levels], 1)


def column_means(cells: int, length: int, device: torch.device) -> Tensor:
    """Average the rows of the matrix that enlarges ``cells`` values to ``length``.

    Args:
        cells (int): Values before.
        length (int): Values after, corners aligned.
        device (torch.device): Of the result.

    Returns:
        Tensor: float64 on CPUs and float32 elsewhere ``(cells,)``, sum 1.
    """
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    if length == 1:  # the only pixel takes the first cell
        return functional.one_hot(torch.zeros((), dtype=torch.int64, device=device), cells).to(
            dtype
        )
    place = torch.arange(length, dtype=dtype, device=device) * ((cells - 1) / (length - 1))
    # Hat functions: every cell's share in every pixel.
    distance = place[None] - torch.arange(cells, dtype=dtype, device=device)[:, None]
    return (1 - distance.abs()).clamp_(min=0).mean(1)


@MODELS.register_module()
class AutoPanoptic(TwoStagePanopticSegmentor):
    """Modulate the features of each branch by attention from the other.

    Auto-Panoptic (arXiv:2010.16119), section 3. In this order: pooled instance features (all
    levels but the finest) give the channel weights "f2b" of the semantic branch; pooled semantic
    features, before they are modulated, give the weights "b2f" of the instance features; RPN and
    RoI heads run on the modulated features.

    Backbone, semantic head, mask head and both groups of attention units can be searched: without
    ``choices`` they are parts of a supernet, see :func:`mmpanoptic.models.layers.set_path`.

    Differences from the original: pooled features are computed without enlarging them first; see
    :func:`pool_levels`. Results are equal up to rounding.

    Args:
        f2b (dict): Arguments of the attention units from instance to semantic features:
            ``in_channels`` (levels but the finest, times their channels), ``out_channels`` (width
            of the semantic branch), ``num_units`` (levels of the semantic branch), ``choices``
            and ``reductions``; see :class:`AttentionUnits`.
        b2f (dict): The same from semantic to instance features.
        **parts: Arguments of :class:`TwoStagePanopticSegmentor`; the semantic head is a
            ``SearchableSemanticHead``.
    """

    def __init__(self, f2b: dict, b2f: dict, **parts: Any) -> None:
        super().__init__(**parts)
        self.f2b = AttentionUnits("f2b", **f2b)
        self.b2f = AttentionUnits("b2f", **b2f)

    def exchange(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Run the semantic branch and modulate both branches.

        Args:
            feats (Sequence[Tensor]): Feature maps, fine to coarse.

        Returns:
            tuple: Modulated feature maps for the RPN and the RoI head, semantic logits.
        """
        size = (feats[0].shape[2], feats[0].shape[3])
        to_semantic = self.f2b(pool_levels(feats[1:], size))
        levels = self.semantic_head.extract(feats)
        to_instance = self.b2f(pool_levels(levels, size))
        feats = [modulate(x, g) for x, g in zip(feats, to_instance, strict=True)]
        return feats, self.semantic_head.classify(levels, to_semantic)

    def instance_feats(self, feats: Sequence[Tensor]) -> Sequence[Tensor]:
        """Give the modulated feature maps; they need the layers of the semantic branch."""
        return self.exchange(feats)[0]
