"""A small Panoptic FPN and its samples for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from mmpanoptic.datasets import ShapesDataset
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS, TRANSFORMS
from mmpanoptic.structures import LabelTable

CONFIG = Path(__file__).parents[2] / "configs" / "rap" / "panoptic-fpn_r18-tiny.py"
TABLE = LabelTable.from_metainfo(ShapesDataset.METAINFO)
THING, STUFF = TABLE.thing_labels[1], TABLE.stuff_labels[0]


def tiny_two_stage(**options) -> Config:
    """Config of a small model on the classes of the generated dataset."""
    cfg = Config.fromfile(CONFIG)
    small = {"base_channels": 8, "stem_channels": 8}
    cfg.model.backbone.update(small)
    cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    cfg.model.rpn_head.update(in_channels=16, feat_channels=16)
    cfg.model.semantic_head.update(in_channels=16, channels=16, num_levels=5)
    cfg.model.semantic_head.norm_cfg.num_groups = 4
    for name in ("bbox", "mask"):
        cfg.model.roi_head[f"{name}_roi_extractor"].out_channels = 16
    cfg.model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=16)
    cfg.model.roi_head.mask_head.update(in_channels=16, conv_out_channels=16, num_convs=1)
    cfg.merge_from_dict({f"model.{key}": value for key, value in options.items()})
    return resolve_config(cfg, ShapesDataset.METAINFO).model


def build_two_stage(seed: int = 0, **options) -> nn.Module:
    """Build a small model with weights that follow from the seed."""
    torch.manual_seed(seed)
    model = MODELS.build(tiny_two_stage(**options))
    model.init_weights()
    return model


def scene(height: int = 64, width: int = 96, things: bool = True, labelled: bool = True) -> dict:
    """Pack an image with stuff, three things and a crowd, or with less."""
    random = np.random.RandomState(height)
    index = np.full((height, width), int(labelled), np.uint8)
    segments = [{"id": 1, "label": STUFF, "isthing": False, "iscrowd": 0}]
    boxes = [(4, 6, 24, 30), (30, 10, 60, 50), (50, 30, 80, 60)] if things else []
    for number, (left, top, right, bottom) in enumerate(boxes, 2):
        index[top:bottom, left:right] = number
        segments.append({"id": number, "label": THING, "isthing": True, "iscrowd": 0})
    if things:
        index[:6, -10:] = len(segments) + 1
        segments.append({"id": 9, "label": THING, "isthing": True, "iscrowd": 1})
    results = {
        "img": random.randint(0, 256, (height, width, 3)).astype(np.uint8),
        "gt_seg_map": index,
        "segments_info": segments,
        "img_shape": (height, width),
        "ori_shape": (height, width),
    }
    return TRANSFORMS.build({"type": "PackPanopticInputs", "with_instances": True})(results)


def batch(model: nn.Module, scenes: list, training: bool = True) -> dict:
    """Collate and normalise scenes."""
    data = {name: [one[name] for one in scenes] for name in ("inputs", "data_samples")}
    return model.data_preprocessor(data, training)
