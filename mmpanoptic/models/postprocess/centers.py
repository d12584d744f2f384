"""Find instance centres and send pixels to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .segments import block_elements, blocks

FAR_AWAY = 1e18
"""Coordinate of places that hold no centre; its square is still a float32."""
SPLIT = 4
"""Cells that one is divided into, along each side."""
LEVELS = ((64, 64), (16, 20), (4, 6))
"""Cells of :func:`list_nearby`: pixels on a side, and how many centres they can name."""
FINEST = LEVELS[-1][0]
MARGIN = 64
"""Pixels around the map that cells cover, too."""
SLACK = 1e-3
"""What rounding cannot move a distance by, relative and in pixels."""


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


def assign_to_centers(centers: Tensor, offset: Tensor, pixels: Tensor) -> Tensor:
    """Send each pixel to the centre nearest to where its offset points.

    Distances are Euclidean and in float32; of equally near centres the first one is taken. The
    square root is part of the definition: it makes some different squares equal. Work goes on in
    blocks, so memory depends neither on the number of centres nor on that of pixels.

    Args:
        centers (Tensor): int64 ``(K, 2)``, (y, x), K > 0.
        offset (Tensor): ``(2, H, W)``, (dy, dx) in pixels.
        pixels (Tensor): int64 ``(P,)``, positions in the flattened map.

    Returns:
        Tensor: int32 ``(P,)``, index of the centre.
    """
    width = offset.shape[2]
    dy, dx = offset.flatten(1)
    center_y, center_x = centers.float().T[:, :, None].unbind()
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


class NearbyCenters(NamedTuple):
    """Which centres may be the nearest one to a point, by the cell that the point lies in.

    Cells have :data:`FINEST` pixels on a side and begin :data:`MARGIN` pixels outside of the map.

    Attributes:
        center (Tensor): int32 ``(rows * columns, M)``, centres by number; K where there are fewer.
        y (Tensor): float32 ``(rows * columns, M)``, where they are, as is ``x``.
        x (Tensor): See ``y``.
        crowded (Tensor): bool ``(rows * columns,)``, cells that more centres may be nearest to, and
            those at the border, where points beyond it fall into.
        rows (int): Rows of cells.
        columns (int): Columns of cells.
    """

    center: Tensor
    y: Tensor
    x: Tensor
    crowded: Tensor
    rows: int
    columns: int


def list_nearby(places: Tensor, valid: Tensor, shape: tuple[int, int]) -> NearbyCenters:
    """List for cells, coarse to fine, the centres that may be the nearest one to a point of them.

    A centre is kept unless its distance to the middle of the cell exceeds the least one by more
    than the cell's diameter; a finer cell asks those only that the coarser one kept.

    Args:
        places (Tensor): float32 ``(K + 1, 2)``, (y, x) of the centres, the last one far away.
        valid (Tensor): bool ``(K,)``, which of them are centres.
        shape (tuple[int, int]): Height and width of the map.

    Returns:
        NearbyCenters: At most the last of :data:`LEVELS` for a cell.
    """
    device, none = places.device, len(valid)
    rows, columns = (-(-(extent + 2 * MARGIN) // LEVELS[0][0]) for extent in shape)
    # Where there is no centre stands the one that is far away.
    numbers = torch.arange(none, dtype=torch.int32, device=device)
    center = torch.where(valid, numbers, none).expand(rows * columns, -1)
    crowded = torch.zeros(rows * columns, dtype=torch.bool, device=device)
    above = LEVELS[0][0]
    for side, most in LEVELS:
        if side != above:
            center, crowded = _divide(center, rows, columns), _divide(crowded, rows, columns)
            rows, columns, above = rows * SPLIT, columns * SPLIT, side
        y, x = (
            torch.arange(count, device=device, dtype=torch.float32).mul_(side).add_(shift)
            for count, shift in ((rows, side / 2 - MARGIN), (columns, side / 2 - MARGIN))
        )
        distance = places[:, 0].index_select(0, center.flatten()).view(rows, columns, -1)
        distance = distance.sub_(y[:, None, None]).square_()
        across = places[:, 1].index_select(0, center.flatten()).view(rows, columns, -1)
        distance = distance.add_(across.sub_(x[:, None]).square_()).sqrt_().flatten(0, 1)
        reach = distance.amin(1, keepdim=True).mul_(1 + SLACK).add_(side * 2**0.5 + SLACK)
        kept = (distance <= reach).logical_and_(center < none)
        rank = kept.cumsum(1, dtype=torch.int32)
        crowded = crowded | (rank[:, -1] > most)
        slot = torch.where(kept, rank - 1, most).clamp_(max=most).long()
        center = center.new_full((len(slot), most + 1), none).scatter_(1, slot, center)[:, :most]
    crowded = crowded.view(rows, columns)
    for border in (crowded[0], crowded[-1], crowded[:, 0], crowded[:, -1]):
        border.fill_(True)
    y, x = (part.index_select(0, center.flatten()).view(center.shape) for part in places.T)
    return NearbyCenters(center.contiguous(), y, x, crowded.flatten(), rows, columns)


def _divide(cells: Tensor, rows: int, columns: int) -> Tensor:
    """Give each cell's row of ``(rows * columns, ...)`` to the cells that it is divided into."""
    cells = cells.unflatten(0, (rows, 1, columns, 1))
    return cells.expand(-1, SPLIT, -1, SPLIT, *cells.shape[4:]).flatten(0, 3)


