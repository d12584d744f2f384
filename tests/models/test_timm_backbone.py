"""Backbones of timm: maps by stride, weights by our download, and every system on one of them."""

import sys

import pytest
import torch
from mmengine.registry import init_default_scope
from safetensors.torch import save

from mmpanoptic.apis import get_config, list_configs
from mmpanoptic.checkpoints import CheckpointError
from mmpanoptic.checkpoints.published import install_safe_loading
from mmpanoptic.checkpoints.weights import addresses_in
from mmpanoptic.datasets.shapes import ShapesSettings, generate_shapes
from mmpanoptic.engine.config import resolve_config, resolve_variables
from mmpanoptic.engine.feature_maps import measure_feature_maps
from mmpanoptic.models.backbones import TIMMBackbone
from mmpanoptic.registry import MODELS, RUNNERS, ConfigError
from tests import fake_timm
from tests.checkpoints.file_server import FileServer

LEAVES = [name for name in list_configs() if "_timm_" in name]
install_safe_loading()


@pytest.fixture(autouse=True)
def timm(monkeypatch):
    init_default_scope("mmpanoptic")
    fake_timm.stand_in(monkeypatch)
    import timm

    return timm


@pytest.fixture
def server(monkeypatch, tmp_path):
    """What stands for Hugging Face."""
    server = FileServer()
    monkeypatch.setenv("MMPANOPTIC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", server.url("/").rstrip("/"))
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("settings", "strides"),
    [
        ({}, (4, 8, 16, 32)),
        ({"out_strides": (2, 32)}, (2, 32)),
        ({"out_strides": (4, 8, 16), "output_stride": 16}, (4, 8, 16)),
    ],
)
def test_maps_are_chosen_by_stride(timm, settings, strides):
    backbone = TIMMBackbone("resnet18", **settings).eval()
    maps = backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape[2:]) for level in maps] == [(64 // s, 96 // s) for s in strides]
    rest = {name: value for name, value in settings.items() if name == "output_stride"}
    info = timm.create_model("resnet18", features_only=True, **rest).feature_info
    last = dict(zip(info.reduction(), info.channels(), strict=True))
    assert [level.shape[1] for level in maps] == [last[s] for s in strides]


def test_maps_with_channels_last_are_turned(timm):
    settings = {} if fake_timm.IS_MISSING else {"strict_img_size": False}
    backbone = TIMMBackbone("swin_tiny_patch4_window7_224", **settings).eval()
    image = torch.randn(1, 3, 64, 96)
    ours, theirs = backbone(image), backbone.timm_model(image)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b.permute(0, 3, 1, 2))
    config = {"type": "TIMMBackbone", "model_name": "swin_tiny_patch4_window7_224", **settings}
    assert measure_feature_maps(config)["feature_strides"] == [4, 8, 16, 32]


def test_of_several_maps_of_a_transformer_the_last_is_taken(timm):
    options = {"dynamic_img_size": True, "patch_size": 16}
    backbone = TIMMBackbone("vit_tiny_patch16_224", out_strides=(16,), **options).eval()
    image = torch.randn(1, 3, 64, 96)
    (found,) = backbone(image)
    assert found.shape[2:] == (4, 6)
    whole = timm.create_model("vit_tiny_patch16_224", features_only=True, **options).eval()
    whole.load_state_dict(backbone.timm_model.state_dict(), strict=False)
    torch.testing.assert_close(found, whole(image)[-1])


def test_wrong_settings_are_explained(timm, monkeypatch):
    with pytest.raises(ValueError, match=r"convnext_tiny has maps of stride 4, 8, 16, 32; out_st"):
        TIMMBackbone("convnext_tiny", out_strides=(2, 4))
    with pytest.raises(ValueError, match="pretrained=True and init_cfg both name weights"):
        TIMMBackbone("resnet18.a1_in1k", pretrained=True, init_cfg={"type": "Pretrained"})
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda _: None)
    with pytest.raises(ValueError, match="timm publishes no weights for resnet18"):
        TIMMBackbone("resnet18", pretrained=True)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="needs timm: install the torchvision that belongs"):
        TIMMBackbone("resnet18")


def test_weights_come_when_a_training_begins(timm, server):
    name = "resnet18.a1_in1k"
    torch.manual_seed(1)
    whole = timm.create_model(name, pretrained=False)
    path = f"/timm/{name}/resolve/main/model.safetensors"
    server.files[path] = save({n: v.contiguous() for n, v in whole.state_dict().items()})
    backbone = TIMMBackbone(name, pretrained=True, out_strides=(4, 16))
    assert not server.requests  # a checkpoint may be loaded instead
    backbone.init_weights()
    expected = timm.create_model(name, features_only=True, pretrained=False)
    own = whole.state_dict()
    names = {n: n.replace("stages_", "stages.") for n in expected.state_dict()}
    for ours, value in backbone.timm_model.state_dict().items():
        assert torch.equal(value, own[names[ours]]), ours
    assert server.count() == {path: 1}
    TIMMBackbone(name, pretrained=True).init_weights()
    assert server.count() == {path: 1}


