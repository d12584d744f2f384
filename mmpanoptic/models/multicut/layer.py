"""The asymmetric multiway cut as a layer, and the segments of its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmpanoptic.ops.amwc import SolverOptions, solve_grid_batch
from mmpanoptic.utils.jobs import usable_cpus

from .grid_edges import check_distances


class CutProblem(NamedTuple):
    """Costs of one image.

    Attributes:
        node (Tensor): float32 ``(K, h, w)``, price of giving a cell a label.
        edges (Sequence[Tensor]): float32 ``(2, h', w')`` of each distance, price of cutting an
            edge; see :mod:`mmpanoptic.models.multicut.grid_edges`.
    """

    node: Tensor
    edges: Sequence[Tensor]


class HostProblem(NamedTuple):
    """Costs of one image where the solver is: in the host's memory.

    Attributes:
        node (np.ndarray): float32, as in :class:`CutProblem`.
        edges (Sequence[np.ndarray]): The same.
    """

    node: np.ndarray
    edges: Sequence[np.ndarray]


class HostCopies:
    """Tensors of one device on their way to the host, in pinned memory, beside other work.

    They travel on a stream of their own, which first waits for what computes them. What is asked
    of the device after them runs meanwhile.

    Args:
        tensors (Sequence[Tensor]): Of any type; floats arrive in float32.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        found = [one.detach() for one in tensors]
        self._sources = [one.float() if one.is_floating_point() else one for one in found]
        self._copies = self._sources
        self._stream: torch.Stream | None = None
        if self._sources and self._sources[0].device.type == "cuda":
            device = self._sources[0].device
            before = torch.accelerator.current_stream(device)
            self._stream = torch.Stream(device=device)
            self._stream.wait_stream(before)
            torch.accelerator.set_stream(self._stream)
            try:  # torch takes pinned memory for such copies
                self._sources = [one.contiguous() for one in self._sources]
                self._copies = [one.to("cpu", non_blocking=True) for one in self._sources]
            finally:
                torch.accelerator.set_stream(before)

    def wait(self) -> list[np.ndarray]:
        """Return the copies when all of them are there."""
        if self._stream is not None:
            self._stream.synchronize()
        self._sources = []  # kept so long, since the memory's owner does not know of the stream
        return [one.cpu().numpy() for one in self._copies]


class SentCosts:
    """Costs of a batch on their way to the host.

    From a GPU without those of cells that are all 0, as the dropout of costs makes one in ten.

    Args:
        node (Tensor): ``(N, C, h, w)``.
        edges (Sequence[Tensor]): ``(N, 2, h', w')`` of each distance.
    """

    def __init__(self, node: Tensor, edges: Sequence[Tensor]) -> None:
        node = node.detach()
        self._shape = node.shape
        self._shortened = node.device.type == "cuda"
        parts = list(node)
        if self._shortened:
            kept = (node != 0).any(1).flatten(1)
            cells = kept.nonzero()[:, 1].split(kept.sum(1).tolist())
            pairs = zip(node, cells, strict=True)
            parts = [one.flatten(1).index_select(1, where) for one, where in pairs]
            parts.append(kept)
        self._copies = HostCopies([*edges, *parts])

    def wait(self) -> list[HostProblem]:
        """Return the costs of each image when all of them are there."""
        copies = self._copies.wait()
        number, _, *size = self._shape
        edges, node = copies[: -number - self._shortened], copies[-number - self._shortened :]
        if self._shortened:
            *parts, kept = node
            node = [_spread(part, where) for part, where in zip(parts, kept, strict=True)]
        return [
            HostProblem(one.reshape(-1, *size), [part[image] for part in edges])
            for image, one in enumerate(node)
        ]


