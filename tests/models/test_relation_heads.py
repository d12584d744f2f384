"""Relation head, occlusion head, their losses and the RoI head that holds them."""

from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch.nn import functional

from mmpanoptic.datasets.shapes.catalog import SHAPES_TABLE
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.models.losses import PairwiseRankingLoss
from mmpanoptic.models.roi_heads import OcclusionHead, RelationHead
from mmpanoptic.registry import MODELS

ROOT = Path(__file__).parents[2]
SMALL = {"in_channels": 6, "channels": 8, "fc_channels": 10}
EXTRA = {
    "relation_head": {"type": "RelationHead", "in_channels": 64, "channels": 8, "fc_channels": 16},
    "occlusion_head": {
        "type": "OcclusionHead",
        "in_channels": 64,
        "channels": 8,
        "fc_channels": 16,
    },
}


@pytest.fixture(autouse=True)
def own_scope():
    """Names without a prefix are ours, as in the runner."""
    with DefaultScope.overwrite_default_scope("mmpanoptic"):
        yield


def random_relations(count, seed=0):
    rank = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, count))
    return rank[:, None] < rank[None]


def inputs(count, seed=0):
    return torch.randn(count, 7, 14, 14, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
def test_ranking_loss_equals_the_double_loop(seed):
    sizes = (5, 0, 7)
    values = [torch.randn(n, dtype=torch.float64).float() for n in sizes]
    relations = [random_relations(n, seed + n) for n in sizes]
    terms = [
        np.log1p(np.exp(float(z[i] - z[j])))
        for z, first in zip(values, relations, strict=True)
        for i, j in first.nonzero().tolist()
    ]
    loss = PairwiseRankingLoss(loss_weight=2.0)(values, relations)
    assert loss.item() == pytest.approx(2 * np.mean(terms), rel=1e-5)


def test_ranking_loss_has_the_right_gradient():
    z = torch.randn(6, dtype=torch.float64, requires_grad=True)

    class Double(PairwiseRankingLoss):
        """The loss computes in float32, too coarse for finite differences."""

    loss = Double()([z], [random_relations(6)])
    loss.backward()
    step = 1e-2
    for k in range(6):
        shift = torch.zeros(6, dtype=torch.float64)
        shift[k] = step
        ends = [Double()([z.detach() + s * shift], [random_relations(6)]) for s in (1, -1)]
        slope = (ends[0] - ends[1]).item() / (2 * step)
        assert z.grad[k].item() == pytest.approx(slope, abs=1e-4)


def test_ranking_loss_without_pairs_is_zero_and_connected():
    z = torch.randn(4, requires_grad=True)
    loss = PairwiseRankingLoss()([z], [torch.zeros(4, 4, dtype=torch.bool)])
    loss.backward()
    assert loss.item() == 0
    assert z.grad.tolist() == [0, 0, 0, 0]


def test_ranking_loss_of_half_precision_values_is_computed_in_float32():
    z = torch.tensor([-300.0, 300.0], dtype=torch.float16)
    first = torch.tensor([[False, False], [True, False]])
    assert PairwiseRankingLoss()([z], [first]).item() == 600


def test_occlusion_head_equals_the_stacked_convolution():
    head, x = OcclusionHead(**SMALL, pairs_per_batch=3), inputs(4)
    head.init_weights()
    pairs = torch.tensor([[0, 1], [1, 0], [3, 0], [3, 3]])
    stacked = torch.cat([x[pairs[:, 0]], x[pairs[:, 1]]], 1)
    for conv in head.convs:
        stacked = functional.relu(conv(stacked))
    logits = head.predictor(functional.relu(head.fc(stacked.flatten(1))))[:, 0]
    torch.testing.assert_close(head(x, pairs), logits.sigmoid(), rtol=1e-4, atol=1e-5)
    assert head(x, pairs[:0]).shape == (0,)


def test_occlusion_head_trains_on_both_directions():
    head, x = OcclusionHead(**SMALL), inputs(5)
    relations = [torch.tensor([[False, True], [False, False]]), torch.zeros(3, 3).bool()]
    loss = head.loss(x, relations)["loss_occlusion"]
    probability = head(x, torch.tensor([[0, 1], [1, 0]]))
    expected = -(probability[0].log() + (1 - probability[1]).log()) / 2
    torch.testing.assert_close(loss, expected)


def test_occlusion_head_draws_from_many_pairs():
    head, x = OcclusionHead(**SMALL, max_samples=6), inputs(10)
    pairs, target = head._samples([random_relations(10)])
    assert pairs.shape == (6, 2)
    front = random_relations(10)
    assert torch.equal(front[pairs[:, 0], pairs[:, 1]], target.bool())
    assert (front | front.T)[pairs[:, 0], pairs[:, 1]].all()
    assert head.loss(x, [random_relations(10)])["loss_occlusion"] > 0


@pytest.mark.parametrize(
    ("head", "name"), [(RelationHead, "relation"), (OcclusionHead, "occlusion")]
)
def test_heads_without_pairs_give_a_connected_zero(head, name):
    head = head(**SMALL)
    loss = head.loss(inputs(3), [torch.zeros(3, 3).bool()])[f"loss_{name}"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


def test_initialisation_is_the_published_one():
    head = RelationHead()
    head.init_weights()
    assert head.predictor.weight.std().item() == pytest.approx(0.01, rel=0.1)
    fan_out = 256 * 9
    assert head.convs[1].weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    bound = (3 / head.fc.in_features) ** 0.5
    assert head.fc.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert not any(p.any() for n, p in head.named_parameters() if n.endswith("bias"))


def sample_with_relations(size=(128, 192), offset=0):
    """Three things, the second in front of the first."""
    from mmdet.structures.mask import BitmapMasks

    boxes = torch.tensor([[10, 10, 60, 60], [40, 20, 90, 80], [100, 50, 150, 110]]) + offset
    masks = np.zeros((3, *size), np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    sample = DetDataSample(
        metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1, 1), "pad_shape": size}
    )
    occluders = torch.zeros(3, 3, dtype=torch.bool)
    occluders[0, 1] = True
    sample.gt_instances = InstanceData(
        bboxes=boxes.float(),
        labels=torch.tensor(SHAPES_TABLE.thing_labels[:3]),
        masks=BitmapMasks(masks, *size),
        instance_index=torch.arange(3),
        occluders=occluders,
    )
    sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, *size, dtype=torch.long))
    return sample


