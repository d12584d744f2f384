"""Scores of the segments of a cut, measured on cells of the cut and pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmpanoptic.models.layers import upsample_to_image

from .grid_edges import COLUMN_EDGES, ROW_EDGES, edge_ends, valid_edges


class NearestGrid:
    """How the pixels of a result read the cells of a grid.

    The definition: repeat each cell ``stride`` times in both directions, cut the padding off, and
    resize to the result by nearest neighbours as ``torch.nn.functional.interpolate`` does. Each
    pixel then reads one cell, given by its row and its column.

    Args:
        cells (tuple[int, int]): Height and width of the grid.
        stride (int): Pixels of the network's input per cell.
        img_shape (tuple[int, int]): Size of the input without padding.
        out_shape (tuple[int, int]): Size of the result.
        device (torch.device): Of the maps.
    """

    def __init__(
        self,
        cells: tuple[int, int],
        stride: int,
        img_shape: tuple[int, int],
        out_shape: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.cells = (int(cells[0]), int(cells[1]))
        self.stride = stride
        self.img_shape = img_shape
        self.out_shape = out_shape
        self.pixel_rows, self.pixel_columns = (
            _nearest(img, out, device) for img, out in zip(img_shape, out_shape, strict=True)
        )
        self.rows, self.columns = self.pixel_rows // stride, self.pixel_columns // stride

    def enlarge(self, x: Tensor) -> Tensor:
        """Map ``(h, w)`` to the result ``(H, W)``."""
        return x.index_select(1, self.columns).index_select(0, self.rows)

    def cells_of_image(self, index: Tensor) -> Tensor:
        """Set the cells of an index map ``(h, w)`` that lie in the padding to 0."""
        height, width = (-(-side // self.stride) for side in self.img_shape)
        index = index.clone()
        index[height:] = 0
        index[:, width:] = 0
        return index

    def subsample(self, index_map: Tensor) -> Tensor:
        """Take the middle of every ``stride`` pixels of the result, cut or filled up to ``(h, w)``.

        The cells that are read so are those of the image only if it was not resized.
        """
        half = self.stride // 2
        index = index_map[half :: self.stride, half :: self.stride][
            : self.cells[0], : self.cells[1]
        ]
        missing = (self.cells[0] - index.shape[0], self.cells[1] - index.shape[1])
        return functional.pad(index, (0, missing[1], 0, missing[0]))

    def measure(self, index: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
        """Count the pixels of segments in the result and find their boxes, on cells.

        Args:
            index (Tensor): int64 ``(h, w)``, segment of each cell from 1, 0 for none.
            num_segments (int): Number of segments M.

        Returns:
            tuple[Tensor, Tensor]: int64 areas ``(M,)``, and boxes ``(M, 4)`` as x0, y0, x1, y1 with
            exclusive ends; 0 where a segment has no pixel.
        """
        height, width = self.cells
        y_first, y_end, y_count = _extents(self.rows, height)
        x_first, x_end, x_count = _extents(self.columns, width)
        flat = index.flatten()
        count = (y_count[:, None] * x_count).flatten()
        flat = torch.where(count > 0, flat, 0)
        area = flat.new_zeros(num_segments + 1).index_add_(0, flat, count)
        y = torch.arange(height, device=flat.device).repeat_interleave(width)
        x = torch.arange(width, device=flat.device).repeat(height)

        def extreme(table: Tensor, cell: Tensor, how: str, start: int) -> Tensor:
            found = table.new_full((num_segments + 1,), start)
            return found.scatter_reduce_(0, flat, table[cell], how)

        far = max(self.out_shape)
        box = torch.stack(
            [
                extreme(x_first, x, "amin", far),
                extreme(y_first, y, "amin", far),
                extreme(x_end, x, "amax", 0),
                extreme(y_end, y, "amax", 0),
            ],
            dim=1,
        )
        return area[1:], torch.where(area[:, None] > 0, box, 0)[1:]


def _nearest(source: int, length: int, device: torch.device) -> Tensor:
    """Tell which of ``source`` entries each of ``length`` positions reads: int64 ``(length,)``."""
    position = torch.arange(length, dtype=torch.float32, device=device)
    scale = torch.tensor(source / length, dtype=torch.float32, device=device)
    return (position * scale).floor_().long().clamp_(max=source - 1)


def _extents(reads: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the first position that reads each cell, the one behind the last, and their number."""
    count = torch.bincount(reads, minlength=cells)
    end = count.cumsum(0)  # positions read cells in ascending order
    return end - count, end, count


