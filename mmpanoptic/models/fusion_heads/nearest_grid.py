"""Enlarge a map of cells to the size of the result by nearest neighbours, and measure on cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


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
