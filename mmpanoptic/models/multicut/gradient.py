"""Gradient of a loss of a multiway cut's masks at the costs of the cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.structures import as_tensor_on

from .grid_edges import map_edges
from .layer import Cut, HostCopies, HostProblem, MulticutModule

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
        problem (HostProblem): Costs of C classes.
        cut (Cut): The solution of the asymmetric multiway cut.
        label (Tensor): int64 ``(P,)``, class of each channel.
        kind (Tensor): int64 ``(h, w)``, number of each cell's kind.
        mask_grad (Tensor): ``(K, P or more)``, loss gradient at the channels' masks in a cell of
            each kind; one for all images of a batch.
        steps (np.ndarray): ``(S,)``, lengths of the perturbations.
    """

    problem: HostProblem
    cut: Cut
    label: Tensor
    kind: Tensor
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
    largest = max(one.problem.node.size + len(one.label) * one.kind.numel() for one in images)
    size = max(1, MAX_ELEMENTS // (largest * len(images[0].steps)))
    gradients: list[CutGradient] = []
    for first in range(0, len(images), size):
        gradients += _estimate_group(images[first : first + size], solver)
    return gradients


def _estimate_group(images: Sequence[SolvedImage], solver: MulticutModule) -> list[CutGradient]:
    # Costs lie on the host already; what the steps have in common is sent once, not once a step.
    batch = images[0].mask_grad
    parts = [part for one in images for part in (one.label, one.kind.int())]
    mask_grad, *sent = HostCopies([batch, *parts]).wait()
    owners: list[np.ndarray] = []
    problems: list[HostProblem] = []
    for one, label, kind in zip(images, sent[::2], sent[1::2], strict=True):
        owner, direction = _columns(label, kind, mask_grad[:, : len(label)], len(one.problem.node))
        owners.append(owner)
        for step in one.steps:
            costs = one.problem.node[owner]
            costs[len(costs) - len(direction) :] += np.float32(step) * direction
            problems.append(HostProblem(costs, one.problem.edges))
    solved = iter(solver.solve_symmetric(problems, batch))
    gradients = []
    for one, owner in zip(images, owners, strict=True):
        columns = torch.stack([next(solved).labels for _ in one.steps])
        owner_there = as_tensor_on(columns, owner)
        classes = owner_there.index_select(0, columns.flatten()).view(columns.shape)
        share = as_tensor_on(one.mask_grad, 1 / (one.steps * len(one.steps)), torch.float32)
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


def _columns(
    label: np.ndarray, kind: np.ndarray, mask_grad: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Make a column of every class without channels and of every channel.

    Args:
        label (np.ndarray): int64 ``(P,)``, class of each channel.
        kind (np.ndarray): int32 ``(h, w)``, number of each cell's kind.
        mask_grad (np.ndarray): float32 ``(K, P)``, loss gradient at the channels' masks in a cell
            of each kind.
        num_classes (int): Number of classes.

    Returns:
        tuple[np.ndarray, np.ndarray]: Class of each column, those of the channels at the end, and
        the perturbation of these ``(P, h, w)``.
    """
    without = np.setdiff1d(np.arange(num_classes), label)
    order = np.argsort(label, kind="stable")
    return np.concatenate([without, label[order]]), mask_grad.T[order][:, kind]
