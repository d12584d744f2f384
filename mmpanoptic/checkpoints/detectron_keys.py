"""Mask R-CNN in the naming of maskrcnn-benchmark and of Detectron, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .key_map import Rules

MASK_RCNN: Rules = (
    (r"^rpn_head\.rpn_conv\.", "rpn.head.conv."),
    (r"^rpn_head\.rpn_cls\.", "rpn.head.cls_logits."),
    (r"^rpn_head\.rpn_reg\.", "rpn.head.bbox_pred."),
    (r"^roi_head\.bbox_head\.shared_fcs\.0\.", "roi_heads.box.feature_extractor.fc6."),
    (r"^roi_head\.bbox_head\.shared_fcs\.1\.", "roi_heads.box.feature_extractor.fc7."),
    (r"^roi_head\.bbox_head\.fc_cls\.", "roi_heads.box.predictor.cls_score."),
    (r"^roi_head\.bbox_head\.fc_reg\.", "roi_heads.box.predictor.bbox_pred."),
    (r"^roi_head\.mask_head\.upsample\.", "roi_heads.mask.predictor.conv5_mask."),
    (r"^roi_head\.mask_head\.conv_logits\.", "roi_heads.mask.predictor.mask_fcn_logits."),
)
"""From our names to those of maskrcnn-benchmark."""

_CLASSES = "roi_head.bbox_head.fc_cls."
_DELTAS = "roi_head.bbox_head.fc_reg."
_MASKS = "roi_head.mask_head.conv_logits."
CLASS_LAYERS = r"roi_head\.(bbox_head\.fc_(cls|reg)|mask_head\.conv_logits)\."
"""Pattern of our names whose shapes depend on the thing classes."""

# Detectron's blobs, without the ending _w, _b or _s (the scale of a norm layer).
_BODY = "backbone.body."
_BLOBS: Rules = (
    (r"conv1", _BODY + "stem.conv1"),
    (r"res_conv1_bn", _BODY + "stem.bn1"),
    (r"res(\d)_(\d+)_branch1", lambda m: _block(m) + "downsample.0"),
    (r"res(\d)_(\d+)_branch1_bn", lambda m: _block(m) + "downsample.1"),
    (r"res(\d)_(\d+)_branch2([abc])", lambda m: f"{_block(m)}conv{'_abc'.index(m[3])}"),
    (r"res(\d)_(\d+)_branch2([abc])_bn", lambda m: f"{_block(m)}bn{'_abc'.index(m[3])}"),
    (r"fpn_inner_res(\d)_\d+_sum(_lateral)?", lambda m: _level("inner", m)),
    (r"fpn_res(\d)_\d+_sum", lambda m: _level("layer", m)),
    (r"conv_rpn_fpn2", "rpn.head.conv"),
    (r"rpn_(cls_logits|bbox_pred)_fpn2", r"rpn.head.\1"),
    (r"(fc[67])", r"roi_heads.box.feature_extractor.\1"),
    (r"(cls_score|bbox_pred)", r"roi_heads.box.predictor.\1"),
    (r"_\[mask\]_fcn(\d)", r"roi_heads.mask.feature_extractor.mask_fcn\1"),
    (r"(conv5_mask|mask_fcn_logits)", r"roi_heads.mask.predictor.\1"),
)
_LEFTOVER_BLOBS = r".*_momentum|lr|weight_order|(fc1000|pred)_[wb]"
"""Pattern of what training and the ImageNet classifier leave."""


def background_last(name: str, value: Any) -> Tensor:
    """Bring published class order (background first) to ours (last, or left out).

    Args:
        name (str): Our name of the tensor.
        value (Tensor | np.ndarray): The published tensor.

    Returns:
        Tensor: The tensor of our model.
    """
    value = torch.as_tensor(value)
    if name.startswith(_CLASSES):
        return value.roll(-1, 0)
    if name.startswith(_DELTAS):
        return value[4:]
    if name.startswith(_MASKS):
        return value[1:]
    return value


def background_first(name: str, value: Any) -> Tensor:
    """Reverse :func:`background_last`; rows that ours leave out, and nobody reads, become 0."""
    value = torch.as_tensor(value)
    if name.startswith(_CLASSES):
        return value.roll(1, 0)
    for layer, rows in ((_DELTAS, 4), (_MASKS, 1)):
        if name.startswith(layer):
            return torch.cat([value.new_zeros(rows, *value.shape[1:]), value])
    return value


def is_detectron(state: Mapping[str, Any]) -> bool:
    """Tell whether tensors have the names of Detectron's Caffe2 blobs."""
    return "conv1_w" in state


def name_blobs(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the blobs of a Detectron checkpoint to the names of maskrcnn-benchmark.

    Detectron folds the statistics of frozen norm layers into scale and offset, so they get the
    mean 0 and the variance 1 (which is exact without eps).

    Args:
        state (Mapping): Blobs by name.

    Returns:
        tuple: Tensors by name; the names that were dropped: ImageNet classifier, momentum. What no
        rule knows keeps its name.
    """
    named: dict[str, Tensor] = {}
    dropped = [blob for blob in state if re.fullmatch(_LEFTOVER_BLOBS, blob)]
    for blob, value in state.items():
        if blob in dropped:
            continue
        name = _blob_name(blob)
        named[name] = torch.as_tensor(value)
        if re.search(r"(bn\d|downsample\.1)\.weight$", name):
            norm = name.removesuffix("weight")
            named[norm + "running_mean"] = torch.zeros_like(named[name])
            named[norm + "running_var"] = torch.ones_like(named[name])
    return named, dropped


def _blob_name(blob: str) -> str:
    match = re.fullmatch(r"(.+)_((?<!_bn_)w|b|(?<=_bn_)s)", blob)
    if match is None:
        return blob
    for pattern, replacement in _BLOBS:
        owner = re.fullmatch(pattern, match[1])
        if owner:
            name = owner.expand(replacement) if isinstance(replacement, str) else replacement(owner)
            return f"{name}.{'bias' if match[2] == 'b' else 'weight'}"
    return blob


def _block(match: re.Match[str]) -> str:
    return f"{_BODY}layer{int(match[1]) - 1}.{match[2]}."


def _level(kind: str, match: re.Match[str]) -> str:
    return f"backbone.fpn.fpn_{kind}{int(match[1]) - 1}"
