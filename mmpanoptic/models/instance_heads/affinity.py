"""Instance head of COPS: which neighbouring cells belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, kaiming_init
from torch import Tensor, nn

from mmpanoptic.models.layers import (
    DeepLabDecoder,
    collate_segments,
    init_decoder_convs,
    make_fuse_convs,
)
from mmpanoptic.models.multicut.grid_edges import (
    COLUMN_EDGES,
    ROW_EDGES,
    check_distances,
    edge_ends,
    place_edges,
)
from mmpanoptic.registry import MODELS

from .affinity_targets import AffinityTargets, EdgeWeights, make_affinity_targets


class AffinityOutputs(NamedTuple):
    """What the head computes, at its stride.

    Attributes:
        logits (tuple[Tensor, ...]): ``(N, 2, h', w')`` of each distance, positive for a boundary;
            see :mod:`mmpanoptic.models.multicut.grid_edges`.
        node_costs (Tensor | None): float32 ``(N, C, h, w)``, price of giving a cell a class; None
            in training without the solver.
        edge_costs (tuple[Tensor, ...]): float32, price of cutting each edge; empty in training
            without the solver.
    """

    logits: tuple[Tensor, ...]
    node_costs: Tensor | None
    edge_costs: tuple[Tensor, ...]


class EdgeClassifier(nn.Module):
    """Classify the edges of one distance.

    From distance 2 on, the input are the differences between the features at an edge's ends, of row
    and column edges in separate halves of the channels, which meet in the last convolution.

    Args:
        in_channels (int): Channels of the features.
        channels (Sequence[int]): Widths of the two hidden convolutions.
        distance (int): Distance in cells.
        interval (int): Every how many rows and columns edges are kept.
        norm_cfg (dict): Config of the norm layers.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        distance: int,
        interval: int,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        groups = 1 if distance == 1 else 2
        options = {"padding": 1, "groups": groups, "norm_cfg": norm_cfg}
        self.distance = distance
        self.hidden = nn.Sequential(
            ConvModule(groups * in_channels, channels[0], 3, **options),
            ConvModule(channels[0], channels[1], 3, **options),
        )
        self.predictor = nn.Conv2d(channels[1], 2, 1, stride=interval)

    def init_weights(self) -> None:
        """Initialise as the published training does."""
        init_decoder_convs(self)
        kaiming_init(
            self.predictor,
            a=1,
            mode="fan_in",
            nonlinearity="leaky_relu",
            distribution="uniform",
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(N, in_channels, h, w)`` to logits ``(N, 2, h', w')``."""
        if self.distance > 1:
            x = torch.cat([self._differences(x, dim) for dim in (ROW_EDGES, COLUMN_EDGES)], dim=1)
        return self.predictor(self.hidden(x))

    def _differences(self, x: Tensor, dim: int) -> Tensor:
        first, second = edge_ends(x, self.distance, dim)
        return place_edges(second - first, self.distance, dim, x.shape[dim])


class CostScaling(nn.Module):
    """Turn logits into the costs of an asymmetric multiway cut.

    COPS (arXiv:2106.03188), section 4: a class costs its negated logit, cutting an edge the negated
    logit of a boundary, each after an affine map whose numbers are learned. In training whole cells
    and single edges are dropped, without making up for it by a larger scale.

    Args:
        num_distances (int): Number of edge distances.
        dropout (float): Share of the cells and of the edges whose costs become 0 in training.
        learnable (bool): The numbers are parameters that are trained.
    """

    def __init__(self, num_distances: int, dropout: float, learnable: bool) -> None:
        super().__init__()
        self.dropout = dropout
        # Single numbers, as in the published checkpoints: scale and shift in turn.
        self.node = nn.ParameterList(_affine_map())
        self.edge = nn.ParameterList(n for _ in range(num_distances) for n in _affine_map())
        self.requires_grad_(learnable)

    def forward(
        self, class_logits: Tensor, edge_logits: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Compute the costs in float32.

        Args:
            class_logits (Tensor): ``(N, C, h, w)``.
            edge_logits (Sequence[Tensor]): ``(N, 2, h', w')`` of each distance.

        Returns:
            tuple[Tensor, tuple[Tensor, ...]]: Costs of the classes and of the edges.
        """
        with torch.autocast(class_logits.device.type, enabled=False):
            nodes = self.node[0] * -class_logits.float() + self.node[1]
            # The absolute value keeps a boundary from becoming an attraction.
            edges = [
                scale.abs() * -logits.float() + shift
                for logits, scale, shift in zip(
                    edge_logits, self.edge[::2], self.edge[1::2], strict=True
                )
            ]
            if self.training and self.dropout:
                nodes = nodes * self._keep(nodes[:, :1])
                edges = [costs * self._keep(costs) for costs in edges]
        return nodes, tuple(edges)

    def _keep(self, like: Tensor) -> Tensor:
        return torch.empty_like(like).bernoulli_(1 - self.dropout)


def _affine_map() -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))


