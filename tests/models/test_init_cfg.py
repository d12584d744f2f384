"""``init_cfg`` of every part loads its weights, wherever the part stands."""

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmpanoptic.apis import get_config
from mmpanoptic.datasets import ShapesDataset
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS
from tests.options import parts, takes

CONFIGS = (
    "panoptic-deeplab_r18-tiny_1xb8-500_shapes",
    "cops_r18-tiny_e2e_1xb8-200_shapes",
    "efficientps-maskrcnn_b0-tiny_1xb8-600_shapes",
    "efficientps-solov2_b0-tiny_1xb8-600_shapes",
    "rap_r18-tiny_relation-finetune_1xb8-2k_shapes",
    "rap_r18-tiny_ocfusion-finetune_1xb8-2k_shapes",
    "auto-panoptic_tiny_1xb8-500_shapes",
    "auto-panoptic_tiny-supernet_1xb32-120_shapes-crops",
)
RPN = {
    "type": "SeparableRPNHead",
    "in_channels": 8,
    "feat_channels": 8,
    "anchor_generator": {
        "type": "mmdet.AnchorGenerator", "scales": [8], "ratios": [1.0], "strides": [4],
    },
    "bbox_coder": {"type": "mmdet.DeltaXYWHBBoxCoder"},
    "loss_cls": {"type": "mmdet.CrossEntropyLoss", "use_sigmoid": True},
    "loss_bbox": {"type": "mmdet.SmoothL1Loss"},
}  # fmt: skip
MORE = [
    {"type": "HRNet", "width": 4, "num_modules": (1, 1, 1), "num_blocks": 1},
    {"type": "Xception", "width_factor": 0.125, "num_middle_blocks": 1},
    {"type": "SimpleFeaturePyramid", "in_channels": 8, "out_channels": 4, "num_outs": 4},
    RPN,
]
"""Parts that no small config has."""


def dicts(node):
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list | tuple):
            yield from dicts(child)


def examples():
    """One config of each part that takes ``init_cfg``."""
    found = {cfg["type"]: cfg for cfg in MORE}
    for name in CONFIGS:
        model = resolve_config(get_config(name), ShapesDataset.METAINFO).model.to_dict()
        for cfg in dicts(model):
            part = str(cfg.get("type")).removeprefix("mmpanoptic.")
            if part in parts() and takes(parts()[part], "init_cfg"):
                found.setdefault(part, cfg)
    return found


EXAMPLES = examples()


def test_there_is_an_example_of_each_part():
    wanted = {
        name
        for name, part in parts().items()
        if isinstance(part, type) and issubclass(part, nn.Module) and takes(part, "init_cfg")
    }
    # Files have the names of timm (test_timm_backbone.py) and of the transformers package
    # (test_transformers_segmentor.py).
    own_names = {"TIMMBackbone", "TransformersPanopticSegmentor"}
    assert wanted - own_names <= EXAMPLES.keys()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_part_takes_its_weights_from_a_file(name, tmp_path):
    cfg = {**EXAMPLES[name], "_scope_": "mmpanoptic"}
    with DefaultScope.overwrite_default_scope("mmpanoptic"):
        torch.manual_seed(0)
        expected = {
            key: torch.rand_like(value) if value.is_floating_point() else value
            for key, value in MODELS.build(cfg).state_dict().items()
        }
        torch.save({"state_dict": expected}, tmp_path / "weights.pth")
        cfg["init_cfg"] = {"type": "Pretrained", "checkpoint": str(tmp_path / "weights.pth")}
        part = MODELS.build(cfg)
        part.init_weights()
    state = part.state_dict()
    assert expected
    assert all(torch.equal(state[key], value) for key, value in expected.items())
