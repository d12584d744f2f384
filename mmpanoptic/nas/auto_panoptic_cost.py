"""Multiply-adds and parameters of Auto-Panoptic's networks, counted layer by layer without weights.

Norms, biases, activations, pooling and resizing count no multiply-adds; the sampling of deformable
convolutions and of RoIAlign none either. The score layer is counted as published, at the size of
P2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from math import prod
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..models.layers import iter_choices, set_path
from ..registry import MODELS
from .cost import CostTable
from .space import SearchSpace


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
        model_cfg (Mapping): Config of an ``AutoPanoptic`` or an ``ImageClassifier``.
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
    """
    height, width = input_size
    if height % 32 or width % 32:
        raise ValueError(f"input_size must be a multiple of 32 both ways, got {input_size}")
    # A command that describes or chooses starts no runner, which sets the scope else.
    with DefaultScope.overwrite_default_scope("mmpanoptic"), torch.device("meta"):
        if "rpn_head" in model_cfg:
            model: Any = MODELS.build(model_cfg)
        else:
            head = {"type": "ShuffleNetV2PlusHead", **model_cfg["head"]}
            parts = {"backbone": model_cfg["backbone"], "head": head}
            model = nn.ModuleDict({name: MODELS.build(part) for name, part in parts.items()})
    space.check_model(model.eval())
    rois = {"bbox_head": box_rois, "mask_head": mask_rois}
    table = _tabulate(space, model, _count(space, model, model_cfg, (height, width)), rois)
    if "rpn_head" in model_cfg:
        score = model.semantic_head.score.weight.numel()
        table.add_fixed("semantic_head", macs=score * height * width // 16)
        if background_rows:
            boxes, masks = model.roi_head.bbox_head.fc_reg, model.roi_head.mask_head.conv_logits
            cells = 4 * prod(model.roi_head.mask_roi_extractor.roi_layers[0].output_size)
            hidden, channels = boxes.in_features, masks.in_channels
            table.add_fixed("bbox_head", macs=4 * hidden * box_rois, params=4 * (hidden + 1))
            table.add_fixed("mask_head", macs=channels * cells * mask_rois, params=channels + 1)
    if latencies is not None:
        table.add_latencies(latencies)
    return table


def _count(
    space: SearchSpace, model: nn.Module, cfg: Mapping[str, Any], size: tuple[int, int]
) -> dict[str, int]:
    """Count the multiply-adds of every layer by its name, those of the RoI heads for one box."""
    counts: Counter[str] = Counter()

    def note(name: str, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        cells = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        counts[name] += layer.weight.numel() * prod(cells.shape[2:])

    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() > 1:
            module.register_forward_hook(partial(note, name))
        elif weight is not None:  # norms keep the shape, and are slow without numbers
            module.forward = lambda x: x
    found: dict[str, int] = {}
    for number in range(max(space.num_choices)):
        choices = zip(space.decisions, space.num_choices, strict=True)
        set_path(model, {name: min(number, count - 1) for name, count in choices})
        counts.clear()
        with torch.no_grad():
            _run(model, cfg, size)
        found |= counts
    return found


def _run(model: Any, cfg: Mapping[str, Any], size: tuple[int, int]) -> None:
    """Let every layer meet the shapes that it has for one image, or one box."""
    empty = partial(torch.empty, device="meta")
    if "rpn_head" not in cfg:
        model["head"](model["backbone"](empty(1, 3, *size)))
        return
    feats = model.neck(model.backbone(empty(1, 3, *size)))
    model.rpn_head(feats)
    model.semantic_head.extract(feats)
    model.f2b(empty(1, cfg["f2b"]["in_channels"]))
    model.b2f(empty(1, cfg["b2f"]["in_channels"]))
    for name in ("bbox", "mask"):
        rois = getattr(model.roi_head, f"{name}_roi_extractor")
        head = getattr(model.roi_head, f"{name}_head")
        head(empty(1, rois.out_channels, *rois.roi_layers[0].output_size))


def _tabulate(
    space: SearchSpace, model: nn.Module, macs: Mapping[str, int], rois: Mapping[str, int]
) -> CostTable:
    """Sum up the layers of every choice, and of all parts that are not searched."""
    table = CostTable(space)
    places = {f"{name}.": block for name, block in iter_choices(model)}
    sums = {block.decision: [Counter(macs=0, params=0) for _ in block] for block in places.values()}
    parts: dict[str, str] = {}
    for name, module in model.named_modules():
        part = name.removeprefix("roi_head.").partition(".")[0]
        cost = {
            "macs": macs.get(name, 0) * rois.get(part, 1),
            "params": sum(p.numel() for p in module.parameters(recurse=False)),
        }
        place = next((place for place in places if name.startswith(place)), None)
        if place is None:
            if any(cost.values()):
                table.add_fixed(part, **cost)
            continue
        decision = places[place].decision
        parts[decision] = part
        sums[decision][int(name.removeprefix(place).partition(".")[0])].update(cost)
    for decision in space.decisions:
        columns = {name: [one[name] for one in sums[decision]] for name in ("macs", "params")}
        table.add_decision(parts[decision], **columns)
    return table
