"""RoIAlign forward and backward, as called by ``mmcv.ops.roi_align``."""

from __future__ import annotations

import torch
from torch import Tensor

from .backends import adjoint, torchvision_operator
from .precision import compute_dtype, in_full_precision
from .roi_sampling import Pooling, average_pool, average_pool_grad, max_pool, max_pool_grad


@in_full_precision
def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute what ``mmcv._ext.roi_align_forward`` computes.

    Differences from the original: a box of negative size with ``aligned`` is no error on the CPU
    either; without samples it gives zeros.

    Args:
        input: (B, C, H, W).
        rois: (R, 5), (batch index, x1, y1, x2, y2) in pixels of the image.
        output: (R, C, aligned_height, aligned_width), overwritten.
        argmax_y: Like ``output`` for max pooling, overwritten; else empty.
        argmax_x: Likewise.
        aligned_height: Bins per column.
        aligned_width: Bins per row.
        spatial_scale: Size of the features relative to the image.
        sampling_ratio: Samples per bin and axis; 0: one per pixel.
        pool_mode: 0 maximum, 1 average.
        aligned: Shift the boxes by half a pixel.
    """
    dtype = compute_dtype(input, rois)
    pooling = Pooling((aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    features, boxes = input.to(dtype), rois.to(dtype)
    if pool_mode == 0:
        maxima, rows, columns = max_pool(features, boxes, pooling)
        for target, values in ((output, maxima), (argmax_y, rows), (argmax_x, columns)):
            target.copy_(values)
        return
    torchvision_roi_align = torchvision_operator("roi_align_forward", input.device.type)
    if torchvision_roi_align is not None:
        output.copy_(torchvision_roi_align(features, boxes, *pooling))
    else:
        output.copy_(average_pool(features, boxes, pooling))


@in_full_precision
def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute what ``mmcv._ext.roi_align_backward`` computes.

    Args:
        grad_output: (R, C, aligned_height, aligned_width).
        rois: (R, 5), as in the forward pass.
        argmax_y: Positions of the maxima, from the forward pass; empty for average pooling.
        argmax_x: Likewise.
        grad_input: (B, C, H, W), the gradient is added to it.
        aligned_height: As in the forward pass, like all that follow.
        aligned_width: Bins per row.
        spatial_scale: Size of the features relative to the image.
        sampling_ratio: Samples per bin and axis; 0: one per pixel.
        pool_mode: 0 maximum, 1 average.
        aligned: Shift the boxes by half a pixel.
    """
    dtype = compute_dtype(grad_output, rois)
    pooling = Pooling((aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    grad, boxes = grad_output.to(dtype), rois.to(dtype)
    if pool_mode == 0:
        max_pool_grad(grad_input, grad, boxes, argmax_y.to(dtype), argmax_x.to(dtype))
        return
    torchvision_roi_align = torchvision_operator("roi_align_backward", grad.device.type)
    if torchvision_roi_align is not None:
        like = torch.empty_like(grad_input, dtype=dtype)
        grad_input.add_(
            adjoint(lambda features: torchvision_roi_align(features, boxes, *pooling), like, grad)
        )
    else:
        average_pool_grad(grad_input, grad, boxes, pooling)
