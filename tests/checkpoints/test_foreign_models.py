"""Weights of other code bases: all names are placed, and the same numbers come out.

timm's names and shapes are on file (tests/data/golden/weights); where timm is installed, and mmdet
is always, their models give the numbers for made-up weights. detectron2's and AdelaiDet's names
are those that their public code gives the modules; no file of theirs was opened.
"""

import gzip
import json
import os

import mmdet
import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from torch import nn

from mmpanoptic.apis import init_model
from mmpanoptic.apis.conversion import model_of_config
from mmpanoptic.checkpoints import CheckpointMismatchError
from mmpanoptic.checkpoints.backbone_keys import BackboneKeyMap
from mmpanoptic.checkpoints.panoptic_fpn_keys import DETECTRON2, PanopticFPNKeyMap
from mmpanoptic.checkpoints.solov2_keys import ADELAIDET, SOLOv2KeyMap
from mmpanoptic.registry import MODELS
from tests.golden import golden_dir

TIMM_NAMES = golden_dir("weights") / "timm_names.json.gz"


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmpanoptic")


def made_up(model):
    """Weights of either sign, statistics of norm layers that are not those of a fresh model."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point() and value.dim() < 2:
            value.uniform_(-0.5, 1.0, generator=generator)
    model.eval()
    return model


def place(cfg, state):
    """Our backbone with published weights, and what was dropped."""
    ours = MODELS.build(cfg)
    holder = nn.ModuleDict({"backbone": ours})
    placement = BackboneKeyMap(holder).place(state)
    holder.load_state_dict(placement.tensors)
    ours.eval()
    return ours, placement.dropped


DEEP = {"type": "DeepLabResNet", "depth": 50, "stem_channels": 128}
PLAIN = {"strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1)}
EPS = {"type": "BN", "eps": 1e-3}  # of timm's model
FEATURES = {
    "resnet50s": ({**DEEP, **PLAIN}, ["fc.bias", "fc.weight"]),
    "resnet50": ({"type": "mmdet.ResNet", "depth": 50}, ["fc.bias", "fc.weight"]),
    "xception65": (
        {"type": "Xception", "output_stride": 32, "norm_cfg": EPS},
        ["head.fc.bias", "head.fc.weight"],
    ),
}


HEADS_OF_HRNET = {"incre_modules", "downsamp_modules", "final_layer", "classifier"}
BY_NAME = {
    **{
        name: (cfg, {part.split(".")[0] for part in lost}) for name, (cfg, lost) in FEATURES.items()
    },
    "hrnet_w48": ({"type": "HRNet", "width": 48}, HEADS_OF_HRNET),
    "tf_efficientnet_b5": ({"type": "LeakyEfficientNet", "arch": "b5"}, {"se", "classifier"}),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_names_and_shapes_of_timm_fit_without_timm(name):
    """Each tensor on file is placed or dropped; what comes out makes numbers."""
    torch.manual_seed(0)
    shapes = json.loads(gzip.decompress(TIMM_NAMES.read_bytes()))["models"][name]
    state = {
        n: 0.05 * torch.randn(shape) if shape else torch.tensor(0) for n, shape in shapes.items()
    }
    state |= {n: v.abs() + 0.5 for n, v in state.items() if n.endswith("running_var")}
    cfg, lost = BY_NAME[name]
    ours, dropped = place(cfg, state)
    parts = {n.split(".")[-3] if ".se." in n else n.split(".")[0] for n in dropped}
    assert parts == lost
    assert len(ours.state_dict()) + len(dropped) == len(state)
    with torch.no_grad():
        maps = ours(torch.randn(1, 3, 64, 96))
    assert all(level.isfinite().all() for level in maps)
    assert maps[-1].std() > 0


@pytest.mark.optional
@pytest.mark.parametrize("name", FEATURES)
def test_backbones_of_timm_give_the_same_features(name):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    cfg, dropped = FEATURES[name]
    theirs = made_up(timm.create_model(name, pretrained=False))
    ours, found = place(cfg, theirs.state_dict())
    assert found == dropped
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = theirs.forward_features(image)
        assert torch.allclose(ours(image)[-1], expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.optional
def test_hrnet_of_timm_drops_its_classifier():
    """Sums of its branches are enlarged otherwise there, the layers are the same."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = made_up(timm.create_model("hrnet_w18", pretrained=False))
    ours, dropped = place({"type": "HRNet", "width": 18}, theirs.state_dict())
    assert {name.split(".")[0] for name in dropped} == HEADS_OF_HRNET
    image = torch.randn(1, 64, 16, 24)
    with torch.no_grad():
        assert torch.equal(ours.layer1(image), theirs.layer1(image))
        assert torch.equal(
            ours.stage2[0].branches[1](ours.transition1[1](ours.layer1(image))),
            theirs.stage2[0].branches[1](theirs.transition1[1](theirs.layer1(image))),
        )


