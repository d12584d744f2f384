"""Smallest networks of each family, and samples for them."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope

from mmpanoptic.registry import MODELS
from mmpanoptic.structures import make_panoptic_data

NAMES = ("sky", "car", "road")
THINGS = (1,)
SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
    "drop_path_rate": 0.0,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
    "num_blocks": 2,
    "num_register_tokens": 1,
}
DECODER = {"encoder_layers": 1, "decoder_layers": 3, "num_attention_heads": 2}
POINTS = {"train_num_points": 64, "num_queries": 8}
WIDTHS = {"encoder_feedforward_dim": 16, "dim_feedforward": 32}
DETR = {
    "model_type": "detr",
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": 8,
    "dropout": 0.0,
}
NETWORKS = {
    "eomt": {**VIT, **POINTS},
    "eomt_dinov3": {**VIT, **POINTS, "intermediate_size": 64},
    "mask2former": {
        **DECODER,
        **POINTS,
        **WIDTHS,
        "backbone_config": SWIN,
        "feature_size": 32,
        "mask_feature_size": 32,
        "hidden_dim": 32,
        "dropout": 0.0,
    },
    "maskformer": {
        "backbone_config": SWIN,
        "fpn_feature_size": 32,
        "mask_feature_size": 32,
        "decoder_config": DETR,
        "use_auxiliary_loss": True,
    },
    "oneformer": {
        **DECODER,
        **POINTS,
        **WIDTHS,
        "backbone_config": SWIN,
        "hidden_dim": 64,
        "mask_dim": 64,
        "conv_dim": 64,
        "dropout": 0.0,
    },
}


def build(family, names=NAMES, things=THINGS, **options):
    pytest.importorskip("transformers", reason="pip install 'mmpanoptic[transformers]'")
    init_default_scope("mmpanoptic")
    torch.manual_seed(0)
    network = {"model_type": family, **NETWORKS[family], **options.pop("network", {})}
    settings = {"network": network, **options}
    return MODELS.build(
        {
            "type": "TransformersPanopticSegmentor",
            "class_names": names,
            "thing_labels": things,
            **settings,
        }
    )


SEGMENTS = [
    {"id": 1, "label": 0, "isthing": False, "iscrowd": 0},
    {"id": 2, "label": 1, "isthing": True, "iscrowd": 0},
    {"id": 3, "label": 1, "isthing": True, "iscrowd": 0},
    {"id": 4, "label": 1, "isthing": True, "iscrowd": 1},
    {"id": 5, "label": 0, "isthing": False, "iscrowd": 0},
]


def sample(empty=False, size=(64, 64)):
    """Sky in two segments, a car, a car without pixels, a crowd of cars, void."""
    index_map = torch.zeros(size, dtype=torch.int32)
    if not empty:
        index_map[:20], index_map[20:24] = 1, 5
        index_map[30:40, :30], index_map[50:, 40:] = 2, 4
    meta = {"img_shape": size, "ori_shape": size, "batch_input_shape": size}
    made = DetDataSample(metainfo=meta)
    made.gt_panoptic_seg = make_panoptic_data(index_map, [] if empty else SEGMENTS)
    return made


def images(count=2, size=(64, 64)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))