def test_weights_come_from_a_file_of_the_users(timm, tmp_path):
    torch.manual_seed(1)
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    torch.save({"state_dict": state}, tmp_path / "own.pth")
    init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "own.pth")}
    backbone = TIMMBackbone("resnet18", init_cfg=init_cfg)
    backbone.init_weights()
    first = next(iter(backbone.timm_model.state_dict().values()))
    assert torch.equal(first, next(iter(state.values())))


def test_weights_of_another_model_are_refused(timm, server):
    name = "resnet18.a1_in1k"
    state = timm.create_model(name, pretrained=False).state_dict()
    state.pop(next(iter(state)))
    server.files[f"/timm/{name}/resolve/main/model.safetensors"] = save(state)
    with pytest.raises(CheckpointError, match=r"not those of timm's resnet18\.a1_in1k"):
        TIMMBackbone(name, pretrained=True).init_weights()


def test_channels_and_strides_are_measured_without_a_trace():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    found = measure_feature_maps({"type": "mmdet.ResNet", "depth": 18, "init_cfg": {"type": "x"}})
    assert found == {
        "feature_channels": [64, 128, 256, 512],
        "feature_strides": [4, 8, 16, 32],
    }
    assert torch.equal(torch.rand(1), expected)


class ChannelsLast(torch.nn.Module):
    def forward(self, x):
        return (x[:, :, ::4, ::4].permute(0, 2, 3, 1),)


def test_a_backbone_that_makes_no_maps_is_named():
    MODELS.register_module(module=ChannelsLast, force=True)
    with pytest.raises(ConfigError, match=r"ChannelsLast\) makes \(1, 32, 48, 3\) of an image"):
        measure_feature_maps({"type": "ChannelsLast"})


SWIN = {
    "type": "mmdet.SwinTransformer",
    "embed_dims": 24,
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 2, 4, 8),
}
CONVNEXT = {
    "type": "mmpretrain.ConvNeXt",
    "arch": {"depths": [1, 1, 1, 1], "channels": [16, 32, 64, 128]},
    "out_indices": (0, 1, 2, 3),
    "gap_before_final_norm": False,
}


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [
        (SWIN, [24, 48, 96, 192]),
        pytest.param(CONVNEXT, [16, 32, 64, 128], marks=pytest.mark.optional),
    ],
    ids=["swin", "convnext"],
)
def test_transformers_of_openmmlab_go_under_any_system(backbone, channels):
    if backbone is CONVNEXT:
        pytest.importorskip("mmpretrain")
    cfg = get_config("panoptic-fpn-modern_timm_1xb4-5k_own")
    cfg.model.backbone = backbone
    cfg = resolve_config(cfg, dataset_meta=SHAPES_META)
    assert cfg.model.neck.in_channels == channels
    model = MODELS.build(cfg.model)
    model.eval()
    assert [level.shape[1] for level in model.extract_feat(torch.zeros(1, 3, 64, 96))] == [256] * 5


SHAPES_META = {
    "classes": ("cell", "ground"),
    "dataset_ids": (1, 2),
    "isthing": (True, False),
    "palette": ((0, 0, 0), (9, 9, 9)),
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_config_says_which_weights_it_needs(name):
    cfg = resolve_variables(get_config(name))
    assert addresses_in(cfg) == [f"timm://{cfg.model_name}"]


def test_every_system_has_a_leaf():
    systems = {name.split("_")[0].split("-")[0] for name in LEAVES}
    assert systems == {"auto", "cops", "efficientps", "panoptic"}
    assert len(LEAVES) == 6


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    list(generate_shapes(root, {"train": 4, "val": 1}, ShapesSettings(96, 64), 1))
    return root


TWO_STAGE = {
    "model.train_cfg.rpn_proposal.max_per_img": 8,
    "model.train_cfg.rcnn.sampler.num": 8,
    "model.test_cfg.rpn.max_per_img": 8,
}
SMALLER = {
    "auto": TWO_STAGE,
    "panoptic-fpn": TWO_STAGE,
    "efficientps": {"model.instance_head.feat_channels": 64, "num_grids": (8, 6, 5, 4, 3)},
    "cops": {"model.semantic_head.channels": 64, "model.instance_head.channels": 64},
}
"""A part of the work suffices to see that everything fits together."""


@pytest.mark.parametrize("name", LEAVES)
def test_every_system_trains_and_tests_on_a_model_of_timm(shapes, tmp_path, name):
    cfg = get_config(name)
    options = {
        "data_root": str(shapes),
        "work_dir": str(tmp_path),
        "max_iters": 1,
        "batch_size": 2,
        "num_workers": 0,
        "short_edge": 64,
        "crop_size": (64, 96),
        "model.backbone.pretrained": False,
    }
    if not fake_timm.IS_MISSING:
        plain = "_vit-" in name
        options["model_name"] = "vit_tiny_patch16_224" if plain else "resnet18"
    options |= next((own for start, own in SMALLER.items() if name.startswith(start)), {})
    cfg.merge_from_dict(options)
    runner = RUNNERS.build(cfg)
    runner.train()
    assert runner.iter == 1
    assert any("PQ" in scalar for scalar in runner.message_hub.log_scalars)