def _spread(part: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Put the costs ``(C, K)`` of K kept cells among the others, which get 0."""
    full = torch.zeros(len(part), len(kept))
    full[:, torch.from_numpy(np.flatnonzero(kept))] = torch.from_numpy(part)
    return full.numpy()


def copy_problems(problems: Sequence[CutProblem]) -> list[HostProblem]:
    """Copy the costs of a batch to the host, see :class:`HostCopies`."""
    parts = HostCopies([part for one in problems for part in (one.node, *one.edges)]).wait()
    arrays = iter(parts)
    return [HostProblem(next(arrays), [next(arrays) for _ in one.edges]) for one in problems]


class Cut(NamedTuple):
    """Solution of one image, on the device of its costs.

    Attributes:
        labels (Tensor): int64 ``(h, w)``.
        components (Tensor): int64 ``(h, w)``, connected component of each cell from 0.
    """

    labels: Tensor
    components: Tensor


@dataclass(frozen=True)
class CutSegments:
    """Segments of one image, ordered by class and then by component.

    Attributes:
        index (Tensor): int64 ``(h, w)``, number of each cell's segment from 0; -1 for things that
            are too small.
        label (Tensor): int64 ``(P,)``, class of each segment, ascending.
        cells (Tensor): int64 ``(P,)``, size of each segment.
    """

    index: Tensor
    label: Tensor
    cells: Tensor


class MulticutModule(BaseModule):
    """What the fusion head and the loss share: solve multiway cuts of grids, number the segments.

    Several cuts are solved at once, on threads of the CPU. Edges of distances beyond a side of the
    grid are left out, so that small images can be solved.

    Args:
        num_classes (int): Number of classes C.
        thing_labels (Sequence[int]): Contiguous labels of the things, whose cells may form several
            components.
        distances (Sequence[int]): Distances of the edges, as in the affinity head.
        intervals (Sequence[int] | None): Their sampling intervals; 1 by default.
        ignore_area (int): Things with fewer than a quarter of this many cells form no segment.
        solver (dict | None): Options of the solver, :class:`mmpanoptic.ops.amwc.SolverOptions`,
            other than ``min_instance_size``; ``mode="lpmp"`` gives the published solutions.
        num_threads (int | None): Threads of the solver; None takes one for each CPU that the
            process may use.

    Raises:
        ValueError: If the distances have no layout or an option is not allowed.
    """

    def __init__(
        self,
        num_classes: int,
        thing_labels: Sequence[int],
        distances: Sequence[int],
        intervals: Sequence[int] | None = None,
        ignore_area: int = 12,
        solver: dict | None = None,
        num_threads: int | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.distances = tuple(distances)
        self.intervals = (1,) * len(self.distances) if intervals is None else tuple(intervals)
        check_distances(name, self.distances, self.intervals)
        self.solver_options = SolverOptions(**(solver or {}))
        if self.solver_options.min_instance_size:
            raise ValueError(f"{name}: use ignore_area instead of the solver's min_instance_size")
        self.num_threads = usable_cpus() if num_threads is None else num_threads
        isthing = torch.zeros(num_classes, dtype=torch.bool)
        isthing[list(thing_labels)] = True
        self.register_buffer("isthing", isthing, persistent=False)
        self.isthing: Tensor
        self.thing_labels = frozenset(thing_labels)
        self.thing_flags = [label in self.thing_labels for label in range(num_classes)]
        self.min_cells = ignore_area // 4

    def solve_asymmetric(
        self, problems: Sequence[CutProblem], host: Sequence[HostProblem] | None = None
    ) -> list[Cut]:
        """Solve asymmetric multiway cuts.

        Args:
            problems (Sequence[CutProblem]): Costs of each image, all of one size.
            host (Sequence[HostProblem] | None): Their copies, if there are some already.

        Returns:
            list[Cut]: One for each problem.
        """
        if not problems:
            return []
        host = copy_problems(problems) if host is None else host
        return self._solve(host, problems[0].node, self.thing_flags, self.solver_options)

    def segments(self, cut: Cut) -> CutSegments:
        """Number the segments of a cut, see :func:`segments_of_cut`."""
        return segments_of_cut(cut.labels, cut.components, self.isthing, self.min_cells)

    def solve_symmetric(self, problems: Sequence[HostProblem], like: Tensor) -> list[Cut]:
        """Solve symmetric multiway cuts: edges are cut where labels differ.

        Args:
            problems (Sequence[HostProblem]): Costs, all of one size; numbers of labels may differ.
            like (Tensor): On the device of the result.

        Returns:
            list[Cut]: One for each problem.
        """
        # The other options are about stuff, or would search longer for a gradient's estimate.
        given = self.solver_options
        options = SolverOptions(mode=given.mode, precision=given.precision)
        return self._solve(problems, like, None, options)

    def _solve(
        self,
        problems: Sequence[HostProblem],
        like: Tensor,
        partitionable: list[bool] | None,
        options: SolverOptions,
    ) -> list[Cut]:
        if not problems:
            return []
        size = min(problems[0].node.shape[1:])
        kept = [number for number, distance in enumerate(self.distances) if distance <= size]
        solutions = solve_grid_batch(
            [problem.node for problem in problems],
            [[problem.edges[number] for number in kept] for problem in problems],
            [self.distances[number] for number in kept],
            partitionable,
            [self.intervals[number] for number in kept],
            options,
            num_threads=self.num_threads,
        )
        return [
            Cut(*(_to_device(part, like) for part in (solution.labels, solution.components)))
            for solution in solutions
        ]


def _to_device(part: np.ndarray, like: Tensor) -> Tensor:
    """Send numbers as int32, half of what the int64 of the result would be."""
    numbers = torch.from_numpy(part)
    if like.device.type == "cuda":
        numbers = numbers.pin_memory()
    return numbers.to(like.device, non_blocking=True).long()


LABEL_DIVISOR = 1 << 16
"""Codes of segments are ``class * LABEL_DIVISOR + n``; more than the published 1000."""

FOREGROUND_SLOPE = 0.1
"""Steepness of the foreground probability per pixel of area."""


def segments_of_cut(
    labels: Tensor, components: Tensor, isthing: Tensor, min_cells: int
) -> CutSegments:
    """Number the segments of a cut: one for a stuff class, one for a component of a thing class.

    COPS (arXiv:2106.03188), section 4. Work on cells is one look-up; all else is done once for
    each component.

    Args:
        labels (Tensor): int64 ``(h, w)``, class of each cell; one class within a component.
        components (Tensor): int64 ``(h, w)``, component of each cell from 0.
        isthing (Tensor): bool ``(C,)``.
        min_cells (int): Things with fewer cells form no segment.

    Returns:
        CutSegments: Without segments if there are only things that are too small.
    """
    flat = components.flatten()
    size = torch.bincount(flat)
    label = torch.zeros_like(size).scatter_(0, flat, labels.flatten())
    thing = isthing.index_select(0, label)
    number = torch.arange(1, len(size) + 1, device=flat.device)
    key = label * (len(size) + 1) + torch.where(thing, number, 0)
    kept = ~thing | (size >= min_cells)
    # Component numbers need not be contiguous.
    kept &= size > 0
    unique, segment = torch.unique(key[kept], return_inverse=True)
    table = torch.full_like(size, -1)
    table[kept] = segment
    cells = torch.zeros_like(unique).index_add_(0, segment, size[kept])
    index = table.index_select(0, flat).view(components.shape)
    return CutSegments(index, unique // (len(size) + 1), cells)


def foreground_probability(
    area: Tensor, isthing: Tensor, instance_area: float, stuff_area: float
) -> Tensor:
    """Judge segments by their size: 1/2 at the area limit of things or of stuff.

    Args:
        area (Tensor): Areas ``(...)``.
        isthing (Tensor): bool ``(...)``.
        instance_area (float): Limit of things, in the unit of ``area``.
        stuff_area (float): Limit of stuff.

    Returns:
        Tensor: Probabilities ``(...)``.
    """
    limit = torch.where(isthing, float(instance_area), float(stuff_area))
    return torch.sigmoid(FOREGROUND_SLOPE * (area - limit))