def assign_to_nearby(nearby: NearbyCenters, offset: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Send the pixels of some rows to their centres as :func:`assign_to_centers` does.

    Args:
        nearby (NearbyCenters): Of the map.
        offset (Tensor): ``(2, h, W)``, (dy, dx) in pixels, of these rows.
        top (int): Number of the first row.

    Returns:
        tuple[Tensor, Tensor]: int32 ``(h, W)``, index of the centre; bool ``(h, W)``, where it may
        be another one.
    """
    height, width = offset.shape[1:]
    device = offset.device
    y = offset[0].float() + torch.arange(top, top + height, device=device)[:, None]
    x = offset[1].float() + torch.arange(width, device=device)
    cell = _cell_of(y, nearby.rows).mul_(nearby.columns).add_(_cell_of(x, nearby.columns)).flatten()
    y, x = y.view(-1, 1), x.view(-1, 1)
    distance = nearby.y.index_select(0, cell).sub_(y).square_()
    distance.add_(nearby.x.index_select(0, cell).sub_(x).square_()).sqrt_()
    nearest = distance.min(1).indices
    crowded = nearby.crowded.index_select(0, cell)
    place = cell.mul_(nearby.center.shape[1]).add_(nearest)
    owner = nearby.center.flatten().index_select(0, place)
    return owner.view(height, width), crowded.view(height, width)


def _cell_of(coordinate: Tensor, count: int) -> Tensor:
    # Whatever a number outside of int32 becomes, a border cell takes it.
    cell = (coordinate + MARGIN).mul_(1 / FINEST).to(torch.int32)
    return cell.clamp_(0, count - 1)


def group_things(semantic: Tensor, centers: Tensor, offset: Tensor, isthing: Tensor) -> Tensor:
    """Send the thing pixels to their centres.

    Args:
        semantic (Tensor): int64 classes ``(H, W)``.
        centers (Tensor): int64 ``(K, 2)``, (y, x).
        offset (Tensor): ``(2, H, W)``, (dy, dx) in pixels.
        isthing (Tensor): bool ``(C,)``.

    Returns:
        Tensor: int32 ``(H, W)``, centre from 1; 0 for stuff, and everywhere without centres.
    """
    flat = semantic.flatten()
    instance = torch.zeros(flat.shape, dtype=torch.int32, device=flat.device)
    if not len(centers):
        return instance.view(semantic.shape)
    for start, stop in blocks(flat):
        pixels = isthing.index_select(0, flat[start:stop]).nonzero()[:, 0]
        owner = assign_to_centers(centers, offset, pixels + start)
        instance[start:stop].scatter_(0, pixels, owner.add_(1))
    return instance.view(semantic.shape)


def group_things_padded(
    semantic: Tensor, centers: Tensor, valid: Tensor, offset: Tensor, isthing: Tensor
) -> tuple[Tensor, Tensor]:
    """Send the thing pixels to centres of :func:`find_centers_padded`: no size depends on the data.

    Each pixel is compared with the few centres near to where it points, not with all of them, which
    at 1024x2048 would move 20 GB.

    Args:
        semantic (Tensor): int64 classes ``(H, W)``.
        centers (Tensor): int64 ``(K, 2)``, (y, x).
        valid (Tensor): bool ``(K,)``, which of them are centres.
        offset (Tensor): ``(2, H, W)``, (dy, dx) in pixels.
        isthing (Tensor): bool ``(C,)``.

    Returns:
        tuple[Tensor, Tensor]: What :func:`group_things` gives; bool ``()``, whether a thing pixel
        points to where more centres are near than are compared, or far out of the image: then the
        map may be wrong and :func:`group_things` has to be asked.
    """
    height, width = semantic.shape
    places = functional.pad(centers.float(), (0, 0, 0, 1), value=FAR_AWAY)
    nearby = list_nearby(places, valid, (height, width))
    instance = torch.empty(semantic.shape, dtype=torch.int32, device=semantic.device)
    unsure = torch.zeros((), dtype=torch.bool, device=semantic.device)
    some = valid.any()
    rows = max(block_elements(semantic.device) // (width * LEVELS[-1][1]), 1)
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        owner, crowded = assign_to_nearby(nearby, offset[:, part], top)
        thing = isthing.index_select(0, semantic[part].flatten()).view(owner.shape)
        thing.logical_and_(some)
        torch.mul(owner.add_(1), thing, out=instance[part])
        unsure.logical_or_(crowded.logical_and_(thing).any())
    return instance, unsure
