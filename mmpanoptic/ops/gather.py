"""Weighted sums of table rows, and their adjoint: what pooling and deformable sampling share.

Interpolating a feature map at any set of points is a sparse matrix times a table with one row
per pixel. ``embedding_bag`` computes that product with vectorised kernels on CPU and CUDA without
ever holding the gathered rows; sorting the entries by pixel turns the adjoint into a second
product of the same form, which needs no atomic additions and so gives the same bits every time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MAX_ENTRIES = 1 << 20
"""Upper bound on the (index, weight) pairs that are held at once."""


def pixel_table(features: Tensor, dtype: torch.dtype) -> Tensor:
    """Lay a feature map out as one row per pixel.

    Args:
        features: (B, C, H, W).
        dtype: Type of the result.

    Returns:
        (B * H * W, C), contiguous; pixel (b, y, x) is row ``(b * H + y) * W + x``.
    """
    return features.to(dtype).permute(0, 2, 3, 1).reshape(-1, features.size(1)).contiguous()


def add_pixel_table(target: Tensor, table: Tensor) -> None:
    """Add a table of pixels to a feature map.

    Args:
        target: (B, C, H, W), changed in place.
        table: (B * H * W, C), in the row order of :func:`pixel_table`.
    """
    batch, channels, height, width = target.shape
    target.add_(table.view(batch, height, width, channels).permute(0, 3, 1, 2).to(target.dtype))


def gather_weighted(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sum table rows with weights: ``out[n] = sum_k weight[n, k] * table[index[n, k]]``.

    Args:
        table: (P, C) float32 or float64.
        index: (N, K) int32 or int64.
        weight: (N, K), dtype of ``table``.

    Returns:
        (N, C), dtype of ``table``.
    """
    if index.numel() == 0 or table.numel() == 0:
        return table.new_zeros(index.size(0), table.size(1))
    return functional.embedding_bag(index, table, mode="sum", per_sample_weights=weight)


def scatter_weighted(
    target: Tensor, rows: Tensor, index: Tensor, source: Tensor, weight: Tensor
) -> None:
    """Add rows to a table with weights, the adjoint of :func:`gather_weighted`.

    Computes ``target[index[e]] += weight[e] * rows[source[e]]`` for all entries e.

    Args:
        target: (P, C), changed in place.
        rows: (N, C), dtype of ``target``.
        index: (E,) int32 or int64.
        source: (E,) int32 or int64.
        weight: (E,), dtype of ``target``.
    """
    if index.numel() == 0 or target.numel() == 0:
        return
    pixels, order = index.sort(stable=True)
    if target.device.type != "cpu":
        # A bag for each pixel, most of them empty: their number is known, nothing waits for it.
        bags = torch.arange(len(target), device=target.device, dtype=pixels.dtype)
        target += functional.embedding_bag(
            source[order].long(),
            rows,
            torch.searchsorted(pixels, bags),
            mode="sum",
            per_sample_weights=weight[order],
        )
        return
    touched, counts = torch.unique_consecutive(pixels, return_counts=True)
    starts = counts.cumsum(0) - counts
    sums = functional.embedding_bag(
        source[order].long(), rows, starts, mode="sum", per_sample_weights=weight[order]
    )
    touched = touched.long()
    target[touched] = target[touched] + sums