def mean_over_segments(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Average values over segments.

    Args:
        values (Tensor): ``(...)``.
        index (Tensor): Integers of the same shape, segment from 1, 0 for none.
        num_segments (int): Number of segments M.

    Returns:
        Tensor: float64 ``(M,)``, 0 without values.
    """
    flat = index.flatten().long()
    total = torch.zeros(num_segments + 1, dtype=torch.float64, device=flat.device)
    total.index_add_(0, flat, values.flatten().double())
    count = torch.bincount(flat, minlength=num_segments + 1).clamp_(min=1)
    return (total / count)[1:]


def affinity_scores(
    index: Tensor,
    edge_logits: Sequence[Tensor],
    distances: Sequence[int],
    intervals: Sequence[int],
    num_segments: int,
) -> Tensor:
    """Add up boundary logits of edges with one end in a segment, less those with both ends in it.

    COPS (arXiv:2106.03188), section 6: of each distance the mean over all positions of the array.
    As ``cut - joined = in(a) + in(b) - 3 in(a) in(b)``, the logits are first gathered at the cells
    and then added up once per segment.

    Args:
        index (Tensor): Integers ``(h, w)``, segment of each cell from 1, 0 for none.
        edge_logits (Sequence[Tensor]): ``(2, h', w')`` of each distance, as the network gives them.
        distances (Sequence[int]): Distances of the edges.
        intervals (Sequence[int]): Their sampling intervals.
        num_segments (int): Number of segments M.

    Returns:
        Tensor: float64 ``(M,)``.
    """
    cell = torch.zeros(index.shape, dtype=torch.float32, device=index.device)
    for logits, distance, interval in zip(edge_logits, distances, intervals, strict=True):
        logits = logits.float() / logits.numel()
        if interval > 1:
            valid = valid_edges((index.shape[0], index.shape[1]), distance, interval, index.device)
            full = logits.new_zeros(2, *index.shape)
            full[:, ::interval, ::interval] = logits * valid
            logits = full
        before = 0 if distance == 1 else distance // 2
        for plane, dim in zip(logits, (ROW_EDGES, COLUMN_EDGES), strict=True):
            first, second = edge_ends(index, distance, dim)
            values = plane.narrow(dim, min(before, plane.shape[dim]), first.shape[dim])
            at_first, at_second = edge_ends(cell, distance, dim)
            at_second += values
            at_first += torch.where(first == second, -2 * values, values)
    total = torch.zeros(num_segments + 1, dtype=torch.float64, device=index.device)
    return total.index_add_(0, index.flatten().long(), cell.flatten().double())[1:]


def class_scores(class_logits: Tensor, index: Tensor, label: Tensor, stride: int) -> Tensor:
    """Average the logit of its class over each segment, in the space of the network.

    The mean is that over the bilinearly enlarged logits, taken from the cells alone.

    Args:
        class_logits (Tensor): ``(C, h, w)``.
        index (Tensor): Integers ``(h, w)``, segment of each cell from 1, 0 for none.
        label (Tensor): int64 ``(M,)``, class of each segment.
        stride (int): Pixels per cell.

    Returns:
        Tensor: float64 ``(M,)``.
    """
    shares = _block_shares(stride)
    own = torch.cat([label.new_zeros(1), label])[index.long()]
    padded = functional.pad(class_logits[None].float(), (1, 1, 1, 1), mode="replicate")[0]
    height, width = index.shape
    mean = torch.zeros(index.shape, device=index.device)
    for y, y_share in enumerate(shares):
        for x, x_share in enumerate(shares):
            window = padded[:, y : y + height, x : x + width]
            mean += window.gather(0, own[None])[0].mul_(y_share * x_share)
    return mean_over_segments(mean, index, len(label))


def _block_shares(stride: int) -> tuple[float, float, float]:
    """Tell the mean shares of both neighbours and the cell itself in its enlarged pixels."""
    offsets = ((pixel + 0.5) / stride - 0.5 for pixel in range(stride))
    side = sum(max(offset, 0.0) for offset in offsets) / stride
    return side, 1 - 2 * side, side


def class_scores_of_result(
    class_logits: Tensor, index_map: Tensor, label: Tensor, grid: NearestGrid
) -> Tensor:
    """Average the logit of its class over each segment, over the pixels of the result.

    The published rule: logits are enlarged bilinearly by the stride and then read by nearest
    neighbours. One class is enlarged at a time.

    Args:
        class_logits (Tensor): ``(C, h, w)``.
        index_map (Tensor): int32 ``(H, W)``, segment of each pixel of the result, 0 for none.
        label (Tensor): int64 ``(M,)``, class of each segment.
        grid (NearestGrid): How the result reads cells.

    Returns:
        Tensor: float64 ``(M,)``.
    """
    scores = torch.zeros(len(label), dtype=torch.float64, device=label.device)
    for one in label.unique().tolist():
        logits = class_logits[None, one : one + 1].float()
        pixels = upsample_to_image(logits, grid.stride, grid.img_shape)[0, 0]
        pixels = pixels.index_select(1, grid.pixel_columns).index_select(0, grid.pixel_rows)
        means = mean_over_segments(pixels, index_map, len(label))
        scores = torch.where(label == one, means, scores)
    return scores
