"""Panoptic quality as a loss, sent back through the multiway cut into its costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from torch import Tensor

from mmpanoptic.models.multicut.gradient import SolvedImage, estimate_gradients
from mmpanoptic.models.multicut.layer import (
    LABEL_DIVISOR,
    CutProblem,
    CutSegments,
    MulticutModule,
    SentCosts,
    foreground_probability,
)
from mmpanoptic.registry import MODELS

from .panoptic_quality_loss import panoptic_quality_loss
from .segment_matching import NO_SEGMENT, MatchedChannels, match_segments


def _columns_of_kinds(mask_grad: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
    """Keep one of the equal columns of the gradient, which are as many as cells.

    The gradient at a cell's masks follows from its image, ground truth and weight alone.

    Args:
        mask_grad (Tensor): ``(N, P, h, w)``.
        targets (AffinityTargets): Ground truth of the batch.

    Returns:
        tuple[Tensor, Tensor]: int64 ``(N, h, w)``, number of each cell's kind, and the gradient
        ``(K, P)`` in a cell of each kind.
    """
    weights, weight = torch.unique(targets.weight, return_inverse=True)
    code = ((targets.panoptic + 1) * len(weights) + weight).flatten(1)
    image = torch.arange(len(code), device=code.device)[:, None]
    code = code + image * (code.max() + 1)
    kinds, kind = torch.unique(code, return_inverse=True)
    cell = torch.arange(code.numel(), device=code.device)
    one = torch.zeros_like(kinds).scatter_(0, kind.flatten(), cell)
    image, cell = one // code.shape[1], one % code.shape[1]
    return kind.view_as(targets.panoptic), mask_grad.flatten(2)[image, :, cell]


class _AttachGradient(torch.autograd.Function):
    """Give a scalar a gradient that was computed elsewhere."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *costs: Tensor) -> Tensor:
        """Return the loss; ``gradients`` are those at ``costs``."""
        ctx.save_for_backward(*gradients)
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple:
        """Scale the stored gradients."""
        (scale,) = grad_outputs
        return (None, None, *(scale * gradient for gradient in ctx.saved_tensors))


