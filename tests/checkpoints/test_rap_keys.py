import re

import pytest
import torch

from mmpanoptic.checkpoints.detectron_keys import background_last, is_detectron, name_blobs
from mmpanoptic.checkpoints.errors import CheckpointMismatchError
from mmpanoptic.checkpoints.rap_keys import RapKeyMap
from mmpanoptic.registry import MODELS
from tests.models.two_stage_builders import tiny_two_stage

BOTTLENECK = {"backbone.depth": 50, "neck.in_channels": [32, 64, 128, 256]}
DEFORMABLE = {
    "backbone.dcn": {"type": "DCN", "deform_groups": 1, "fallback_on_stride": False},
    "backbone.stage_with_dcn": (False, False, False, True),
}
HEADS = {
    "roi_head.type": "RelationRoIHead",
    "roi_head.relation_head": {"type": "mmpanoptic.RelationHead", "in_channels": 16},
    "roi_head.occlusion_head": {"type": "mmpanoptic.OcclusionHead", "in_channels": 16},
}


def meta_model(**options):
    """A model of which only names and shapes exist."""
    with torch.device("meta"):
        return MODELS.build(tiny_two_stage(**BOTTLENECK, **options))


def fill(shapes):
    return {name: torch.full(shape, float(k)) for k, (name, shape) in enumerate(shapes.items())}


@pytest.fixture(scope="module")
def key_map():
    return RapKeyMap(meta_model())


@pytest.fixture(scope="module")
def published(key_map):
    return key_map.to_published(fill(key_map.shapes))


def test_names_follow_the_published_ones():
    names = RapKeyMap(meta_model(**DEFORMABLE, **HEADS)).published
    examples = {
        "backbone.bn1.running_var": "backbone.body.stem.bn1.running_var",
        "backbone.layer2.0.conv2.weight": "backbone.body.layer2.0.conv2.weight",
        "backbone.layer4.0.conv2.weight": "backbone.body.layer4.0.conv2.conv.weight",
        "backbone.layer4.0.conv2.conv_offset.bias": "backbone.body.layer4.0.conv2.offset.bias",
        "backbone.layer3.0.downsample.1.bias": "backbone.body.layer3.0.downsample.1.bias",
        "neck.lateral_convs.3.conv.bias": "backbone.fpn.fpn_inner4.bias",
        "neck.fpn_convs.0.conv.weight": "backbone.fpn.fpn_layer1.weight",
        "rpn_head.rpn_reg.bias": "rpn.head.bbox_pred.bias",
        "roi_head.bbox_head.shared_fcs.1.weight": "roi_heads.box.feature_extractor.fc7.weight",
        "roi_head.mask_head.convs.0.conv.bias": ("roi_heads.mask.feature_extractor.mask_fcn1.bias"),
        "semantic_head.branches.4.3.1.weight": "semantic_head.semantic_seq0.13.weight",
        "semantic_head.branches.0.0.0.bias": "semantic_head.semantic_seq4.0.bias",
        "semantic_head.conv_logits.bias": "semantic_head.semantic_final.0.bias",
        "roi_head.relation_head.convs.3.weight": (
            "roi_heads.relation.feature_extractor.relation_fcn4.weight"
        ),
        "roi_head.relation_head.predictor.bias": "roi_heads.relation.predictor.relation_val.bias",
        "roi_head.occlusion_head.convs.0.bias": (
            "roi_heads.relation.feature_extractor.relation_oc_fcn1.bias"
        ),
        "roi_head.occlusion_head.predictor.bias": (
            "roi_heads.relation.feature_extractor.relation_oc_fc2.bias"
        ),
    }
    assert {ours: names[ours] for ours in examples} == examples
    assert len(set(names.values())) == len(names)


def test_conversion_is_two_way(key_map, published):
    ours = fill(key_map.shapes)
    back = key_map.to_ours({**published, "rpn.anchor_generator.cell_anchors.0": torch.zeros(3, 4)})
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_the_background_moves_from_the_front_to_the_end():
    rows = torch.arange(3.0)
    classes = background_last("roi_head.bbox_head.fc_cls.bias", rows)
    assert classes.tolist() == [1, 2, 0]
    deltas = background_last("roi_head.bbox_head.fc_reg.bias", torch.arange(12.0))
    assert deltas.tolist() == list(range(4, 12))
    assert background_last("roi_head.mask_head.conv_logits.bias", rows).tolist() == [1, 2]
    assert background_last("semantic_head.conv_logits.bias", rows).tolist() == [0, 1, 2]


def test_the_background_of_the_published_form_is_zero(published):
    assert not published["roi_heads.box.predictor.bbox_pred.weight"][:4].any()
    assert not published["roi_heads.mask.predictor.mask_fcn_logits.weight"][:1].any()


def test_missing_unexpected_and_misshapen_tensors_are_refused(key_map, published):
    without = {n: v for n, v in published.items() if "fc6" not in n}
    with pytest.raises(CheckpointMismatchError, match=r"2 tensors are missing.*fc6"):
        key_map.to_ours(without)
    with pytest.raises(CheckpointMismatchError, match=r"1 are unexpected \(more\.weight\)"):
        key_map.to_ours({**published, "more.weight": torch.zeros(1)})
    assert key_map.to_ours({**published, "more.weight": torch.zeros(1)}, drop=["more"])
    wrong = {**published, "rpn.head.conv.bias": torch.zeros(5)}
    with pytest.raises(CheckpointMismatchError, match=r"rpn_head\.rpn_conv\.bias \(5,\) instead"):
        key_map.to_ours(wrong)


