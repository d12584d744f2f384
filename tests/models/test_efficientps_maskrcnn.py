"""EfficientPS with Mask R-CNN as a whole: a thin model on drawn images."""

import copy

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.apis.configs import get_config
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS

SIZE = (64, 96)


@pytest.fixture(scope="module")
def cfg() -> Config:
    return resolve_config(get_config("efficientps-maskrcnn_b0-tiny_1xb8-600_shapes"))


@pytest.fixture
def model(cfg):
    torch.manual_seed(0)
    init_default_scope("mmpanoptic")
    return MODELS.build(cfg.model)


def sample(*boxes):
    from mmdet.structures.mask import BitmapMasks  # after our stand-ins for compiled operators

    found = DetDataSample(metainfo={"img_shape": SIZE, "ori_shape": SIZE, "pad_shape": SIZE})
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.uint8)
    semantic = torch.full((1, *SIZE), 8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = 1
        semantic[0][mask.bool()] = 2
    found.gt_sem_seg = PixelData(sem_seg=semantic)
    found.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.full((len(boxes),), 2),
        masks=BitmapMasks(masks.numpy(), *SIZE),
    )
    return found


@pytest.mark.parametrize("boxes", [[(8, 8, 30, 30), (40, 20, 80, 60)], []], ids=["some", "none"])
def test_losses_are_finite_and_reach_every_part(model, boxes):
    images = torch.randn(2, 3, *SIZE)
    losses = model(images, [sample(*boxes), sample()], mode="loss")
    parts = [v for k, v in losses.items() if "loss" in k]
    total = sum(sum(part) if isinstance(part, list) else part for part in parts)
    assert torch.isfinite(total)
    total.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert not without


def test_bfloat16_autocast_trains_and_predicts(model):
    images = torch.randn(1, 3, *SIZE)
    found = {}
    for enabled in (False, True):
        torch.manual_seed(0)  # RoIs are sampled
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            losses = model(images, [sample((8, 8, 30, 30))], mode="loss")
        found[enabled] = {
            name: float(sum(v) if isinstance(v, list) else v)
            for name, v in losses.items()
            if "loss" in name
        }
    assert found[True] == pytest.approx(found[False], rel=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.eval()
        result = model.predict(images, [sample()])[0]
    assert result.pred_panoptic_seg.index_map.shape == (1, *SIZE)


def test_the_result_has_the_size_of_the_original(model):
    model.eval()
    meta = DetDataSample(metainfo={"img_shape": (50, 90), "ori_shape": (100, 180)})
    model.fusion_head.score_thr = 0.0
    result = model.predict(torch.randn(1, 3, *SIZE), [meta])[0]
    assert result.pred_panoptic_seg.index_map.shape == (1, 100, 180)
    assert result.pred_sem_seg.sem_seg.shape == (1, 100, 180)


def test_the_separable_rpn_takes_the_place_of_the_ordinary_one(cfg):
    init_default_scope("mmpanoptic")
    changed = copy.deepcopy(cfg.model)
    changed.rpn_head.type = "SeparableRPNHead"
    model = MODELS.build(changed)
    losses = model(torch.randn(1, 3, *SIZE), [sample((8, 8, 30, 30))], mode="loss")
    sum(losses["loss_rpn_cls"]).backward()
    names = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    assert "rpn_head.rpn_conv.depthwise_conv.conv.weight" in names
    assert "rpn_head.rpn_conv.pointwise_conv.bn.weight" in names


def test_the_published_number_of_parameters():
    cfg = resolve_config(get_config("efficientps-maskrcnn_b5_16xb1-50k_cityscapes"))
    init_default_scope("mmpanoptic")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(40.89, abs=0.01)
