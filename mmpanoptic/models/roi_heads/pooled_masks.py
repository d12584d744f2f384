"""Ground-truth masks from which many proposals are cut without copying a mask per proposal."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.structures.mask import BitmapMasks
from torch import Tensor

from mmpanoptic.ops.backends import backend
from mmpanoptic.ops.roi_align import pool_masks


class PooledMasks(BitmapMasks):
    """Bitmaps that are cropped and resized on the device, K masks for all proposals together.

    Differences from the original (``mmdet.BitmapMasks``): that one copies the full-size mask of its
    instance, as floats, for each of up to 128 proposals (half a gigabyte at 800 x 1333). Here
    the proposals name the mask they pool from. Results are equal.

    Args:
        masks (np.ndarray): uint8 ``(K, H, W)``, 0 or 1.
        height (int): Height H.
        width (int): Width W.
    """

    def __init__(self, masks: Any, height: int, width: int) -> None:
        super().__init__(masks, height, width)

    def crop_and_resize(
        self,
        bboxes: np.ndarray | Tensor,
        out_shape: tuple[int, int],
        inds: np.ndarray | Tensor,
        device: str | torch.device = "cpu",
        interpolation: str = "bilinear",
        binarize: bool = True,
    ) -> BitmapMasks:
        """Cut a window out of one mask per box.

        Args:
            bboxes (np.ndarray | Tensor): Boxes ``(N, 4)``, x0, y0, x1, y1 in pixels.
            out_shape (tuple[int, int]): Height and width of the result.
            inds (np.ndarray | Tensor): Mask of each box, ``(N,)``.
            device (str | torch.device): Where to compute.
            interpolation (str): Only "bilinear".
            binarize (bool): Give 0 and 1, by the threshold 0.5.

        Returns:
            BitmapMasks: N masks.

        Raises:
            ValueError: If another interpolation is asked for.
        """
        if interpolation != "bilinear":
            raise ValueError(f'PooledMasks interpolates "bilinear" only, got {interpolation!r}')
        if not len(self.masks) or not len(bboxes):
            return BitmapMasks(np.zeros((0, *out_shape), np.uint8), *out_shape)
        boxes = torch.as_tensor(bboxes, dtype=torch.float32, device=device)
        owner = torch.as_tensor(inds, dtype=torch.int64, device=device)
        source = torch.from_numpy(self.masks).to(device).float()
        pooled = _pool(source, owner, boxes, out_shape)
        values = (pooled >= 0.5) if binarize else pooled
        return BitmapMasks(values.cpu().numpy(), *out_shape)


def _pool(masks: Tensor, owner: Tensor, boxes: Tensor, out_shape: tuple[int, int]) -> Tensor:
    """Pool masks ``(K, H, W)`` in boxes ``(N, 4)``: ``(N, *out_shape)``."""
    device = masks.device.type
    if device != "cpu" and backend("roi_align_forward", device) == "pytorch":
        return pool_masks(masks, owner, boxes, out_shape)
    rois = torch.cat([owner[:, None].float(), boxes], 1)
    return roi_align(masks[:, None], rois, out_shape, 1.0, 0, "avg", True)[:, 0]
