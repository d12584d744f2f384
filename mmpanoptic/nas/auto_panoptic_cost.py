"""Multiply-adds and parameters of Auto-Panoptic's networks, from the config alone.

Norms, biases, activations, pooling and resizing count no multiply-adds; the sampling of deformable
convolutions and of RoIAlign none either. The score layer is counted as published, at the size of
P2.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ..models.backbones.shufflenet_v2_plus import block_macs, block_plan
from ..models.layers.head_ops import head_op_macs
from .cost import CostTable
from .latency import add_latencies
from .space import SearchSpace

RPN_STRIDES = 5
"""Levels of the pyramid, P2 to P6."""

Shares = tuple[list[int], list[int]]
"""Multiply-adds and parameters of the choices of one decision."""


def make_costs(
    space: SearchSpace,
    model_cfg: Mapping[str, Any],
    input_size: tuple[int, int] = (800, 1344),
    box_rois: int = 1000,
    mask_rois: int = 100,
    background_rows: bool = False,
    latencies: str | None = None,
) -> CostTable:
    """Count what the choices of a model cost.

    Args:
        space (SearchSpace): The space; components that it leaves out have choices in the config.
        model_cfg (Mapping): Config of an ``AutoPanoptic`` or an ``ImageClassifier`` without
            placeholders.
        input_size (tuple[int, int]): Height and width of the padded image.
        box_rois (int): Boxes per image for the box head.
        mask_rois (int): Boxes per image for the mask head.
        background_rows (bool): Count the rows of the background class in the box regression and
            in the mask logits, which the published networks have and ours leave out.
        latencies (str | None): File of tools/search/measure_latency.py, which adds the quantity
            ``latency`` in milliseconds.

    Returns:
        CostTable: Quantities ``macs``, ``params``, ``latency``; parts ``backbone``, ``head`` (of a
        classifier), ``neck``, ``rpn_head``, ``bbox_head``, ``mask_head``, ``semantic_head``,
        ``f2b``, ``b2f``.

    Raises:
        ValueError: If the size is no multiple of 32, or the space does not fit the config.
    """
    height, width = input_size
    if height % 32 or width % 32:
        raise ValueError(
            f"input_size must be a multiple of 32 in both directions, got {input_size}"
        )
    counter = _Counter(space, model_cfg, (height, width), int(background_rows))
    counter.add_backbone()
    if "rpn_head" in model_cfg:
        counter.add_pyramid()
        counter.add_box_head(box_rois)
        counter.add_mask_head(mask_rois)
        counter.add_semantic_head()
        counter.add_exchange("f2b")
        counter.add_exchange("b2f")
    else:
        counter.add_classifier()
    table = counter.finish()
    if latencies is not None:
        add_latencies(table, latencies)
    return table


class _Counter:
    """Collects the costs part by part."""

    def __init__(
        self,
        space: SearchSpace,
        model_cfg: Mapping[str, Any],
        size: tuple[int, int],
        background: int,
    ) -> None:
        self.cfg, self.size, self.background = model_cfg, size, background
        self.table = CostTable(space)
        self.searched = {group.name: group for group in space.groups}
        self.shares: dict[str, tuple[str, list[Shares]]] = {}

    def area(self, stride: int) -> int:
        """Count the cells of a map; maps are halved with rounding up."""
        return -(-self.size[0] // stride) * -(-self.size[1] // stride)

    def finish(self) -> CostTable:
        """Put the decisions into the order of the space.

        Raises:
            ValueError: If the space has a group that the model does not have.
        """
        for name in self.searched:
            if name not in self.shares:
                raise ValueError(
                    f"the search space's group {name!r} is no part of the model; counted are "
                    f"{', '.join(self.shares)}"
                )
            part, decisions = self.shares[name]
            for macs, params in decisions:
                self.table.add_decision(part, macs=macs, params=params)
        return self.table

    def add_choices(
        self, group: str, part: str, choices: Sequence[int] | None, decisions: list[Shares]
    ) -> None:
        """Add decisions: those of the space later, fixed ones at once."""
        self.shares[group] = (part, decisions)
        if group in self.searched:
            expected = self.searched[group].size, len(self.searched[group].choices)
            if expected != (len(decisions), len(decisions[0][0])):
                raise ValueError(
                    f"group {group!r} has {expected[0]} decisions of {expected[1]} choices, the "
                    f"model {len(decisions)} of {len(decisions[0][0])}"
                )
            return
        if choices is None:
            raise ValueError(f"{group} has no choices in the config and is no part of the space")
        for (macs, params), choice in zip(decisions, choices, strict=True):
            self.table.add_fixed(part, macs=macs[choice], params=params[choice])

    def add_backbone(self) -> None:
        """Count stem and blocks."""
        cfg = self.cfg["backbone"]
        widths, depths = cfg["widths"], cfg["depths"]
        stem = 27 * widths[0]
        # weights, biases, scale and shift of the norm
        self.table.add_fixed("backbone", macs=stem * self.area(2), params=stem + 3 * widths[0])
        decisions, stride = [], 2
        for width_in, width_out, step in block_plan(widths, depths):
            areas = self.area(stride), self.area(stride * step)
            macs = [block_macs(op, width_in, width_out, step, *areas) for op in cfg["ops"]]
            params = [block_params(op, width_in, width_out, step) for op in cfg["ops"]]
            decisions.append((macs, params))
            stride *= step
        self.add_choices("backbone", "backbone", cfg.get("choices"), decisions)

    def add_classifier(self) -> None:
        """Count the head of an image classifier."""
        cfg = self.cfg["head"]
        width_in, width, classes = cfg["in_channels"], cfg["channels"], cfg["num_labels"]
        self.table.add_fixed(
            "head",
            macs=width_in * width * self.area(32) + width * classes,
            params=(width_in + 3) * width + (width + 1) * classes,
        )

    def add_pyramid(self) -> None:
        """Count FPN and RPN."""
        neck, rpn = self.cfg["neck"], self.cfg["rpn_head"]
        width = neck["out_channels"]
        for level, width_in in enumerate(neck["in_channels"]):
            weights = width_in * width + 9 * width * width
            self.table.add_fixed(
                "neck", macs=weights * self.area(4 << level), params=weights + 4 * width
            )
        hidden = rpn["feat_channels"]
        outputs = 5 * len(rpn["anchor_generator"]["ratios"])  # objectness and four deltas
        weights = 9 * rpn["in_channels"] * hidden + hidden * outputs
        cells = sum(self.area(4 << level) for level in range(RPN_STRIDES))
        self.table.add_fixed("rpn_head", macs=weights * cells, params=weights + hidden + outputs)

    def add_box_head(self, rois: int) -> None:
        """Count the box head for a number of boxes."""
        cfg = self.cfg["roi_head"]["bbox_head"]
        hidden, classes = cfg["fc_out_channels"], cfg["num_classes"]
        inputs = cfg["in_channels"] * cfg["roi_feat_size"] ** 2
        outputs = (classes + 1) + 4 * (classes + self.background)
        weights = inputs * hidden + hidden * hidden + hidden * outputs
        # Both hidden layers have a norm in place of a bias.
        self.table.add_fixed(
            "bbox_head", macs=weights * rois, params=weights + 4 * hidden + outputs
        )

    def add_mask_head(self, rois: int) -> None:
        """Count the mask head for a number of boxes."""
        head = self.cfg["roi_head"]
        cfg = head["mask_head"]
        width, classes = cfg["channels"], cfg["num_classes"] + self.background
        cells = head["mask_roi_extractor"]["roi_layer"]["output_size"] ** 2
        self.table.add_fixed(
            "mask_head",
            macs=rois * cells * 4 * (width * width + width * classes),
            params=4 * width * width + width + (width + 1) * classes,
        )
        widths = [cfg["in_channels"]] + [width] * cfg["num_layers"]
        decisions = head_decisions(cfg["ops"], widths, rois * cells)
        self.add_choices("mask", "mask_head", cfg.get("choices"), decisions)

    def add_semantic_head(self) -> None:
        """Count the semantic branch."""
        cfg = self.cfg["semantic_head"]
        levels, width = cfg["num_levels"], cfg["channels"]
        classes = len(cfg["stuff_labels"]) + 1
        weights = levels * width * classes
        self.table.add_fixed("semantic_head", macs=weights * self.area(4), params=weights + classes)
        widths = [cfg["in_channels"]] + [width] * cfg["num_layers"]
        cells = sum(self.area(4 << level) for level in range(levels))
        decisions = head_decisions(cfg["ops"], widths, cells)
        self.add_choices("semantic", "semantic_head", cfg.get("choices"), decisions)

    def add_exchange(self, name: str) -> None:
        cfg = self.cfg[name]
        width_in, width_out = cfg["in_channels"], cfg["out_channels"]
        hidden = [width_out // reduction for reduction in cfg["reductions"]]
        macs = [(width_in + width_out) * h for h in hidden]
        params = [value + h + width_out for value, h in zip(macs, hidden, strict=True)]
        self.add_choices(name, name, cfg.get("choices"), [(macs, params)] * cfg["num_units"])


def head_decisions(ops: Sequence[str], widths: Sequence[int], cells: int) -> list[Shares]:
    """Count the choices of a chain of head operations.

    Args:
        ops (Sequence[str]): The operations to choose from.
        widths (Sequence[int]): Channels of the input and of every operation's output.
        cells (int): Cells of all maps.

    Returns:
        list[Shares]: One pair per operation of the chain.
    """
    return [
        (
            [head_op_macs(op, before, after) * cells for op in ops],
            [head_op_params(op, before, after) for op in ops],
        )
        for before, after in itertools.pairwise(widths)
    ]


def head_op_params(op: str, in_channels: int, out_channels: int) -> int:
    """Count the parameters of a head operation with its norm.

    Args:
        op (str): One of ``HEAD_OPS``.
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.

    Returns:
        int: Every weight is used once per cell; biases and the norm's scale and shift come on top.
    """
    biases = {"DW": in_channels, "DF": 3 * int(op[-1]) ** 2, "AT": 0}[op[:2]]
    return head_op_macs(op, in_channels, out_channels) + biases + 3 * out_channels


def block_params(op: str, in_channels: int, out_channels: int, stride: int) -> int:
    """Count the parameters of a backbone block; its norms have scale and shift.

    Args:
        op (str): One of ``BLOCK_OPS``.
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): 1 or 2.

    Returns:
        int: The number.
    """
    # On one cell every weight is used once.
    weights = block_macs(op, in_channels, out_channels, stride, 1, 1)
    begin = in_channels if stride == 2 else in_channels // 2
    end, mid = out_channels - begin, out_channels // 2
    if op.startswith("xception"):
        normed = (begin + mid) + (mid + mid) + (mid + end)
    else:
        normed = mid + mid + end
    return weights + 2 * (normed + (2 * in_channels if stride == 2 else 0))
