"""Instance head of SOLOv2: grids of categories and kernels, one map of mask features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet.models.dense_heads import SOLOV2Head
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mmpanoptic.registry import MODELS, ConfigError

from .solov2_targets import GridLevels, SOLOv2Targets, make_solov2_targets

AVERAGES = ("pairs", "cells")
GRIDS = (40, 36, 24, 16, 12)
STRIDES = (8, 8, 16, 32, 32)
SCALE_RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
FEATURE_LEVELS = 4
MASK_STRIDE = 4
"""Pixels per cell of the mask features."""
"""Levels that the mask features are made from, the finest first."""


class SOLOv2Outputs(NamedTuple):
    """What the head computes, for N images, C classes and P cells of all levels.

    Attributes:
        cls_logits (Tensor): ``(N, C, P)``; the cells level by level, row by row.
        kernels (Tensor): ``(N, E, P)``, a 1x1 filter for each cell.
        mask_feats (Tensor): ``(N, E, h, w)`` at the stride of the masks; a mask's logits are the
            mask features filtered with its kernel.
    """

    cls_logits: Tensor
    kernels: Tensor
    mask_feats: Tensor


@MODELS.register_module()
class SOLOv2Head(SOLOV2Head):
    """Predict a category and a mask kernel for every cell of five grids.

    SOLOv2 (arXiv:2003.10152), sections 3.1 to 3.4; layers and names are those of
    ``mmdet.SOLOV2Head``, whose checkpoints fit.

    Differences from the original: the mask loss of ``mmdet`` divides by positive cells, the
    published one by pairs of cells and masks (``avg``); batches without instances reach every
    parameter; targets of a batch are made at once; the masks of many pairs are computed again in
    the backward pass instead of being kept.

    Args:
        num_classes (int): Number of thing classes.
        thing_labels (Sequence[int]): Contiguous labels of the things; the n-th of them is this
            head's class n.
        in_channels (int): Channels of the levels.
        feat_channels (int): Width of the towers; 512 in the full, 256 in the light head.
        stacked_convs (int): Convolutions of each tower; 4 full, 2 light.
        mask_channels (int): Width inside the mask feature branch.
        kernel_channels (int): Channels E of kernels and mask features; 256 full, 128 light.
        num_grids (Sequence[int]): Cells per axis of each level.
        strides (Sequence[int]): Strides of the levels after resizing.
        scale_ranges (Sequence[Sequence[float]]): Square roots of box areas of each level.
        pos_scale (float): Part of a box whose cells are positive.
        dcn_cfg (dict | None): Config of deformable convolutions in the towers.
        dcn_apply_to_all_conv (bool): Deform all convolutions of a tower, or the last only.
        norm_cfg (dict | None): Norm layers; GN with 32 groups by default.
        avg (str): Mean of the mask loss over "pairs" of cells and masks, as published, or their
            sum divided by the number of positive "cells", as ``mmdet`` does.
        max_pair_pixels (int): Pixels of mask predictions that are computed at once. Further ones
            are computed in turn, and again in the backward pass, to bound the memory.
        loss_mask (dict | None): Config of the mask loss; Dice x 3 by default.
        loss_cls (dict | None): Config of the category loss; focal loss by default.
        init_cfg (dict | list | None): Initialisation; by default normal with standard deviation
            0.01 and a category bias that starts with the probability 0.01.

    Raises:
        ValueError: If ``avg`` is unknown or the class counts differ.
    """

    GIVES = ("kernels and mask features",)

    def __init__(
        self,
        num_classes: int,
        thing_labels: Sequence[int],
        in_channels: int = 256,
        feat_channels: int = 512,
        stacked_convs: int = 4,
        mask_channels: int = 128,
        kernel_channels: int = 256,
        num_grids: Sequence[int] = GRIDS,
        strides: Sequence[int] = STRIDES,
        scale_ranges: Sequence[Sequence[float]] = SCALE_RANGES,
        pos_scale: float = 0.2,
        dcn_cfg: dict | None = None,
        dcn_apply_to_all_conv: bool = True,
        norm_cfg: dict | None = None,
        avg: str = "pairs",
        max_pair_pixels: int = 1 << 25,
        loss_mask: dict | None = None,
        loss_cls: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        _check_arguments(num_classes, thing_labels, avg)
        norm_cfg = norm_cfg or {"type": "GN", "num_groups": 32}
        super().__init__(
            num_classes,
            in_channels,
            feat_channels,
            stacked_convs,
            strides=tuple(strides),
            scale_ranges=tuple(map(tuple, scale_ranges)),
            pos_scale=pos_scale,
            num_grids=list(num_grids),
            loss_mask=loss_mask or default_mask_loss(),
            loss_cls=loss_cls or default_category_loss(),
            norm_cfg=norm_cfg,
            mask_feature_head={
                "feat_channels": mask_channels,
                "start_level": 0,
                "end_level": FEATURE_LEVELS - 1,
                "out_channels": kernel_channels,
                "mask_stride": MASK_STRIDE,
                "norm_cfg": norm_cfg,
            },
            dcn_cfg=dcn_cfg,
            dcn_apply_to_all_conv=dcn_apply_to_all_conv,
            init_cfg=init_cfg or default_init(),
        )
        self.avg = avg
        self.max_pair_pixels = max_pair_pixels
        self.levels = GridLevels(tuple(num_grids), self.scale_ranges, pos_scale)
        place = torch.full((max(thing_labels) + 1,), -1, dtype=torch.int64)
        place[list(thing_labels)] = torch.arange(num_classes)
        self.register_buffer("class_of_label", place, persistent=False)
        self.class_of_label: Tensor

    def forward(self, x: Sequence[Tensor]) -> SOLOv2Outputs:
        """Compute categories, kernels and mask features.

        Args:
            x (Sequence[Tensor]): Five levels ``(N, in_channels, H / s, W / s)`` of the strides 4
                to 64; the height and width of the padded image are multiples of 32.

        Returns:
            SOLOv2Outputs: Logits.
        """
        categories, kernels = [], []
        for feat, side in zip(self.resize_feats(x), self.num_grids, strict=True):
            feat = torch.cat([feat, coordinates(feat)], 1)
            feat = functional.interpolate(
                feat, size=(side, side), mode="bilinear", align_corners=False
            )
            category = feat[:, :-2].contiguous()
            for category_conv, kernel_conv in zip(self.cls_convs, self.kernel_convs, strict=True):
                category, feat = category_conv(category), kernel_conv(feat)
            categories.append(self.conv_cls(category).flatten(2))
            kernels.append(self.conv_kernel(feat).flatten(2))
        return SOLOv2Outputs(torch.cat(categories, 2), torch.cat(kernels, 2), self._mask_feats(x))

    def _mask_feats(self, x: Sequence[Tensor]) -> Tensor:
        """Sum the levels up at the finest stride: ``(N, E, h, w)``."""
        *levels, last = x[:FEATURE_LEVELS]
        levels.append(torch.cat([last, coordinates(last)], 1))
        branch = self.mask_feature_head
        total = 0
        for convs, level in zip(branch.convs_all_levels, levels, strict=True):
            total = total + convs(level)
        return branch.conv_pred(total)

    def loss_by_feat(
        self, outputs: SOLOv2Outputs, batch_data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch; images may be without instances.

        Args:
            outputs (SOLOv2Outputs): From :meth:`forward`.
            batch_data_samples (Sequence[DetDataSample]): With ``gt_instances``: ``bboxes``,
                ``labels`` (contiguous) and ``masks``.

        Returns:
            dict[str, Tensor]: ``loss_mask`` and ``loss_cls``.

        Raises:
            ValueError: If samples have no instances or one of a class that is no thing.
        """
        instances = [self._things(sample) for sample in batch_data_samples]
        with torch.autocast(outputs.cls_logits.device.type, enabled=False):
            outputs = SOLOv2Outputs(*(part.float() for part in outputs))
            height, width = outputs.mask_feats.shape[2:]
            targets = make_solov2_targets(
                instances,
                self.levels,
                self.num_classes,
                (height, width),
                self.mask_stride,
                outputs.mask_feats.device,
            )
            positive = (targets.labels < self.num_classes).sum()
            loss_cls = self.loss_cls(
                outputs.cls_logits.transpose(1, 2).flatten(0, 1),
                targets.labels.flatten(),
                avg_factor=positive + 1,
            )
            return {"loss_mask": self._mask_loss(outputs, targets), "loss_cls": loss_cls}

    def _things(self, sample: Any) -> InstanceData:
        """Take the instances of a sample with this head's classes as labels."""
        if "gt_instances" not in sample:
            raise ValueError(
                "a data sample has no gt_instances, which SOLOv2's targets are made from; set "
                "PackPanopticInputs(with_instances=True) in the training pipeline"
            )
        given = sample.gt_instances
        labels = given.labels.to(self.class_of_label.device)
        known = labels < len(self.class_of_label)
        classes = torch.where(known, self.class_of_label[labels * known], -1)
        if (classes < 0).any():
            raise ValueError(
                f"gt_instances have the labels {sorted(set(labels[classes < 0].tolist()))}, which "
                "are not among thing_labels of the head"
            )
        return InstanceData(bboxes=given.bboxes, labels=classes, masks=given.masks)

    def _mask_loss(self, outputs: SOLOv2Outputs, targets: SOLOv2Targets) -> Tensor:
        """Average the mask loss over all pairs of the batch, in chunks of bounded memory."""
        # Without instances every parameter still gets a gradient, which is zero.
        total = (outputs.kernels.sum() + outputs.mask_feats.sum()) * 0
        if not len(targets.image):
            return total
        size = max(self.max_pair_pixels // outputs.mask_feats[0, 0].numel(), 1)
        for image in range(len(outputs.kernels)):
            pairs = (targets.image == image).nonzero()[:, 0]
            for part in pairs.split(size):
                kernels = outputs.kernels[image].index_select(1, targets.cell[part])
                arguments = (outputs.mask_feats[image], kernels, targets.masks, targets.mask[part])
                if len(pairs) > size:
                    loss = checkpoint(self._pair_loss, *arguments, use_reentrant=False)
                else:
                    loss = self._pair_loss(*arguments)
                total = total + loss
        divisor = len(targets.image)
        if self.avg == "cells":
            divisor = (targets.labels < self.num_classes).sum()
        return total / divisor

    def _pair_loss(self, feats: Tensor, kernels: Tensor, masks: Tensor, index: Tensor) -> Tensor:
        """Sum the loss of pairs up.

        Args:
            feats (Tensor): ``(E, h, w)``.
            kernels (Tensor): ``(E, T)``.
            masks (Tensor): uint8 ``(M, h, w)``.
            index (Tensor): int64 ``(T,)``, mask of each pair.

        Returns:
            Tensor: Scalar.
        """
        logits = kernels.t() @ feats.flatten(1)
        targets = masks.index_select(0, index).flatten(1)
        return self.loss_mask(logits, targets, reduction_override="none").sum()


def coordinates(x: Tensor) -> Tensor:
    """Make coordinate maps ``(N, 2, H, W)`` (x, y in -1..1) for features ``(N, C, H, W)``."""
    height, width = x.shape[2:]
    across = _line(width, x.device).expand(height, width)
    down = _line(height, x.device)[:, None].expand(height, width)
    return torch.stack([across, down]).to(x.dtype).expand(len(x), 2, height, width)


def _line(length: int, device: torch.device) -> Tensor:
    """Space ``(length,)`` numbers from -1 to 1 evenly."""
    if not torch.compiler.is_exporting():
        return torch.linspace(-1, 1, length, device=device)
    # Exporting fixes the length of linspace. Doubles keep the result within its rounding.
    place = torch.arange(length, device=device, dtype=torch.float64)
    return (2 * place / place[-1:].clamp(min=1) - 1).float()


def default_mask_loss() -> dict[str, Any]:
    """Return the config of the published mask loss."""
    return {"type": "mmdet.DiceLoss", "use_sigmoid": True, "loss_weight": 3.0}


def default_category_loss() -> dict[str, Any]:
    """Return the config of the published category loss."""
    return {"type": "mmdet.FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25}


def default_init() -> list[dict[str, Any]]:
    """Return the published initialisation."""
    category = {"type": "Normal", "std": 0.01, "bias_prob": 0.01, "override": {"name": "conv_cls"}}
    return [{"type": "Normal", "layer": "Conv2d", "std": 0.01}, category]


def _check_arguments(num_classes: int, thing_labels: Sequence[int], avg: str) -> None:
    if avg not in AVERAGES:
        raise ValueError(f"SOLOv2Head: avg must be one of {AVERAGES}, got {avg!r}")
    if not num_classes and not thing_labels:
        raise ConfigError(
            "SOLOv2Head predicts things, but the dataset has no thing classes (isthing 1 in the "
            "JSON's categories); train a semantic model such as DeepLabV3+ on it"
        )
    if len(thing_labels) != num_classes or not num_classes:
        raise ValueError(
            f"SOLOv2Head: num_classes is {num_classes}, but there are {len(thing_labels)} "
            "thing_labels; it needs one label for each class, and at least one class"
        )
