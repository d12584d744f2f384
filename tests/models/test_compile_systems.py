"""The network part of every system is one graph for ``torch.compile`` and ``torch.export``."""

import pytest
import torch
from torch import nn

from mmpanoptic.apis import init_model
from mmpanoptic.apis.inferencer import fuse_for_inference

CONFIGS = {
    "Panoptic-DeepLab": "panoptic-deeplab_r18-tiny_1xb8-500_shapes",
    "COPS": "cops_r18-tiny_e2e_1xb8-200_shapes",
    "EfficientPS with SOLOv2": "efficientps-solov2_b0-tiny_1xb8-600_shapes",
    "EfficientPS with Mask R-CNN": "efficientps-maskrcnn_b0-tiny_1xb8-600_shapes",
    "SOLOv2": "solov2_r18-tiny_1xb8-1k_shapes",
    "Panoptic FPN": "panoptic-fpn_r18-tiny_1xb8-1k_shapes",
    "RAP": "rap_r18-tiny_relation-finetune_1xb8-2k_shapes",
    "OCFusion": "rap_r18-tiny_ocfusion-finetune_1xb8-2k_shapes",
    "Auto-Panoptic": "auto-panoptic_tiny_1xb8-500_shapes",
    "DeepLabV3+": "deeplabv3plus_r18-tiny_1xb8-1k_shapes",
}
QUICK = ("COPS", "EfficientPS with SOLOv2", "Panoptic FPN", "Auto-Panoptic")


TWO_STAGE = ("EfficientPS with Mask R-CNN", "Panoptic FPN", "RAP", "OCFusion", "Auto-Panoptic")


class DenseNetwork(nn.Module):
    """What runs on whole images; boxes that are found come behind it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        model = self.model
        if not hasattr(model, "rpn_head"):
            return model.forward_heads(inputs)
        feats, semantic = model.exchange(model.extract_feat(inputs))
        return semantic, model.rpn_head(feats), feats


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def network_of(system, fuse=False):
    options = {"data_root": "no such folder", "load_from": None}
    model = init_model(CONFIGS[system], device="cpu", cfg_options=options)
    return DenseNetwork(fuse_for_inference(model) if fuse else model).eval()


def flat(outputs):
    return [x for x in torch.utils._pytree.tree_leaves(outputs) if isinstance(x, torch.Tensor)]


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize(
    "system",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS],
)
def test_no_graph_breaks(system):
    network = network_of(system)
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = torch._dynamo.explain(network)(inputs)
        assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("system", TWO_STAGE)
def test_no_graph_breaks_behind_the_boxes(system):
    """Box head, mask head and the heads of relations and occlusion, on boxes that were found."""
    pytest.importorskip("onnxscript")
    from mmpanoptic.deployment.detection import BoxHead, MaskHead, OcclusionPairs

    roi_head = network_of(system).model.roi_head
    boxes, masks = (
        torch.rand(3, extractor.out_channels, *extractor.roi_layers[0].output_size)
        for extractor in (roi_head.bbox_roi_extractor, roi_head.mask_roi_extractor)
    )
    labels, mask_head = torch.zeros(3, dtype=torch.int64), MaskHead(roi_head)
    networks = [(BoxHead(roi_head.bbox_head), (boxes,)), (mask_head, (masks, labels))]
    with torch.no_grad():
        if system == "OCFusion":
            halves = mask_head(masks, labels)[-2:]
            networks.append((OcclusionPairs(roi_head.occlusion_head), halves))
        for network, inputs in networks:
            found = torch._dynamo.explain(network.eval())(*inputs)
            assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("system", CONFIGS)
def test_the_network_is_exported_whole_and_computes_the_same(system):
    network = network_of(system, fuse=True)
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        program = torch.export.export(network, (inputs,))
        for ours, theirs in zip(flat(program.module()(inputs)), flat(network(inputs)), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("system", ["Panoptic FPN", "EfficientPS with SOLOv2"])
def test_fused_norm_layers_change_rounding_only(system):
    torch.manual_seed(0)
    inputs = torch.randn(1, 3, 64, 96)
    plain = network_of(system)
    with torch.no_grad():
        expected = [x.clone() for x in flat(plain(inputs))]
        fused = DenseNetwork(fuse_for_inference(plain.model)).eval()
        for ours, theirs in zip(flat(fused(inputs)), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.model.backbone.modules())