@pytest.mark.optional
def test_efficientnet_of_timm_loses_squeeze_and_excitation():
    timm = pytest.importorskip("timm")
    theirs = made_up(timm.create_model("tf_efficientnet_b0", pretrained=False))
    ours, dropped = place({"type": "LeakyEfficientNet", "arch": "b0"}, theirs.state_dict())
    assert {n.split(".")[-3] if ".se." in n else n.split(".")[0] for n in dropped} == {
        "se",
        "classifier",
    }
    assert torch.equal(ours.layers[0].conv.weight, theirs.conv_stem.weight)
    assert torch.equal(ours.layers[6].bn.running_mean, theirs.bn2.running_mean)
    second = ours.layers[4][3]  # the first block of the stage of 112 channels
    assert torch.equal(second.depthwise_conv.conv.weight, theirs.blocks[4][0].conv_dw.weight)
    assert torch.equal(second.linear_conv.bn.weight, theirs.blocks[4][0].bn3.weight.abs() + 1e-3)


def test_mmpretrains_names_are_ours():
    ours = MODELS.build({"type": "HRNet", "width": 18})
    state = {f"backbone.{name}": value for name, value in ours.state_dict().items()}
    _, dropped = place({"type": "HRNet", "width": 18}, {**state, "head.fc.bias": torch.zeros(2)})
    assert dropped == ["head.fc.bias"]


def test_msra_names_of_detectron2_fit_mmdets_resnet():
    ours = MODELS.build({"type": "mmdet.ResNet", "depth": 50, "style": "caffe"})
    holder = nn.ModuleDict({"backbone": ours})
    key_map = BackboneKeyMap(holder)
    state = key_map.to_published(holder.state_dict())
    examples = {
        "stem.conv1.weight",
        "stem.conv1.norm.running_mean",
        "res2.0.conv1.weight",
        "res2.0.shortcut.norm.bias",
        "res5.2.conv3.norm.weight",
    }
    assert examples <= state.keys()
    assert (
        key_map.to_ours({**state, "stem.fc.bias": torch.zeros(1000)}).keys()
        == key_map.shapes.keys()
    )


SLIM = {
    "backbone": {"base_channels": 8, "init_cfg": None},
    "neck": {"in_channels": [32, 64, 128, 256], "out_channels": 32},
    "rpn_head": {"in_channels": 32, "feat_channels": 32},
}


def slim_model():
    """The config for mmdet's weights, an eighth as wide."""
    options = {f"model.{part}.{k}": v for part, own in SLIM.items() for k, v in own.items()}
    options["model.backbone.init_cfg"] = None
    for part in ("bbox", "mask"):
        options[f"model.roi_head.{part}_roi_extractor.out_channels"] = 32
        options[f"model.roi_head.{part}_head.in_channels"] = 32
    options["model.roi_head.bbox_head.fc_out_channels"] = 64
    options["model.roi_head.mask_head.conv_out_channels"] = 32
    options["model.semantic_head.in_channels"] = 32
    name = "panoptic-fpn-modern_r50-pytorch_8xb2-90k_coco"
    return init_model(name, device="cpu", cfg_options=options)


def slim_mmdet_model():
    path = os.path.join(os.path.dirname(mmdet.__file__), ".mim/configs/panoptic_fpn")
    cfg = Config.fromfile(f"{path}/panoptic-fpn_r50_fpn_1x_coco.py").model
    for part, own in SLIM.items():
        cfg[part].update(own)
    for part in ("bbox", "mask"):
        cfg.roi_head[f"{part}_roi_extractor"].out_channels = 32
        cfg.roi_head[f"{part}_head"].in_channels = 32
    cfg.roi_head.bbox_head.fc_out_channels = 64
    cfg.roi_head.mask_head.conv_out_channels = 32
    cfg.semantic_head.in_channels = 32
    with DefaultScope.overwrite_default_scope("mmdet"):
        return made_up(MMDET_MODELS.build(cfg))


@pytest.fixture(scope="module")
def panoptic_fpns():
    init_default_scope("mmpanoptic")
    torch.manual_seed(0)
    theirs, ours = slim_mmdet_model(), slim_model()
    placement = PanopticFPNKeyMap(ours).place(theirs.state_dict())
    assert not placement.dropped
    ours.load_state_dict(placement.tensors)
    return theirs, ours


