"""Losses of heads are options of them: another config, another loss."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from mmpanoptic.models.instance_heads import CenterOffsetOutputs
from mmpanoptic.registry import MODELS
from tests.models.builders import THINGS, make_batch, tiny_config

MASKS = {"type": "mmdet.CrossEntropyLoss", "use_mask": True, "loss_weight": 2.0}
BOX_HEAD = {
    "type": "NormedFCBBoxHead",
    "num_classes": 3,
    "bbox_coder": {"type": "mmdet.DeltaXYWHBBoxCoder"},
    "in_channels": 4,
    "fc_out_channels": 8,
    "roi_feat_size": 2,
    "norm_cfg": {"type": "GN", "num_groups": 2},
}
BOX_LOSSES = {
    "loss_cls": {"type": "mmdet.CrossEntropyLoss", "loss_weight": 2.0},
    "loss_bbox": {"type": "mmdet.SmoothL1Loss", "beta": 1.0, "loss_weight": 2.0},
}


def build(cfg, **options):
    torch.manual_seed(0)
    return MODELS.build({**cfg, **options})


@pytest.mark.parametrize("name", list(BOX_LOSSES))
def test_losses_of_the_normed_box_head(name):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, 4, 2, 2, generator=generator)
    targets = (
        torch.tensor([0, 1, 2, 3, 3]),
        torch.ones(5),
        torch.randn(5, 4, generator=generator),
        torch.ones(5, 4),
    )
    plain, doubled = (
        head.loss(*head(x), torch.zeros(5, 5), *targets)
        for head in (build(BOX_HEAD), build(BOX_HEAD, **{name: BOX_LOSSES[name]}))
    )
    assert plain[name] > 0
    for key in BOX_LOSSES:
        torch.testing.assert_close(doubled[key], (2 if key == name else 1) * plain[key])


@pytest.mark.parametrize(
    "cfg",
    [
        {"type": "SeparableMaskHead", "num_classes": 3, "num_convs": 1, "in_channels": 4,
         "conv_out_channels": 4},
        {"type": "SearchableMaskHead", "num_classes": 3, "in_channels": 4, "channels": 4,
         "num_layers": 1, "choices": [0], "norm_cfg": {"type": "GN", "num_groups": 2}},
    ],
    ids=lambda cfg: cfg["type"],
)  # fmt: skip
def test_loss_of_the_mask_heads(cfg):
    x, labels = torch.randn(2, 4, 6, 6), torch.tensor([0, 2])
    target = (torch.rand(2, 12, 12) > 0.5).float()
    plain, doubled = (
        head.loss_mask(head(x), target, labels)
        for head in (build(cfg), build(cfg, loss_mask=MASKS))
    )
    torch.testing.assert_close(doubled, 2 * plain)


def head_and_data(name, **options):
    cfg = tiny_config()
    cfg[name].update(options)
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()  # no dropout
    data = model.data_preprocessor(make_batch((64, 96), (48, 80)), training=True)
    feats = model.extract_feat(data["inputs"])
    return getattr(model, name), feats, data["data_samples"]


def test_loss_of_the_heatmap():
    loss = {"type": "WeightedMSELoss", "loss_weight": 400.0}
    plain, doubled = (
        head.loss_by_feat(head(feats), samples)
        for head, feats, samples in (
            head_and_data("instance_head"),
            head_and_data("instance_head", loss_center=loss),
        )
    )
    torch.testing.assert_close(doubled["loss_center"], 2 * plain["loss_center"])
    torch.testing.assert_close(doubled["loss_offset"], plain["loss_offset"])


def test_stuff_can_be_left_out_of_the_loss_of_the_offsets():
    reached = []
    for ignore in (False, True):
        head, feats, samples = head_and_data("instance_head", ignore_stuff_in_offset=ignore)
        outputs = CenterOffsetOutputs(*(x.detach().requires_grad_() for x in head(feats)))
        losses = head.loss_by_feat(outputs, samples)
        sum(losses.values()).backward()
        reached.append([(x.grad != 0).any(1) for x in outputs])
    stuff = torch.stack([s.gt_sem_seg.sem_seg[0] < THINGS[0] for s in samples]).float()
    only_stuff = avg_pool2d(stuff[:, None], 12, 4, 4)[:, 0] == 1  # a cell and its neighbours
    assert only_stuff.any()
    assert torch.equal(reached[0][0], reached[1][0]), "the heatmap does not care"
    assert reached[0][1][only_stuff].all()
    assert not reached[1][1][only_stuff].any()


def test_crowds_can_be_left_out_of_the_semantic_loss():
    losses, gradients = [], []
    for ignore in (False, True):
        loss = {"type": "HardPixelMiningLoss", "top_k": 1.0}
        head, feats, samples = head_and_data("semantic_head", ignore_crowd=ignore, loss=loss)
        for sample in samples:
            for segment in sample.gt_panoptic_seg.segments_info:
                segment["iscrowd"] = int(segment["isthing"])
        outputs = head([x.detach() for x in feats]).detach().requires_grad_()
        losses.append(head.loss_by_feat(outputs, samples)["loss_semantic"])
        losses[-1].backward()
        gradients.append(outputs.grad.abs().sum(1))
    assert losses[1] < losses[0]
    assert (gradients[1] == 0).sum() > (gradients[0] == 0).sum()
