"""Mask R-CNN in the naming of maskrcnn-benchmark and of Detectron, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

MASK_RCNN_RULES: tuple[tuple[str, str], ...] = (
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
"""Regular expressions of our names and what they become in maskrcnn-benchmark."""

BOX_CLASSES = "roi_head.bbox_head.fc_cls."
BOX_DELTAS = "roi_head.bbox_head.fc_reg."
MASK_CLASSES = "roi_head.mask_head.conv_logits."

_BODY = "backbone.body."
_STATISTICS = {".running_mean": 0.0, ".running_var": 1.0}
_BLOB_RULES: tuple[tuple[str, Any], ...] = (
    (r"^conv1_w$", _BODY + "stem.conv1.weight"),
    (r"^res_conv1_bn_(s|b)$", lambda m: _BODY + f"stem.bn1.{_leaf(m[1])}"),
    (r"^res(\d)_(\d+)_branch1_w$", lambda m: _block(m) + "downsample.0.weight"),
    (r"^res(\d)_(\d+)_branch1_bn_(s|b)$", lambda m: _block(m) + f"downsample.1.{_leaf(m[3])}"),
    (r"^res(\d)_(\d+)_branch2([abc])_w$", lambda m: _block(m) + f"conv{_part(m[3])}.weight"),
    (
        r"^res(\d)_(\d+)_branch2([abc])_bn_(s|b)$",
        lambda m: _block(m) + f"bn{_part(m[3])}.{_leaf(m[4])}",
    ),
    (
        r"^fpn_inner_res(\d)_\d+_sum(?:_lateral)?_(w|b)$",
        lambda m: f"backbone.fpn.fpn_inner{int(m[1]) - 1}.{_leaf(m[2])}",
    ),
    (
        r"^fpn_res(\d)_\d+_sum_(w|b)$",
        lambda m: f"backbone.fpn.fpn_layer{int(m[1]) - 1}.{_leaf(m[2])}",
    ),
    (r"^conv_rpn_fpn2_(w|b)$", lambda m: f"rpn.head.conv.{_leaf(m[1])}"),
    (r"^rpn_cls_logits_fpn2_(w|b)$", lambda m: f"rpn.head.cls_logits.{_leaf(m[1])}"),
    (r"^rpn_bbox_pred_fpn2_(w|b)$", lambda m: f"rpn.head.bbox_pred.{_leaf(m[1])}"),
    (r"^(fc[67])_(w|b)$", lambda m: f"roi_heads.box.feature_extractor.{m[1]}.{_leaf(m[2])}"),
    (
        r"^(cls_score|bbox_pred)_(w|b)$",
        lambda m: f"roi_heads.box.predictor.{m[1]}.{_leaf(m[2])}",
    ),
    (
        r"^_\[mask\]_fcn(\d)_(w|b)$",
        lambda m: f"roi_heads.mask.feature_extractor.mask_fcn{m[1]}.{_leaf(m[2])}",
    ),
    (
        r"^(conv5_mask|mask_fcn_logits)_(w|b)$",
        lambda m: f"roi_heads.mask.predictor.{m[1]}.{_leaf(m[2])}",
    ),
)
_TRAINING_BLOBS = r".*_momentum$|^lr$|^weight_order$"
_CLASSIFIER_BLOBS = r"^(fc1000|pred)_(w|b)$"


def background_last(name: str, value: Any) -> Tensor:
    """Bring published class order (background first) to ours (last, or left out).

    Args:
        name (str): Our name of the tensor.
        value (Tensor | np.ndarray): The published tensor.

    Returns:
        Tensor: The tensor of our model.
    """
    value = torch.as_tensor(value)
    if name.startswith(BOX_CLASSES):
        return value.roll(-1, 0)
    if name.startswith(BOX_DELTAS):
        return value[4:]
    if name.startswith(MASK_CLASSES):
        return value[1:]
    return value


def background_first(name: str, value: Any) -> Tensor:
    """Reverse :func:`background_last`; rows that ours leave out, and nobody reads, become 0."""
    value = torch.as_tensor(value)
    if name.startswith(BOX_CLASSES):
        return value.roll(1, 0)
    for layer, rows in ((BOX_DELTAS, 4), (MASK_CLASSES, 1)):
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
    dropped = []
    for blob, value in state.items():
        if re.search(f"{_TRAINING_BLOBS}|{_CLASSIFIER_BLOBS}", blob):
            dropped.append(blob)
            continue
        name = _blob_name(blob)
        named[name] = torch.as_tensor(value)
        if re.search(r"(bn\d|downsample\.1)\.weight$", name):
            for statistic, fill in _STATISTICS.items():
                full = torch.full_like(named[name], fill)
                named[name.removesuffix(".weight") + statistic] = full
    return named, dropped


def _blob_name(blob: str) -> str:
    for pattern, replacement in _BLOB_RULES:
        match = re.match(pattern, blob)
        if match:
            return replacement if isinstance(replacement, str) else replacement(match)
    return blob


def _leaf(code: str) -> str:
    return "bias" if code == "b" else "weight"


def _block(match: re.Match[str]) -> str:
    return f"{_BODY}layer{int(match[1]) - 1}.{match[2]}."


def _part(letter: str) -> int:
    return "abc".index(letter) + 1
