"""Gradient of a loss of a multiway cut's masks at the costs of the cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .grid_edges import map_edges
from .layer import Cut, CutProblem, MulticutModule

MAX_ELEMENTS = 1 << 27
"""Costs that are solved at once; more images are solved in groups."""


class CutGradient(NamedTuple):
    """Estimate of the loss's gradient at the costs of one image.

    Attributes:
        node (Tensor): float32 ``(C, h, w)``.
        edges (list[Tensor]): float32 ``(2, h', w')`` of each distance.
    """

    node: Tensor
    edges: list[Tensor]


class SolvedImage(NamedTuple):
    """One image, its solution and what the loss says about it.

    Attributes:
        problem (CutProblem): Costs of C classes.
        cut (Cut): The solution of the asymmetric multiway cut.
        label (Tensor): int64 ``(P,)``, class of each channel.
        mask_grad (Tensor): ``(P or more, h, w)``, loss gradient at the channels' masks.
        steps (np.ndarray): ``(S,)``, lengths of the perturbations.
    """

    problem: CutProblem
    cut: Cut
    label: Tensor
    mask_grad: Tensor
    steps: np.ndarray


def estimate_gradients(images: Sequence[SolvedImage], solver: MulticutModule) -> list[CutGradient]:
    """Perturb costs along the loss gradient and divide the change of the solution by the step.

    COPS (arXiv:2106.03188), section 5. Every channel, found or missed, is a class of its own in a
    symmetric multiway cut, besides the classes without channels. All steps of several images are
    solved at once.

    Args:
        images (Sequence[SolvedImage]): The images, all of one size.
        solver (MulticutModule): Solves the perturbed problems.

    Returns:
        list[CutGradient]: One for each image, averaged over its steps.
    """
    if not images:
        return []
    largest = max(one.problem.node.numel() + one.mask_grad.numel() for one in images)
    size = max(1, MAX_ELEMENTS // (largest * len(images[0].steps)))
    gradients: list[CutGradient] = []
    for first in range(0, len(images), size):
        gradients += _estimate_group(images[first : first + size], solver)
    return gradients


def _estimate_group(images: Sequence[SolvedImage], solver: MulticutModule) -> list[CutGradient]:
    owners: list[Tensor] = []
    problems: list[CutProblem] = []
    for one in images:
        owner, direction = _columns(one.label, one.mask_grad, len(one.problem.node))
        costs = one.problem.node.index_select(0, owner)
        owners.append(owner)
        problems += [
            CutProblem(costs + float(step) * direction, one.problem.edges) for step in one.steps
        ]
    solved = iter(solver.solve_symmetric(problems))
    gradients = []
    for one, owner in zip(images, owners, strict=True):
        columns = torch.stack([next(solved).labels for _ in one.steps])
        classes = owner.index_select(0, columns.flatten()).view(columns.shape)
        share = torch.from_numpy(1 / (one.steps * len(one.steps))).to(one.problem.node)
        node = _class_change(classes, one.cut.labels, share, len(one.problem.node))
        edges = [
            _cut_change(columns, one.cut.components, share, distance, interval)
            for distance, interval in zip(solver.distances, solver.intervals, strict=True)
        ]
        gradients.append(CutGradient(node, edges))
    return gradients


def _class_change(classes: Tensor, labels: Tensor, share: Tensor, num_classes: int) -> Tensor:
    """Average the change of the classes ``(S, h, w)`` per step: ``(C, h, w)``."""
    change = share.new_zeros(num_classes, labels.numel())
    change.scatter_add_(0, classes.flatten(1), share[:, None].expand(-1, labels.numel()))
    change.scatter_add_(0, labels.view(1, -1), -share.sum().expand(1, labels.numel()))
    return change.view(-1, *labels.shape)


def _cut_change(
    columns: Tensor, components: Tensor, share: Tensor, distance: int, interval: int
) -> Tensor:
    """Average the change of the cuts of a distance per step: ``(2, h', w')``."""
    after = map_edges(columns, distance, torch.ne, interval).to(share.dtype)
    before = map_edges(components, distance, torch.ne, interval).to(share.dtype)
    return torch.einsum("s,s...->...", share, after - before)


def _columns(label: Tensor, mask_grad: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Make a column of every class without channels and of every channel.

    Args:
        label (Tensor): int64 ``(P,)``, class of each channel.
        mask_grad (Tensor): ``(P or more, h, w)``, loss gradient at the channels' masks.
        num_classes (int): Number of classes.

    Returns:
        tuple[Tensor, Tensor]: Class of each column ``(K,)``, and its perturbation ``(K, h, w)``.
    """
    absent = torch.ones(num_classes, dtype=torch.bool, device=label.device)
    absent[label] = False
    without = absent.nonzero()[:, 0]
    order = label.argsort(stable=True)
    perturbation = mask_grad.new_zeros(len(without) + len(order), *mask_grad.shape[1:])
    perturbation[len(without) :] = mask_grad[order]
    return torch.cat([without, label[order]]), perturbation
