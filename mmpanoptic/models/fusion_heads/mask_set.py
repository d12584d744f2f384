"""Fusion head of mask transformers: classified masks compete for the pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmpanoptic.models.postprocess.mask_set import MaskSetRules, fuse_mask_sets
from mmpanoptic.registry import MODELS, ConfigError
from mmpanoptic.structures import make_panoptic_data


@MODELS.register_module()
class MaskSetFusionHead(BaseModule):
    """Let the classified masks of queries compete for the pixels.

    The post-processing that MaskFormer (arXiv:2107.06278), Mask2Former and EoMT were measured with.

    Differences from the original: see
    :func:`mmpanoptic.models.postprocess.mask_set.fuse_mask_sets`.

    Args:
        num_classes (int): Number of classes C.
        thing_labels (Sequence[int]): Contiguous labels of the things; stuff of one class is merged.
        score_thr (float): Queries need a larger probability of their class.
        mask_thr (float): Pixels belong to a mask from this probability on.
        overlap_thr (float): Queries that win less than this share of their mask are dropped.
        fill (bool): Paint all pixels that a query wins, as MaskFormer does; otherwise those outside
            of the winner's mask are void.

    Raises:
        ConfigError: If a threshold is not in [0, 1].
    """

    NEEDS = {"classified masks": "a mask transformer"}

    def __init__(
        self,
        num_classes: int,
        thing_labels: Sequence[int],
        score_thr: float = 0.8,
        mask_thr: float = 0.5,
        overlap_thr: float = 0.8,
        fill: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.thing_labels = tuple(thing_labels)
        self.rules = MaskSetRules(score_thr, mask_thr, overlap_thr, fill)
        for name, value in self.rules._asdict().items():
            if not 0 <= value <= 1:
                raise ConfigError(f"MaskSetFusionHead: {name} must be in [0, 1], got {value}")

    @torch.no_grad()
    def predict(
        self,
        sem_outputs: Tensor,
        ins_outputs: Tensor,
        batch_img_metas: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """Form the results of a batch, one image after the other to bound the memory.

        Args:
            sem_outputs (Tensor): Class logits of the queries ``(N, Q, C + 1)``, "no object" last.
            ins_outputs (Tensor): Their mask logits ``(N, Q, h, w)``.
            batch_img_metas (Sequence[Mapping]): ``batch_input_shape`` (height and width with
                padding; where it is missing, a cell is 4 pixels), ``img_shape`` (without) and
                ``ori_shape`` (size of the result, ``img_shape`` if absent) of each image.

        Returns:
            list[dict]: ``pred_panoptic_seg`` of each image.

        Raises:
            ValueError: If the classes are not C + 1, or the padded images are not a whole multiple
                of the masks.
        """
        if sem_outputs.shape[-1] != self.num_classes + 1:
            raise ValueError(
                f"MaskSetFusionHead has {self.num_classes} classes and needs as many logits "
                f"and one of no object for each query, got {sem_outputs.shape[-1]}"
            )
        stride = _stride(ins_outputs.shape[-2:], batch_img_metas[0])
        with torch.autocast(sem_outputs.device.type, enabled=False):
            found = fuse_mask_sets(
                sem_outputs, ins_outputs, stride, batch_img_metas, self.thing_labels, self.rules
            )
        return [{"pred_panoptic_seg": make_panoptic_data(*one)} for one in found]


def _stride(cells: Sequence[int], meta: Mapping[str, Any]) -> int:
    """Tell how many pixels of the padded image a cell of the masks is."""
    padded = meta.get("batch_input_shape")
    if padded is None:
        return 4
    stride = max(padded[0] // cells[0], 1)
    if (cells[0] * stride, cells[1] * stride) != tuple(padded):
        raise ValueError(
            f"masks of {tuple(cells)} cells do not divide images of {tuple(padded)} pixels; pad "
            "the images to a multiple of 32: data_preprocessor=dict(pad_size_divisor=32)"
        )
    return stride
