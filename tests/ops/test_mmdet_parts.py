"""Parts of mmdet's Mask R-CNN run on the operators."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

import mmpanoptic  # noqa: F401  provides mmcv._ext


@pytest.fixture(autouse=True)
def mmdet_scope():
    """Names without a prefix are mmdet's here, whatever scope other tests left behind."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def test_rpn_head_proposes_boxes():
    from mmdet.models.dense_heads import RPNHead

    torch.manual_seed(0)
    head = RPNHead(
        in_channels=8,
        feat_channels=8,
        anchor_generator={
            "type": "AnchorGenerator", "scales": [8], "ratios": [0.5, 1.0, 2.0], "strides": [8, 16],
        },
        test_cfg=ConfigDict(
            nms_pre=200, max_per_img=50, nms={"type": "nms", "iou_threshold": 0.7}, min_bbox_size=0
        ),
    ).eval()  # fmt: skip
    features = (torch.randn(2, 8, 16, 20), torch.randn(2, 8, 8, 10))
    metas = [{"img_shape": (128, 160), "scale_factor": (1.0, 1.0)}] * 2
    with torch.no_grad():
        results = head.predict_by_feat(*head(features), batch_img_metas=metas)
    for result in results:
        assert isinstance(result, InstanceData)
        assert 0 < len(result) <= 50
        assert (result.scores.diff() <= 0).all()


def test_roi_extractor_pools_from_all_levels():
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

    extractor = SingleRoIExtractor(
        roi_layer={"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
        out_channels=4,
        featmap_strides=[4, 8, 16, 32],
    )
    features = tuple(
        torch.randn(2, 4, 256 // stride, 320 // stride, requires_grad=True)
        for stride in (4, 8, 16, 32)
    )
    corners = torch.rand(30, 2) * 100
    sizes = torch.logspace(1, 2.3, 30)[:, None].expand(-1, 2)
    rois = torch.cat([torch.arange(30)[:, None] % 2, corners, corners + sizes], 1)
    pooled = extractor(features, rois)
    assert pooled.shape == (30, 4, 7, 7)
    pooled.square().sum().backward()
    assert features[0].grad.abs().sum() > 0
    assert features[1].grad.abs().sum() > 0