def tiny_model(**options):
    """The small Panoptic FPN with both heads."""
    cfg = Config.fromfile(ROOT / "configs/rap/panoptic-fpn_r18-tiny.py")
    cfg.merge_from_dict({"model": {"roi_head": {"type": "RelationRoIHead", **EXTRA}, **options}})
    resolve_config(cfg, SHAPES_TABLE.to_metainfo())
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def test_fine_tuning_changes_the_extra_heads_and_nothing_else():
    model = tiny_model(train_extra_heads_only=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == 24
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4)
    samples = [sample_with_relations(), sample_with_relations(offset=8)]
    losses = model.loss(torch.randn(2, 3, 128, 192), samples)
    assert set(losses) == {"loss_relation", "loss_occlusion"}
    assert all(loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    optimizer.step()
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    # Differences of values do not depend on what is added to all of them.
    assert trainable - changed <= {"roi_head.relation_head.predictor.bias"}
    assert changed <= trainable


def test_joint_training_has_all_losses():
    losses = tiny_model().loss(torch.randn(1, 3, 128, 192), [sample_with_relations()])
    assert {"loss_relation", "loss_occlusion", "loss_mask", "loss_semantic"} <= set(losses)


def test_ground_truth_without_relations_is_an_error():
    sample = sample_with_relations()
    del sample.gt_instances.occluders
    with pytest.raises(ValueError, match=r"coco_relations\.py"):
        tiny_model().loss(torch.randn(1, 3, 128, 192), [sample])


def test_instances_of_small_score_are_not_ranked():
    model = tiny_model()
    found = InstanceData(scores=torch.tensor([0.9, 0.3]), mask_logits=torch.zeros(2, 28, 28))
    model.roi_head.relation_score_thr = 0.5
    with torch.no_grad():
        model.roi_head.add_predictions(torch.randn(2, 64, 14, 14), found)
    assert torch.isfinite(found.relation_values).tolist() == [True, False]
    assert len(found[torch.tensor([1, 0])].occlusion) == 2


def test_both_heads_work_in_mmdets_mask_rcnn_by_config_alone():
    folder = Path(mmdet.__file__).parent / ".mim/configs/_base_/models"
    cfg = Config.fromfile(folder / "mask-rcnn_r50_fpn.py").model
    cfg.backbone.update(depth=18, init_cfg=None)
    cfg.neck.in_channels = [64, 128, 256, 512]
    cfg.type, cfg._scope_ = "mmdet.MaskRCNN", "mmdet"
    cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    extra = {
        name: {**head, "in_channels": 256, "type": f"mmpanoptic.{head['type']}"}
        for name, head in EXTRA.items()
    }
    cfg.roi_head.update(type="mmpanoptic.RelationRoIHead", **extra)
    model = MODELS.build(cfg)
    sample = sample_with_relations()
    sample.gt_instances.labels = torch.tensor([0, 5, 7])
    losses = model.loss(torch.randn(1, 3, 128, 192), [sample])
    assert losses["loss_relation"] > 0
    assert losses["loss_occlusion"] > 0
    model.eval()
    with torch.no_grad():
        (result,) = model.predict(torch.randn(1, 3, 128, 192), [sample])
    assert result.pred_instances.relation_values.shape == (5,)
    probability = result.pred_instances.occlusion(torch.tensor([[0, 1], [4, 2]]))
    assert ((probability > 0) & (probability < 1)).all()


def test_a_head_without_heads_is_refused():
    cfg = Config.fromfile(ROOT / "configs/rap/panoptic-fpn_r18-tiny.py")
    cfg.model.roi_head.type = "RelationRoIHead"
    resolve_config(cfg, SHAPES_TABLE.to_metainfo())
    with pytest.raises(ValueError, match="relation_head, an occlusion_head"):
        MODELS.build(cfg.model)


def test_images_without_detections_and_proposals_work():
    model = tiny_model()
    found = InstanceData(scores=torch.zeros(0), mask_logits=torch.zeros(0, 28, 28))
    with torch.no_grad():
        model.roi_head.add_predictions(torch.zeros(0, 64, 14, 14), found)
    assert found.relation_values.shape == (0,)
    assert found.occlusion(torch.zeros(0, 2, dtype=torch.long)).shape == (0,)
    for name in ("relation_head", "occlusion_head"):
        losses = getattr(model.roi_head, name).loss(
            torch.zeros(0, 65, 14, 14), [torch.zeros(0, 0, dtype=torch.bool)] * 2
        )
        (loss,) = losses.values()
        loss.backward()
        assert loss.item() == 0


def test_heads_work_under_autocast():
    model = tiny_model(train_extra_heads_only=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.loss(torch.randn(1, 3, 128, 192), [sample_with_relations()])
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("size", [8, 14])
def test_heads_take_features_of_other_sizes(size):
    x = torch.randn(3, 5, size, size)
    relation = RelationHead(4, 8, fc_channels=8, roi_feat_size=size)
    occlusion = OcclusionHead(4, 8, fc_channels=8, roi_feat_size=size)
    assert relation(x).shape == (3,)
    assert occlusion(x, torch.tensor([[0, 1], [2, 0]])).shape == (2,)


def test_losses_of_the_heads_are_options():
    x = torch.randn(3, 5, 14, 14)
    relations = [torch.tensor([[0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)]
    losses = []
    for factor in (1.0, 2.0):
        torch.manual_seed(0)
        loss = {"type": "PairwiseRankingLoss", "loss_weight": factor}
        relation = RelationHead(4, 8, fc_channels=8, loss=loss)
        occlusion = OcclusionHead(4, 8, fc_channels=8, loss_weight=factor)
        losses.append({**relation.loss(x, relations), **occlusion.loss(x, relations)})
    assert losses[0].keys() == {"loss_relation", "loss_occlusion"}
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], 2 * value)