@MODELS.register_module()
class AffinityHead(BaseModule):
    """Decode features and class logits into boundaries between cells at several distances.

    COPS (arXiv:2106.03188), section 4. Cells are joined or cut by the solver that the fusion head
    (and, in the second stage of training, the loss) runs on the head's costs.

    Args:
        num_classes (int): Number of classes C, the channels of the class logits.
        distances (Sequence[int]): Distances of the edges in cells: 1 or even.
        intervals (Sequence[int] | None): Every how many rows and columns edges of each distance
            are kept; all by default.
        head_channels (int): Width of the features that edges are classified from.
        near_channels (Sequence[int]): Widths of the classifier of distance 1.
        far_channels (Sequence[int]): Widths of the classifiers of the other distances.
        separable (bool): Depthwise-separable convolutions in the decoder.
        norm_cfg (dict | None): Config of the norm layers; BN by default.
        learn_costs (bool): Training runs through the solver: the scalings of the costs are
            learned, and costs are computed in training.
        cost_dropout (float): Share of the cells and edges whose costs are dropped in training.
        loss (dict | None): Config of the loss of each distance and direction; hard edge mining of
            25 % with weight 0.25 by default.
        instance_weight (float): Weight of edges at things.
        small_instance_area (int): Things with fewer pixels are small.
        small_instance_weight (float): Further factor of the weight of edges at small things.
        stuff_edges (bool): Edges between cells of stuff count.
        padding_edges (bool): The border of the padding is a boundary that counts.
        ignore_crowd (bool): Leave crowds out of the panoptic target.
        init_cfg (dict | list | None): Initialisation; by default as :func:`init_decoder_convs`.
        **decoder: Further arguments of :class:`DeepLabDecoder`, such as ``in_channels``.
    """

    INPUTS = frozenset({"features", "class logits"})
    GIVES = ("edge costs",)

    def __init__(
        self,
        num_classes: int,
        distances: Sequence[int] = (1, 4, 16, 32, 64),
        intervals: Sequence[int] | None = None,
        head_channels: int = 256,
        near_channels: Sequence[int] = (64, 32),
        far_channels: Sequence[int] = (128, 64),
        separable: bool = True,
        norm_cfg: dict | None = None,
        learn_costs: bool = False,
        cost_dropout: float = 0.1,
        loss: dict | None = None,
        instance_weight: float = 4.0,
        small_instance_area: int = 4096,
        small_instance_weight: float = 3.0,
        stuff_edges: bool = True,
        padding_edges: bool = True,
        ignore_crowd: bool = False,
        init_cfg: Any = None,
        **decoder: Any,
    ) -> None:
        super().__init__(init_cfg)
        intervals = (1,) * len(distances) if intervals is None else tuple(intervals)
        check_distances("AffinityHead", distances, intervals)
        norm_cfg = norm_cfg or {"type": "BN"}
        self.decoder = DeepLabDecoder(separable=separable, norm_cfg=norm_cfg, **decoder)
        width = self.decoder.out_channels + num_classes
        self.head = make_fuse_convs(width, head_channels, head_channels, False, norm_cfg)
        self.classifiers = nn.ModuleList(
            EdgeClassifier(head_channels, widths, distance, interval, norm_cfg)
            for distance, interval in zip(distances, intervals, strict=True)
            for widths in [near_channels if distance == 1 else far_channels]
        )
        self.costs = CostScaling(len(distances), cost_dropout, learn_costs)
        self.learn_costs = learn_costs
        self.distances = tuple(distances)
        self.intervals = intervals
        self.stride = self.decoder.out_stride
        self.loss = MODELS.build(loss or {"type": "HardEdgeMiningLoss"})
        self.weights = EdgeWeights(
            instance_weight,
            small_instance_weight,
            small_instance_area,
            stuff_edges,
            padding_edges,
        )
        self.ignore_crowd = ignore_crowd

    def forward(self, feats: Sequence[Tensor], class_logits: Tensor) -> AffinityOutputs:
        """Classify the edges.

        Args:
            feats (Sequence[Tensor]): Levels ``(N, C, H / stride, W / stride)``, fine to coarse.
            class_logits (Tensor): ``(N, num_classes, h, w)`` of the semantic head; the edges'
                logits send no gradient into them.

        Returns:
            AffinityOutputs: At ``self.stride``.
        """
        decoded = self.decoder(feats)
        x = self.head(torch.cat([decoded, class_logits.detach().to(decoded.dtype)], dim=1))
        logits = tuple(classifier(x) for classifier in self.classifiers)
        if self.training and not self.learn_costs:
            return AffinityOutputs(logits, None, ())
        return AffinityOutputs(logits, *self.costs(class_logits, logits))

    def make_targets(self, batch_data_samples: Sequence[Any]) -> AffinityTargets:
        """Make the targets of a batch.

        Args:
            batch_data_samples (Sequence[DetDataSample]): With ``gt_panoptic_seg``.

        Returns:
            AffinityTargets: At ``self.stride``.
        """
        return make_affinity_targets(
            collate_segments(batch_data_samples),
            self.distances,
            self.intervals,
            self.weights,
            self.ignore_crowd,
            self.stride,
        )

    def loss_by_feat(
        self, outputs: AffinityOutputs, batch_data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            outputs (AffinityOutputs): From :meth:`forward`.
            batch_data_samples (Sequence[DetDataSample]): With ``gt_panoptic_seg``.

        Returns:
            dict[str, Tensor]: See :meth:`loss_by_targets`.
        """
        return self.loss_by_targets(outputs, self.make_targets(batch_data_samples))

    def loss_by_targets(
        self, outputs: AffinityOutputs, targets: AffinityTargets
    ) -> dict[str, Tensor]:
        """Compute the losses of each distance and direction.

        Args:
            outputs (AffinityOutputs): From :meth:`forward`.
            targets (AffinityTargets): From :meth:`make_targets`.

        Returns:
            dict[str, Tensor]: ``loss_affinity_{distance}_row`` and ``..._column``.
        """
        losses = {}
        parts = zip(
            self.distances, outputs.logits, targets.edges, targets.edge_weights, strict=True
        )
        for distance, *arrays in parts:
            for channel, name in enumerate(("row", "column")):
                logits, target, weight = (array[:, channel] for array in arrays)
                losses[f"loss_affinity_{distance}_{name}"] = self.loss(logits, target, weight)
        return losses