@MODELS.register_module()
class MulticutLoss(MulticutModule):
    """Solve the cut, compare its segments with the ground truth, send the loss back.

    COPS (arXiv:2106.03188), section 5. The asymmetric multiway cut of the costs gives masks; a
    surrogate of panoptic quality compares them with the ground truth. For the backward pass every
    segment, found or missed, becomes a class of its own in a symmetric multiway cut, whose costs
    the loss gradient perturbs by a random step; the change of the solution per step is the gradient
    at the costs.

    Differences from the original: steps are drawn anew for each image and iteration (there, all
    images of a batch, and with data workers all iterations, shared them); matching, loss and
    gradients are computed on the device; solves run in threads, not forked processes; an image
    without segments is allowed. The gradient is computed in the forward pass, from the unscaled
    loss: a loss scaler or an accumulation of batches would change the perturbation.

    Args:
        *args: See :class:`MulticutModule`: ``num_classes``, ``thing_labels``, ``distances``.
        label_divisor (int): Of the codes of the panoptic target.
        loss_weight (float): Factor of the loss. It scales the perturbation as well, so it belongs
            together with the steps.
        step_range (Sequence[float]): Smallest and largest step.
        num_steps (int): Steps drawn for each image.
        stuff_area (float): Area limit of stuff in pixels of the image.
        instance_area (float): Area limit of things in pixels of the image.
        stuff_area_downsampling (float): The published limits in training are a quarter of
            ``instance_area`` and a quarter of ``stuff_area`` divided by this, in cells.
        **kwargs: See :class:`MulticutModule`: ``intervals``, ``ignore_area``, ``solver``,
            ``num_threads``.
    """

    def __init__(
        self,
        *args: Any,
        label_divisor: int = LABEL_DIVISOR,
        loss_weight: float = 10.0,
        step_range: Sequence[float] = (1.0, 5000.0),
        num_steps: int = 5,
        stuff_area: float = 2048,
        instance_area: float = 200,
        stuff_area_downsampling: float = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        low, high = step_range
        if not 0 < low <= high or num_steps < 1:
            raise ValueError(
                f"MulticutLoss: step_range must be positive and ascending and num_steps at least "
                f"1, got {list(step_range)} and {num_steps}"
            )
        self.label_divisor = label_divisor
        self.loss_weight = loss_weight
        self.step_range = (float(low), float(high))
        self.num_steps = num_steps
        self.stuff_area = stuff_area / 4 / stuff_area_downsampling
        self.instance_area = instance_area / 4

    def forward(
        self,
        outputs: Any,
        targets: Any,
        steps: np.ndarray | None = None,
        sent: SentCosts | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            outputs (AffinityOutputs): ``node_costs`` ``(N, C, h, w)`` and ``edge_costs``.
            targets (AffinityTargets): Ground truth at the resolution of the costs.
            steps (np.ndarray | None): Steps ``(N, num_steps)``; drawn from the global generator of
                torch by default, so a seed fixes them.
            sent (SentCosts | None): The costs, if they are on their way to the host already.

        Returns:
            dict[str, Tensor]: ``loss_multicut``, and ``soft_pq``, the surrogate of the quality.
        """
        # The gradient is computed here, where a low precision would reach it.
        with torch.autocast(outputs.node_costs.device.type, enabled=False):
            return self._compute(outputs, targets, steps, sent or self.send(outputs))

    @staticmethod
    def send(outputs: Any) -> SentCosts:
        """Send the costs of :class:`AffinityOutputs` to the host, beside other work."""
        return SentCosts(outputs.node_costs, outputs.edge_costs)

    def _compute(
        self, outputs: Any, targets: Any, steps: np.ndarray | None, sent: SentCosts
    ) -> dict[str, Tensor]:
        node, edges = outputs.node_costs.detach(), [e.detach() for e in outputs.edge_costs]
        problems = [
            CutProblem(costs, [part[number] for part in edges]) for number, costs in enumerate(node)
        ]
        host = sent.wait()
        cuts = self.solve_asymmetric(problems, host)
        segments = [self.segments(cut) for cut in cuts]
        matched = [
            match_segments(part, truth, weight, self.thing_flags, self.label_divisor)
            for part, truth, weight in zip(segments, targets.panoptic, targets.weight, strict=True)
        ]
        loss, mask_grad = self._loss_of_masks(segments, matched, targets)
        result = {"loss_multicut": loss * self.loss_weight, "soft_pq": 1 - loss}
        if not torch.is_grad_enabled() or not outputs.node_costs.requires_grad:
            return result
        steps = self.draw_steps(len(node)) if steps is None else steps
        labels = [one.label for one in matched]
        kinds, columns = _columns_of_kinds(mask_grad, targets)
        solved = zip(host, cuts, labels, kinds, steps, strict=True)
        images = [
            SolvedImage(problem, cut, label, kind, columns, lengths)
            for problem, cut, label, kind, lengths in solved
        ]
        found = estimate_gradients(images, self)
        gradients = [torch.stack([one.node for one in found]) * targets.weight[:, None]]
        for number, weight in enumerate(targets.edge_weights):
            gradients.append(torch.stack([one.edges[number] for one in found]) * weight)
        result["loss_multicut"] = _AttachGradient.apply(
            result["loss_multicut"], gradients, outputs.node_costs, *outputs.edge_costs
        )
        return result

    def draw_steps(self, num_images: int) -> np.ndarray:
        """Draw the steps of a batch, independently for each process and image.

        Args:
            num_images (int): Images of the batch.

        Returns:
            np.ndarray: float64 ``(num_images, num_steps)``.
        """
        seed = int(torch.randint(1 << 62, ()))
        generators = [
            np.random.default_rng([seed, get_rank(), number]) for number in range(num_images)
        ]
        return np.stack([g.uniform(*self.step_range, self.num_steps) for g in generators])

    def _loss_of_masks(
        self, segments: Sequence[CutSegments], matched: Sequence[MatchedChannels], targets: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the surrogate and, times the loss's weight, its gradient at the masks."""
        channels = max(1, *(len(one.label) for one in matched))
        label = targets.panoptic.new_full((len(matched), channels), -1)
        truth = torch.full_like(label, NO_SEGMENT)
        for row, one in enumerate(matched):
            label[row, : len(one.label)] = one.label
            truth[row, : len(one.truth)] = one.truth
        number = torch.arange(channels, device=label.device)[None, :, None, None]
        index = torch.stack([part.index for part in segments])[:, None]
        with torch.enable_grad():
            masks = (index == number).to(targets.weight.dtype).requires_grad_()
            isthing = self.isthing.index_select(0, label.clamp(min=0).flatten()).view(label.shape)
            foreground = foreground_probability(
                masks.sum((2, 3)), isthing, self.instance_area, self.stuff_area
            )
            soft = panoptic_quality_loss(
                masks,
                targets.panoptic[:, None] == truth[:, :, None, None],
                targets.weight,
                label,
                foreground,
                len(self.thing_flags),
            )
            (gradient,) = torch.autograd.grad(soft.loss * self.loss_weight, masks)
        return soft.loss.detach(), gradient
