import json

import pytest
import torch
from torch import nn

from mmpanoptic.checkpoints.backbone_keys import BackboneKeyMap
from mmpanoptic.checkpoints.efficientps_keys import EfficientPSKeyMap
from mmpanoptic.checkpoints.errors import CheckpointMismatchError
from mmpanoptic.registry import MODELS
from tests.golden import golden_dir
from tests.parity.test_efficientps import published_weights


def manifest():
    path = golden_dir("efficientps_solov2") / "manifest_efficientps_cityscapes.json"
    return json.loads(path.read_text())


def small_backbone():
    cfg = {"type": "LeakyEfficientNet", "arch": "b0", "width_factor": 0.25}
    return nn.ModuleDict({"backbone": MODELS.build(cfg)})


PARTS = {
    "expand_conv": "conv_pw bn1",
    "depthwise_conv": "conv_dw bn2",
    "linear_conv": "conv_pwl bn3",
}
FIRST_PARTS = {"depthwise_conv": "conv_dw bn1", "linear_conv": "conv_pw bn2"}
# efficientnet_pytorch
FLAT_PARTS = {
    "expand_conv": "_expand_conv _bn0",
    "depthwise_conv": "_depthwise_conv _bn1",
    "linear_conv": "_project_conv _bn2",
}
LENGTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks of the stages of B0


def foreign(model, flat):
    """The state of a backbone under the names of timm or, flat, of efficientnet_pytorch."""
    blocks = list(model["backbone"].layers[1:6])
    blocks = [*blocks[:3], blocks[3][:3], blocks[3][3:], blocks[4][:4], blocks[4][4:]]
    assert tuple(map(len, blocks)) == LENGTHS
    ends = (
        {0: "_conv_stem _bn0", 6: "_conv_head _bn1"}
        if flat
        else {0: "conv_stem bn1", 6: "conv_head bn2"}
    )
    state, count = {}, 0

    def add(prefix, names, module):
        conv, norm = names.split()
        state.update({f"{prefix}{conv}.{n}": v for n, v in module.conv.state_dict().items()})
        state.update({f"{prefix}{norm}.{n}": v for n, v in module.bn.state_dict().items()})

    for layer, names in ends.items():
        add("", names, model["backbone"].layers[layer])
    for stage, row in enumerate(blocks):
        for number, block in enumerate(row):
            prefix = f"_blocks.{count}." if flat else f"blocks.{stage}.{number}."
            count += 1
            parts = FLAT_PARTS if flat else (PARTS if stage else FIRST_PARTS)
            for part, names in parts.items():
                if hasattr(block, part):
                    add(prefix, names, getattr(block, part))
    return state


@pytest.mark.parametrize("flat", [False, True])
def test_imagenet_weights_of_both_code_bases_are_placed(flat):
    model = small_backbone()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(-1, 1)
    state = foreign(model, flat)
    junk = "_blocks.0._se_reduce.weight" if flat else "blocks.0.0.se.conv_reduce.weight"
    extra = {junk: torch.zeros(3), ("_fc" if flat else "classifier") + ".bias": torch.zeros(10)}
    ours = BackboneKeyMap(model).to_ours({**state, **extra})
    assert ours.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        norm = name.endswith(".bn.weight")
        assert torch.equal(ours[name], value.abs() + 1e-3 if norm else value), name


def heads():
    cfg = {
        "type": "mmdet.Shared2FCBBoxHead",
        "num_classes": 8,
        "in_channels": 256,
        "fc_out_channels": 1024,
    }
    cfg["bbox_coder"] = {"type": "mmdet.DeltaXYWHBBoxCoder"}
    cfg["cls_predictor_cfg"] = cfg["reg_predictor_cfg"] = {"type": "mmdet.Linear"}
    cfg["loss_cls"] = {"type": "mmdet.CrossEntropyLoss"}
    cfg["loss_bbox"] = {"type": "mmdet.SmoothL1Loss"}
    box, mask = MODELS.build(cfg), MODELS.build({"type": "SeparableMaskHead", "num_classes": 8})
    return nn.ModuleDict({"roi_head": nn.ModuleDict({"bbox_head": box, "mask_head": mask})})


def test_the_background_class_moves():
    model = heads()
    state = {**published_weights("bbox_head."), **published_weights("mask_head.")}
    ours = EfficientPSKeyMap(model).to_ours(state)
    box, mask = "roi_head.bbox_head.", "roi_head.mask_head."
    for leaf in ("weight", "bias"):
        theirs = state[f"bbox_head.fc_cls.{leaf}"]
        assert torch.equal(ours[f"{box}fc_cls.{leaf}"][-1], theirs[0])
        assert torch.equal(ours[f"{box}fc_cls.{leaf}"][:-1], theirs[1:])
        assert torch.equal(ours[f"{box}fc_reg.{leaf}"], state[f"bbox_head.fc_reg.{leaf}"][4:])
        name = f"conv_logits.{leaf}"
        assert torch.equal(ours[mask + name], state[f"mask_head.{name}"][1:])
    norm = "convs.0.depthwise_conv.bn.weight"
    assert torch.equal(ours[mask + norm], state[f"mask_head.{norm}"].abs() + 1e-5)
    model.load_state_dict(ours)


def test_new_classes_leave_the_predictors_out():
    state = {**published_weights("bbox_head."), **published_weights("mask_head.")}
    ours = EfficientPSKeyMap(heads()).to_ours(state, new_classes=True)
    assert not any("fc_cls" in n or "fc_reg" in n or "conv_logits" in n for n in ours)
    assert "roi_head.bbox_head.shared_fcs.1.bias" in ours


def test_batch_counters_may_be_missing_and_nothing_else():
    model = nn.ModuleDict(
        {
            "neck": MODELS.build(
                {"type": "TwoWayFPN", "in_channels": (40, 64, 176, 2048), "separable_out": False}
            )
        }
    )
    state = {n: v for n, v in published_weights("neck.").items() if "num_batches" not in n}
    ours = EfficientPSKeyMap(model).to_ours(state)
    assert ours.keys() == model.state_dict().keys()
    del state["neck.fpn_convs.2.bn.running_mean"]
    with pytest.raises(CheckpointMismatchError, match=r"1 tensors are missing .*fpn_convs\.2"):
        EfficientPSKeyMap(model).to_ours(state)
    with pytest.raises(CheckpointMismatchError, match="1 are unexpected"):
        EfficientPSKeyMap(model).to_ours(
            {
                **state,
                "neck.fpn_convs.2.bn.running_mean": torch.zeros(256),
                "odd.one": torch.zeros(1),
            }
        )
