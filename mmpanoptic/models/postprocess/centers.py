"""Find instance centres and send pixels to them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from .segments import block_elements, blocks

FAR_AWAY = 1e18
"""Coordinate of places that hold no centre; its square is still a float32."""


def find_centers(
    heatmap: Tensor,
    threshold: float = 0.1,
    nms_kernel: int = 7,
    top_k: int | None = 200,
    stable_top_k: bool = False,
) -> Tensor:
    """Find the peaks of a centre heatmap.

    Panoptic-DeepLab (arXiv:1911.10194), section 3.1: values above the threshold that are the
    maximum of their window. All pixels of a plateau are peaks.

    Differences from the original: a map with fewer than ``top_k`` pixels is allowed.

    Args:
        heatmap (Tensor): ``(H, W)``, any float type.
        threshold (float): Peaks are strictly larger.
        nms_kernel (int): Side of the window in pixels, odd.
        top_k (int | None): Limit of the number of peaks; None for no limit.
        stable_top_k (bool): False keeps the published rule: from ``top_k`` peaks on, only those
            strictly above the ``top_k``-th best stay, so that at least one is lost and ties at
            the border vanish. True keeps exactly the best ``top_k``, of equal ones the first.

    Returns:
        Tensor: int64 ``(K, 2)``, (y, x) in row-major order.
    """
    found = list(_peaks_of_bands(heatmap, threshold, nms_kernel))
    peaks, values = (torch.cat(column) for column in zip(*found, strict=True))
    if top_k is None or len(peaks) < top_k:
        return peaks
    if stable_top_k:
        best = values.argsort(descending=True, stable=True)[:top_k]
        return peaks[best.sort().values]
    return peaks[values > values.topk(top_k).values[-1]]


def _peaks_of_bands(
    heatmap: Tensor, threshold: float, nms_kernel: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Find peaks ``(K, 2)`` and their values band by band, so that temporaries stay small."""
    height, width = heatmap.shape
    half = nms_kernel // 2
    rows = max(block_elements(heatmap.device) // width, 4 * half, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first = max(top - half, 0)
        scores = _scores(heatmap[first : bottom + half], threshold)
        is_peak = _is_peak(scores, nms_kernel)[top - first : bottom - first]
        place = is_peak.nonzero()
        place[:, 0] += top
        yield place, scores[top - first : bottom - first][is_peak]


def find_centers_padded(
    heatmap: Tensor,
    threshold: float = 0.1,
    nms_kernel: int = 7,
    top_k: int = 200,
    stable_top_k: bool = False,
) -> tuple[Tensor, Tensor]:
    """Find the peaks of a heatmap into an array of fixed size: a GPU's host need not wait.

    Args:
        heatmap (Tensor): As in :func:`find_centers`.
        threshold (float): As there.
        nms_kernel (int): As there.
        top_k (int): As there.
        stable_top_k (bool): As there.

    Returns:
        tuple[Tensor, Tensor]: int64 ``(top_k, 2)``, the result of :func:`find_centers` and
        zeros; bool ``(top_k,)``, which of them are centres.
    """
    width = heatmap.shape[1]
    scores = _scores(heatmap, threshold)
    scores = torch.where(_is_peak(scores, nms_kernel), scores, -1.0).flatten()
    scores = functional.pad(scores, (0, max(top_k - len(scores), 0)), value=-1.0)
    limit = scores.topk(top_k).values[-1].clamp(min=0)
    chosen = scores > limit
    if stable_top_k:
        ties = (scores == limit) & (limit > 0)
        room = top_k - chosen.sum()
        chosen |= ties & (ties.cumsum(0) <= room)
    # The largest of these keys are the first chosen pixels, in row-major order.
    countdown = torch.arange(len(scores), 0, -1, device=scores.device)
    key = (countdown * chosen).topk(top_k).values
    valid = key > 0
    place = (len(scores) - key) * valid
    row = torch.div(place, width, rounding_mode="floor")
    return torch.stack([row, place - row * width], dim=1), valid


def _scores(heatmap: Tensor, threshold: float) -> Tensor:
    heatmap = heatmap.float()
    return torch.where(heatmap > threshold, heatmap, -1.0)


def _is_peak(scores: Tensor, kernel: int) -> Tensor:
    return (scores == _window_max(scores, kernel)) & (scores > 0)


def _window_max(x: Tensor, kernel: int) -> Tensor:
    """Take the maximum over square windows of ``(H, W)``, clipped at the border."""
    return _sliding_max(_sliding_max(x, kernel, 1), kernel, 0)


def _sliding_max(x: Tensor, kernel: int, dim: int) -> Tensor:
    """Take the maximum over windows ``i - kernel // 2 .. i + kernel // 2`` along a dimension.

    Windows double until they reach the kernel: log2(kernel) passes instead of kernel - 1.
    """
    half = kernel // 2
    padding = (half, half) if dim == 1 else (0, 0, half, half)
    x = functional.pad(x, padding, value=float("-inf"))
    span = 1
    while span < kernel:
        step = min(span, kernel - span)
        length = x.shape[dim] - step
        x = torch.maximum(x.narrow(dim, 0, length), x.narrow(dim, step, length))
        span += step
    return x


def assign_to_centers(
    centers: Tensor, offset: Tensor, pixels: Tensor, valid: Tensor | None = None
) -> Tensor:
    """Send each pixel to the centre nearest to where its offset points.

    Distances are Euclidean and in float32; of equally near centres the first one is taken. The
    square root is part of the definition: it makes some different squares equal. Work goes on in
    blocks, so memory depends neither on the number of centres nor on that of pixels.

    Args:
        centers (Tensor): int64 ``(K, 2)``, (y, x), K > 0.
        offset (Tensor): ``(2, H, W)``, (dy, dx) in pixels.
        pixels (Tensor): int64 ``(P,)``, positions in the flattened map.
        valid (Tensor | None): bool ``(K,)``, which of them are centres; all if None.

    Returns:
        Tensor: int32 ``(P,)``, index of the centre.
    """
    width = offset.shape[2]
    dy, dx = offset.flatten(1)
    places = centers.float()
    if valid is not None:
        places = torch.where(valid[:, None], places, FAR_AWAY)
    center_y, center_x = places.T[:, :, None].unbind()
    assigned = torch.empty(len(pixels), dtype=torch.int32, device=pixels.device)
    size = max(block_elements(pixels.device) // len(centers), 1)
    for part, out in zip(pixels.split(size), assigned.split(size), strict=True):
        y = torch.div(part, width, rounding_mode="floor")
        distance = center_y - (y + dy.index_select(0, part).float())
        distance.mul_(distance)
        distance_x = center_x - (part - y * width + dx.index_select(0, part).float())
        distance.add_(distance_x.mul_(distance_x)).sqrt_()
        out.copy_(distance.min(0).indices)
    return assigned


def group_things(
    semantic: Tensor,
    centers: Tensor,
    offset: Tensor,
    isthing: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Send the thing pixels to their centres.

    Args:
        semantic (Tensor): int64 classes ``(H, W)``.
        centers (Tensor): int64 ``(K, 2)``, (y, x).
        offset (Tensor): ``(2, H, W)``, (dy, dx) in pixels.
        isthing (Tensor): bool ``(C,)``.
        valid (Tensor | None): bool ``(K,)``, which of them are centres. With it all pixels are
            sent, so that no size depends on the data; without it only thing pixels.

    Returns:
        Tensor: int32 ``(H, W)``, centre from 1; 0 for stuff, and everywhere without centres.
    """
    flat = semantic.flatten()
    instance = torch.zeros(flat.shape, dtype=torch.int32, device=flat.device)
    if not len(centers):
        return instance.view(semantic.shape)
    for start, stop in blocks(flat):
        thing = isthing.index_select(0, flat[start:stop])
        if valid is None:
            pixels = thing.nonzero()[:, 0]
            owner = assign_to_centers(centers, offset, pixels + start)
            instance[start:stop].scatter_(0, pixels, owner.add_(1))
        else:
            pixels = torch.arange(start, stop, device=flat.device)
            owner = assign_to_centers(centers, offset, pixels, valid)
            torch.mul(owner.add_(1), thing & valid.any(), out=instance[start:stop])
    return instance.view(semantic.shape)
