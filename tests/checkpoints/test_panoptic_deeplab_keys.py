from types import SimpleNamespace

import pytest
import torch

from mmpanoptic.checkpoints.backbone_keys import BackboneKeyMap
from mmpanoptic.checkpoints.errors import CheckpointMismatchError
from mmpanoptic.checkpoints.panoptic_deeplab_keys import PanopticDeepLabKeyMap
from mmpanoptic.registry import MODELS
from tests.models.builders import tiny_config


@pytest.fixture(scope="module")
def model():
    return MODELS.build(tiny_config())


def test_names_follow_the_published_ones(model):
    names = PanopticDeepLabKeyMap(model).published
    examples = {
        "backbone.stem.3.weight": "backbone.stem.conv2.weight",
        "backbone.stem.7.bias": "backbone.stem.conv3.norm.bias",
        "backbone.layer1.0.bn2.weight": "backbone.res2.0.conv2.norm.weight",
        "backbone.layer2.0.downsample.0.weight": "backbone.res3.0.shortcut.weight",
        "backbone.layer2.0.downsample.1.bias": "backbone.res3.0.shortcut.norm.bias",
        "semantic_head.decoder.projects.1.conv.weight": (
            "sem_seg_head.decoder.res3.project_conv.weight"
        ),
        "semantic_head.decoder.fuses.0.pointwise_conv.bn.weight": (
            "sem_seg_head.decoder.res2.fuse_conv.pointwise.norm.weight"
        ),
        "semantic_head.decoder.aspp.image_pool.conv.bias": (
            "sem_seg_head.decoder.res5.project_conv.convs.4.1.bias"
        ),
        "instance_head.center_head.1.bn.running_var": (
            "ins_embed_head.center_head.1.norm.running_var"
        ),
        "instance_head.offset_predictor.bias": "ins_embed_head.offset_predictor.bias",
    }
    assert {ours: names[ours] for ours in examples} == examples


def test_other_backbones_keep_their_names():
    names = [
        "backbone.layer1.0.bn1.weight",
        "backbone.stage2.0.branches.0.1.bn2.bias",
        "backbone.block1.sep_conv1.block.bn_depth.bn.weight",
        "backbone.bn1.bn.weight",
    ]
    model = SimpleNamespace(state_dict=lambda: dict.fromkeys(names, torch.zeros(1)))
    assert PanopticDeepLabKeyMap(model).published == {name: name for name in names}


def test_conversion_is_two_way_and_counters_are_optional(model):
    key_map = PanopticDeepLabKeyMap(model)
    state = model.state_dict()
    published = key_map.to_published(state)
    thin = {k: v for k, v in published.items() if not k.endswith("num_batches_tracked")}
    assert len(thin) < len(published)
    for source in (published, thin):
        ours = key_map.to_ours(source)
        assert ours.keys() == state.keys()
        assert all(torch.equal(ours[name], state[name]) for name in state)


def test_missing_unexpected_and_misshaped_tensors_are_named(model):
    key_map = PanopticDeepLabKeyMap(model)
    published = key_map.to_published(model.state_dict())
    missing = dict(published)
    del missing["sem_seg_head.predictor.weight"]
    with pytest.raises(CheckpointMismatchError, match=r"1 .*missing .*predictor\.weight"):
        key_map.to_ours(missing)
    with pytest.raises(CheckpointMismatchError, match=r"unexpected .*pixel_mean"):
        key_map.to_ours({**published, "pixel_mean": torch.zeros(3)})
    wrong = {**published, "sem_seg_head.predictor.weight": torch.zeros(133, 8, 1, 1)}
    with pytest.raises(CheckpointMismatchError, match=r"predictor\.weight \(133, 8, 1, 1\)"):
        key_map.to_ours(wrong)
    with pytest.raises(CheckpointMismatchError, match="missing"):
        key_map.to_published({})


def test_backbone_checkpoints_lack_the_prefix_and_may_hold_a_classifier(model):
    published = PanopticDeepLabKeyMap(model).to_published(model.state_dict())
    source = {
        name.removeprefix("backbone."): value
        for name, value in published.items()
        if name.startswith("backbone.")
    }
    key_map = BackboneKeyMap(model)
    ours = key_map.to_ours({**source, "stem.fc.weight": torch.zeros(3)})
    assert ours.keys() == {n for n in model.state_dict() if n.startswith("backbone.")}
    with pytest.raises(CheckpointMismatchError, match=r"1 are unexpected \(head\.w"):
        key_map.to_ours({**source, "head.w": torch.zeros(3)})
    extra = key_map.to_ours({**source, "head.w": torch.zeros(3)}, drop=[r"head\."])
    assert extra.keys() == ours.keys()
    del source["stem.conv1.weight"]
    with pytest.raises(CheckpointMismatchError, match=r"stem\.conv1"):
        key_map.to_ours(source)