def test_panoptic_fpn_of_mmdet_gives_the_same_outputs(panoptic_fpns):
    theirs, ours = panoptic_fpns
    image = torch.randn(1, 3, 96, 160)
    boxes = torch.tensor([[0, 3.0, 5.0, 60.0, 70.0], [0, 20.0, 1.0, 150.0, 90.0]])
    with torch.no_grad():
        a, b = theirs.extract_feat(image), ours.extract_feat(image)
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        logits = ours.semantic_head(b)
        assert torch.equal(logits[:, 1:], theirs.semantic_head(a)["seg_preds"])
        assert (logits[:, 0] == -100).all()
        for x, y in zip(theirs.rpn_head(a), ours.rpn_head(b), strict=True):
            assert all(torch.equal(one, two) for one, two in zip(x, y, strict=True))
        for part in ("bbox", "mask"):
            feats = [
                getattr(model.roi_head, f"{part}_roi_extractor")(levels[:4], boxes)
                for model, levels in ((theirs, a), (ours, b))
            ]
            assert torch.allclose(*feats, atol=1e-4)
            x = getattr(theirs.roi_head, f"{part}_head")(feats[0])
            y = getattr(ours.roi_head, f"{part}_head")(feats[0])
            for one, two in zip(*((x, y) if part == "bbox" else ((x,), (y,))), strict=True):
                assert torch.equal(one, two)


def test_panoptic_fpn_of_detectron2_has_its_own_names_and_order(panoptic_fpns):
    _, ours = panoptic_fpns
    key_map = PanopticFPNKeyMap(ours)
    state = key_map.to_published(ours.state_dict(), DETECTRON2)
    examples = {
        "backbone.bottom_up.stem.conv1.weight",
        "backbone.bottom_up.res4.5.conv2.norm.running_var",
        "backbone.fpn_lateral2.weight",
        "backbone.fpn_output5.bias",
        "proposal_generator.rpn_head.objectness_logits.weight",
        "proposal_generator.rpn_head.anchor_deltas.bias",
        "roi_heads.box_head.fc2.weight",
        "roi_heads.box_predictor.bbox_pred.bias",
        "roi_heads.mask_head.mask_fcn4.weight",
        "roi_heads.mask_head.deconv.bias",
        "roi_heads.mask_head.predictor.weight",
        "sem_seg_head.p2.0.weight",
        "sem_seg_head.p2.0.norm.bias",
        "sem_seg_head.p5.4.norm.weight",
        "sem_seg_head.predictor.bias",
    }
    assert examples <= state.keys()
    frozen = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    rows = torch.arange(54.0)  # things, then stuff
    anchors = {f"proposal_generator.anchor_generator.cell_anchors.{i}": rows for i in range(5)}
    placement = key_map.place({**frozen, **anchors, "sem_seg_head.predictor.bias": rows})
    assert placement.tensors["semantic_head.conv_logits.bias"].tolist() == [
        -100.0,
        *range(1, 54),
        0.0,
    ]
    assert placement.dropped == sorted(anchors)
    assert placement.zeroed == 53
    back = key_map.to_published(placement.tensors, DETECTRON2)
    assert torch.equal(back["sem_seg_head.predictor.bias"], rows)


def test_panoptic_fpn_with_other_levels_is_refused(panoptic_fpns):
    theirs, _ = panoptic_fpns
    ours = init_model("panoptic-fpn_r18-tiny_1xb8-1k_shapes", device="cpu")
    with pytest.raises(CheckpointMismatchError, match="does not fit the model"):
        PanopticFPNKeyMap(ours).place(theirs.state_dict())


def test_solov2_of_adelaidet_has_its_own_names():
    with torch.device("meta"):
        model, _ = model_of_config("solov2_r50-caffe_8xb2-270k_coco", None)
    key_map = SOLOv2KeyMap(model)
    names = key_map.names(ADELAIDET)
    examples = {
        "backbone.layer3.5.bn2.weight": "backbone.bottom_up.res4.5.conv2.norm.weight",
        "neck.fpn_convs.3.conv.bias": "backbone.fpn_output5.bias",
        "instance_head.cls_convs.1.conv.weight": "ins_head.cate_tower.3.weight",
        "instance_head.kernel_convs.3.gn.bias": "ins_head.kernel_tower.10.bias",
        "instance_head.conv_cls.bias": "ins_head.cate_pred.bias",
        "instance_head.conv_kernel.weight": "ins_head.kernel_pred.weight",
        "instance_head.mask_feature_head.convs_all_levels.3.conv2.conv.weight": (
            "mask_head.convs_all_levels.3.conv2.0.weight"
        ),
        "instance_head.mask_feature_head.convs_all_levels.0.conv0.gn.weight": (
            "mask_head.convs_all_levels.0.conv0.1.weight"
        ),
        "instance_head.mask_feature_head.conv_pred.gn.bias": "mask_head.conv_pred.1.bias",
    }
    assert {ours: names[ours] for ours in examples} == examples
    state = key_map.to_published(model.state_dict(), ADELAIDET)
    thin = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    assert key_map.to_ours(thin).keys() == key_map.shapes.keys()
