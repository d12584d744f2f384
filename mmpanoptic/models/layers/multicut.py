"""From tensors of costs to the compiled multiway cut solver and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.ops.amwc import SolverOptions, solve_grid_batch

from .grid_edges import check_distances


class CutProblem(NamedTuple):
    """Costs of one image.

    Attributes:
        node (Tensor): float32 ``(K, h, w)``, price of giving a cell a label.
        edges (Sequence[Tensor]): float32 ``(2, h', w')`` of each distance, price of cutting an
            edge; see :mod:`mmpanoptic.models.layers.grid_edges`.
    """

    node: Tensor
    edges: Sequence[Tensor]


class Cut(NamedTuple):
    """Solution of one image, on the device of its costs.

    Attributes:
        labels (Tensor): int64 ``(h, w)``.
        components (Tensor): int64 ``(h, w)``, connected component of each cell from 0.
    """

    labels: Tensor
    components: Tensor


class CutSolver:
    """Solve multiway cuts of grids, several at once, on threads of the CPU.

    Edges of distances beyond a side of the grid are left out, so that small images can be solved.

    Args:
        name (str): The part that solves, for error messages.
        distances (Sequence[int]): Distances of the edges.
        intervals (Sequence[int] | None): Their sampling intervals; 1 by default.
        options (Mapping | None): Arguments of :class:`mmpanoptic.ops.amwc.SolverOptions` other than
            ``min_instance_size``.
        num_threads (int | None): Threads; None takes one for each core.

    Raises:
        ValueError: If the distances have no layout or an option is not allowed.
    """

    def __init__(
        self,
        name: str,
        distances: Sequence[int],
        intervals: Sequence[int] | None = None,
        options: Mapping[str, Any] | None = None,
        num_threads: int | None = None,
    ) -> None:
        self.distances = tuple(distances)
        self.intervals = (1,) * len(self.distances) if intervals is None else tuple(intervals)
        check_distances(name, self.distances, self.intervals)
        self.options = SolverOptions(**(options or {}))
        if self.options.min_instance_size:
            raise ValueError(f"{name}: use ignore_area instead of the solver's min_instance_size")
        self.num_threads = num_threads

    def solve_asymmetric(
        self, problems: Sequence[CutProblem], partitionable: Sequence[bool]
    ) -> list[Cut]:
        """Solve asymmetric multiway cuts.

        Args:
            problems (Sequence[CutProblem]): Costs of each image, all of one size.
            partitionable (Sequence[bool]): Labels whose cells may form several components.

        Returns:
            list[Cut]: One for each problem.
        """
        return self._solve(problems, list(partitionable), self.options)

    def solve_symmetric(self, problems: Sequence[CutProblem]) -> list[Cut]:
        """Solve symmetric multiway cuts: edges are cut where labels differ.

        Args:
            problems (Sequence[CutProblem]): Costs, all of one size; numbers of labels may differ.

        Returns:
            list[Cut]: One for each problem.
        """
        # The other options are about stuff, or would search longer for a gradient's estimate.
        options = SolverOptions(mode=self.options.mode, precision=self.options.precision)
        return self._solve(problems, None, options)

    def _solve(
        self,
        problems: Sequence[CutProblem],
        partitionable: list[bool] | None,
        options: SolverOptions,
    ) -> list[Cut]:
        if not problems:
            return []
        size = min(problems[0].node.shape[1:])
        kept = [number for number, distance in enumerate(self.distances) if distance <= size]
        # The samples of one image share edge costs: copy each array once.
        copies: dict[int, np.ndarray] = {}

        def copy(costs: Tensor) -> np.ndarray:
            key = costs.data_ptr()
            if key not in copies:
                copies[key] = _to_numpy(costs)
            return copies[key]

        solutions = solve_grid_batch(
            [_to_numpy(problem.node) for problem in problems],
            [[copy(problem.edges[number]) for number in kept] for problem in problems],
            [self.distances[number] for number in kept],
            partitionable,
            [self.intervals[number] for number in kept],
            options,
            num_threads=self.num_threads,
        )
        device = problems[0].node.device
        return [
            Cut(
                torch.from_numpy(solution.labels).to(device, torch.int64),
                torch.from_numpy(solution.components).to(device, torch.int64),
            )
            for solution in solutions
        ]


def _to_numpy(costs: Tensor) -> np.ndarray:
    array: np.ndarray = costs.detach().to("cpu", torch.float32).numpy()
    return array