def test_necks_with_norm_layers_have_no_published_name():
    with pytest.raises(CheckpointMismatchError, match=r"mmdet\.FPN without norm layers"):
        RapKeyMap(meta_model(**{"neck.norm_cfg": {"type": "BN"}}))


def test_new_classes_leave_out_what_depends_on_them(key_map, published):
    ours = key_map.to_ours(published, new_classes=True)
    absent = {re.sub(r"\.\w+$", "", name) for name in key_map.shapes.keys() - ours.keys()}
    assert absent == {
        "roi_head.bbox_head.fc_cls",
        "roi_head.bbox_head.fc_reg",
        "roi_head.mask_head.conv_logits",
        "semantic_head.conv_logits",
    }


def blobs(key_map, published):
    """The same weights in the naming of Detectron, without the heads that it lacks."""
    leaves = {"weight": "w", "bias": "b"}
    found = {}
    for name, value in published.items():
        owner, leaf = name.rsplit(".", 1)
        code = leaves.get(leaf)
        body = re.fullmatch(r"backbone\.body\.layer(\d)\.(\d+)\.(\w+?)(\d)?(?:\.(\d))?", owner)
        fpn = re.fullmatch(r"backbone\.fpn\.fpn_(inner|layer)(\d)", owner)
        if "semantic" in name or "running" in name:
            continue
        if "stem" in name:
            norm = {"w": "s", "b": "b"}[code]
            found["conv1_w" if "conv1" in name else f"res_conv1_bn_{norm}"] = value
        elif body:
            layer, block, kind, part, index = body.groups()
            is_norm = kind == "bn" or index == "1"
            branch = "branch1" if kind == "downsample" else f"branch2{'abc'[int(part) - 1]}"
            end = f"bn_{'s' if code == 'w' else 'b'}" if is_norm else "w"
            found[f"res{int(layer) + 1}_{block}_{branch}_{end}"] = value
        elif fpn:
            level, last = int(fpn[2]) + 1, {2: 2, 3: 3, 4: 5, 5: 2}[int(fpn[2]) + 1]
            lateral = "" if level == 5 else "_lateral"
            middle = f"inner_res{level}_{last}_sum{lateral}" if fpn[1] == "inner" else None
            found[f"fpn_{middle or f'res{level}_{last}_sum'}_{code}"] = value
        else:
            blob = owner.split(".")[-1]
            special = {"conv": "conv_rpn_fpn2", "cls_logits": "rpn_cls_logits_fpn2"}
            if owner == "rpn.head.bbox_pred":
                special = {"bbox_pred": "rpn_bbox_pred_fpn2"}
            blob = special.get(blob, blob)
            blob = re.sub(r"^mask_fcn(\d)", r"_[mask]_fcn\1", blob)
            found[f"{blob}_{code}"] = value
    assert len(found) > 150
    return found


def test_detectron_blobs_become_published_names(key_map, published):
    source = blobs(key_map, published)
    extra = {"fc6_w_momentum": torch.zeros(1), "lr": torch.zeros(1), "pred_w": torch.zeros(2, 2)}
    assert is_detectron(source)
    assert not is_detectron(published)
    named, dropped = name_blobs({**source, **extra})
    assert sorted(dropped) == sorted(extra)
    statistics = {n for n in named if "running" in n}
    expected = {n for n in published if "semantic" not in n}
    assert named.keys() == expected
    for name in statistics:
        assert (named[name] == (1 if "var" in name else 0)).all()
    for name in expected - statistics:
        assert torch.equal(named[name], published[name]), name


def test_initial_weights_may_be_a_backbone_or_a_whole_detector(key_map, published):
    body = {n: v for n, v in published.items() if n.startswith("backbone.body")}
    ours = key_map.to_ours(body, initial=True)
    assert {name.split(".")[0] for name in ours} == {"backbone"}
    detector = {n: v for n, v in published.items() if "semantic" not in n}
    assert len(key_map.to_ours(detector, initial=True)) == len(detector)
    fewer = key_map.to_ours(detector, new_classes=True, initial=True)
    assert "roi_head.bbox_head.fc_cls.weight" not in fewer
    del detector["rpn.head.conv.bias"]
    with pytest.raises(CheckpointMismatchError, match=r"rpn\.head\.conv\.bias"):
        key_map.to_ours(detector, initial=True)
    with pytest.raises(CheckpointMismatchError, match="unexpected"):
        key_map.to_ours({**body, "fc1000_w": torch.zeros(1)}, initial=True)


def test_plain_convolutions_start_deformable_ones(published):
    key_map = RapKeyMap(meta_model(**DEFORMABLE))
    body = {n: v for n, v in published.items() if n.startswith("backbone.body")}
    placement = key_map.place(body, initial=True)
    assert "backbone.layer4.0.conv2.weight" in placement.tensors
    assert not any("conv_offset" in name for name in placement.tensors)
    assert len(placement.tensors) == len(body)
    assert not placement.dropped
