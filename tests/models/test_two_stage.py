import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmpanoptic.models.fusion_heads import HeuristicFusionHead
from mmpanoptic.models.roi_heads import PanopticRoIHead, to_original_size
from mmpanoptic.registry import MODELS, ConfigError
from tests.models.two_stage_builders import (
    CONFIG,
    THING,
    batch,
    build_two_stage,
    scene,
    tiny_two_stage,
)

LOSSES = {"loss_semantic", "loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"}


@pytest.fixture(scope="module")
def model():
    return build_two_stage()


def total(losses):
    return sum(
        sum(value) if isinstance(value, list) else value
        for name, value in losses.items()
        if name.startswith("loss")
    )


@pytest.mark.parametrize(
    "scenes",
    [
        pytest.param([{}, {}], id="things"),
        pytest.param([{}, {"things": False}], id="one image without things"),
        pytest.param([{"things": False}], id="no things at all"),
        pytest.param([{"things": False, "labelled": False}], id="nothing labelled"),
    ],
)
def test_training_step_reaches_every_parameter(model, scenes):
    """Every parameter gets a gradient, which distributed training relies on."""
    model.train()
    model.zero_grad()
    data = batch(model, [scene(64 + 8 * k, **options) for k, options in enumerate(scenes)])
    losses = model(**data, mode="loss")
    assert losses.keys() - {"acc"} == LOSSES
    assert torch.isfinite(total(losses))
    total(losses).backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_a_few_steps_lower_the_loss():
    model = build_two_stage().train()
    data = batch(model, [scene()])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    seen = []
    for _ in range(12):
        loss = total(model(**data, mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < 0.7 * seen[0]


def test_bfloat16_training_step_has_the_loss_of_float32(model):
    model.train()
    model.zero_grad()
    data = batch(model, [scene()])
    found = {}
    for enabled in (True, False):
        torch.manual_seed(0)  # RoIs are sampled
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found[enabled] = total(model(**copy.deepcopy(data), mode="loss"))
    found[True].backward()
    assert found[True].dtype == torch.float32
    assert found[True].item() == pytest.approx(found[False].item(), rel=0.05)


def test_boxes_under_autocast_are_not_rounded_to_bfloat16(model):
    model.eval()
    data = batch(model, [scene()], training=False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (found,) = model.forward_heads(**data).instance
    assert found.bboxes.dtype == found.mask_logits.dtype == torch.float32
    assert not torch.equal(found.bboxes, found.bboxes.bfloat16().float())


def test_predictions_have_the_size_of_the_original_images(model):
    model.eval()
    data = batch(model, [scene(64), scene(40, 80)], training=False)
    for sample, size in zip(data["data_samples"], [(128, 192), (30, 60)], strict=True):
        sample.set_metainfo({"ori_shape": size})
    with torch.no_grad():
        samples = model(**data, mode="predict")
    assert [tuple(s.pred_panoptic_seg.index_map.shape[1:]) for s in samples] == [
        (128, 192),
        (30, 60),
    ]


def test_instances_without_data_samples_are_those_of_the_plain_image(model):
    model.eval()
    inputs = batch(model, [scene(64)], training=False)["inputs"]
    with torch.no_grad():
        outputs = model(inputs)
        (sample,) = model(inputs, mode="predict")
    (found,) = outputs.instance
    assert found.mask_logits.shape[0] == len(found) == len(found.scores) == len(found.labels)
    assert found.bboxes[:, 2].max() <= inputs.shape[3] - 1
    assert sample.pred_panoptic_seg.index_map.shape[1:] == inputs.shape[2:]


def test_a_batch_predicts_what_its_images_predict(model):
    model.eval()
    scenes = [scene(64), scene(60, 90)]
    with torch.no_grad():
        together = model(**batch(model, scenes, training=False), mode="predict")
        for one, expected in zip([scene(64), scene(60, 90)], together, strict=True):
            (alone,) = model(**batch(model, [one], training=False), mode="predict")
            same = alone.pred_panoptic_seg.index_map == expected.pred_panoptic_seg.index_map
            assert same.float().mean() > 0.98


def test_an_image_without_detections_still_has_a_map():
    model = build_two_stage(**{"test_cfg.rcnn.score_thr": 1.0}).eval()
    with torch.no_grad():
        data = batch(model, [scene()], training=False)
        (found,) = model.forward_heads(**data).instance
        (sample,) = model(**data, mode="predict")
    assert len(found) == 0
    assert found.mask_logits.shape == (0, 28, 28)
    assert not any(segment["isthing"] for segment in sample.pred_panoptic_seg.segments_info)


@pytest.mark.parametrize(("inclusive", "end"), [(True, 1), (False, 0)])
def test_ground_truth_follows_the_convention_of_the_coder(inclusive, end):
    model = build_two_stage(inclusive_boxes=inclusive)
    sample = scene()["data_samples"]
    turned = model.instance_truth(sample)
    difference = sample.gt_instances.bboxes - turned.gt_instances.bboxes
    assert torch.equal(difference, torch.tensor([0.0, 0, end, end]).expand(3, 4))
    assert turned.gt_instances.labels.tolist() == [1, 1, 1]  # THING is the second thing
    assert sample.gt_instances.labels.tolist() == [THING] * 3
    assert len(turned.ignored_instances) == 1


class MarkedRoIHead(PanopticRoIHead):
    """A RoI head with a further head that scores instances."""

    EXTRA_HEADS = ("marker",)

    def __init__(self, **options):
        super().__init__(**options)
        self.marker = torch.nn.Conv2d(16, 1, 14)

    def extra_losses(self, mask_feats, mask_preds, sampling_results, batch_gt_instances):
        assert len(mask_feats) == sum(len(one.pos_gt_labels) for one in sampling_results)
        return {"loss_extra": self.marker(mask_feats).square().sum()}

    def add_predictions(self, mask_feats, results):
        results.mark = self.marker(mask_feats).flatten()


@pytest.fixture
def marked():
    MODELS.register_module(module=MarkedRoIHead)
    yield
    MODELS.module_dict.pop("MarkedRoIHead")


def test_further_heads_train_with_the_rest_and_predict(marked):
    model = build_two_stage(**{"roi_head.type": "MarkedRoIHead"}).train()
    losses = model(**batch(model, [scene()]), mode="loss")
    assert losses.keys() - {"acc"} == LOSSES | {"loss_extra"}
    with torch.no_grad():
        (found,) = model.eval().forward_heads(**batch(model, [scene()], False)).instance
    assert found.mark.shape == found.scores.shape


def test_further_heads_train_alone(marked):
    options = {"roi_head.type": "MarkedRoIHead", "train_extra_heads_only": True}
    model = build_two_stage(**options).train()
    assert model.training
    assert not model.backbone.training
    assert model.roi_head.marker.training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    losses = model(**batch(model, [scene()]), mode="loss")
    assert losses.keys() == {"loss_extra"}
    losses["loss_extra"].backward()
    optimizer.step()
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"roi_head.marker.weight", "roi_head.marker.bias"}


def test_training_alone_needs_a_further_head():
    with pytest.raises(ValueError, match=r"PanopticRoIHead has not; choose e\.g\. RelationRoIHead"):
        build_two_stage(train_extra_heads_only=True)


def test_samples_without_instances_are_refused(model):
    sample = scene()["data_samples"]
    del sample.gt_instances
    with pytest.raises(ValueError, match=r"PackPanopticInputs\(with_instances=True\)"):
        model.instance_truth(sample)


def test_labels_of_other_classes_are_refused(model):
    sample = scene()["data_samples"]
    sample.gt_instances.labels += 50
    with pytest.raises(ValueError, match="not all in thing_labels"):
        model.instance_truth(sample)


def test_masks_must_be_bitmaps(model):
    data = batch(model, [scene()])
    truth = data["data_samples"][0].gt_instances
    truth.masks = truth.masks.to_tensor(torch.bool, "cpu")
    with pytest.raises(ValueError, match=r"are Tensor.*mask_format=.bitmap"):
        model.train()(**data, mode="loss")


def test_two_losses_of_one_name_are_refused(model, monkeypatch):
    monkeypatch.setattr(model.roi_head, "loss", lambda *_: {"loss_semantic": torch.zeros(())})
    with pytest.raises(ValueError, match="two heads return the loss loss_semantic"):
        model.train()(**batch(model, [scene()]), mode="loss")


def test_modes_are_checked(model):
    with pytest.raises(ValueError, match="mode must be"):
        model(torch.zeros(1, 3, 64, 64), mode="train")


def test_channels_last_gives_the_same_outputs(model):
    other = build_two_stage(channels_last=True).eval()
    other.load_state_dict(model.state_dict())
    model.eval()
    with torch.no_grad():
        inputs = batch(model, [scene()], False)["inputs"]
        ours, theirs = model.forward_heads(inputs), other.forward_heads(inputs)
    torch.testing.assert_close(ours.semantic, theirs.semantic, rtol=1e-3, atol=1e-4)


def test_class_agnostic_masks_have_one_channel():
    model = build_two_stage(**{"roi_head.mask_head.class_agnostic": True}).eval()
    with torch.no_grad():
        (found,) = model.forward_heads(**batch(model, [scene()], False)).instance
    assert found.mask_logits.shape == (len(found), 28, 28)


def test_boxes_are_scaled_by_width_and_height():
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    meta = {"img_shape": (10, 20), "ori_shape": (20, 60)}
    assert to_original_size(boxes, meta).tolist() == [[3.0, 4.0, 9.0, 8.0]]
    assert to_original_size(boxes, {"img_shape": (10, 20)}).tolist() == boxes.tolist()


def test_mmdets_own_conventions_train_and_predict():
    """What panoptic-fpn-modern.py changes, at the size of the small model."""
    modern = Config.fromfile(CONFIG.with_name("panoptic-fpn-modern.py")).model
    cfg = tiny_two_stage()
    cfg.inclusive_boxes = modern.inclusive_boxes
    for name in ("anchor_generator", "bbox_coder"):
        cfg.rpn_head[name] = dict(modern.rpn_head[name])
    for name in ("bbox", "mask"):
        extractor = {**modern.roi_head[f"{name}_roi_extractor"], "out_channels": 16}
        cfg.roi_head[f"{name}_roi_extractor"] = extractor
    cfg.roi_head.bbox_head["bbox_coder"] = dict(modern.roi_head.bbox_head.bbox_coder)
    cfg.train_cfg, cfg.test_cfg = modern.train_cfg, modern.test_cfg
    cfg.fusion_head.mask_mode = modern.fusion_head.mask_mode
    model = MODELS.build(cfg)
    loss = total(model.train()(**batch(model, [scene()]), mode="loss"))
    loss.backward()
    assert torch.isfinite(loss)
    with torch.no_grad():
        (sample,) = model.eval()(**batch(model, [scene()], False), mode="predict")
    assert sample.pred_panoptic_seg.index_map.shape == (1, 64, 96)


def test_a_fusion_head_of_another_stride_is_refused():
    with pytest.raises(ConfigError, match="set fusion_head"):
        build_two_stage(**{"fusion_head.stride": 2})


def test_logits_of_stride_2_are_enlarged_twice():
    head = HeuristicFusionHead(thing_labels=(0,), stuff_labels=(1, 2), stuff_area=0, stride=2)
    logits = torch.zeros(1, 4, 8, 8)
    logits[:, 1, :, :4], logits[:, 2, :, 4:] = 1.0, 1.0
    empty = InstanceData(
        bboxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.long),
        mask_logits=torch.zeros(0, 28, 28),
    )
    (result,) = head.predict(logits, [empty], [{"img_shape": (16, 16), "ori_shape": (16, 16)}])
    first, second = result["pred_panoptic_seg"].segments_info
    assert first["area"] + second["area"] == 16 * 16
    assert abs(first["area"] - second["area"]) <= 2 * 16
