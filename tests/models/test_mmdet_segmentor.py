"""MaskFormer and Mask2Former of mmdet compute as guests what mmdet computes, on our samples."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

from mmpanoptic.apis import get_config, init_model
from mmpanoptic.checkpoints import CheckpointError
from mmpanoptic.checkpoints.mmdet_mask_keys import MMDetMaskKeyMap
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS, ConfigError
from tests.models.mask_transformer_builders import images, sample

LEAVES = {
    "mask2former": "mask2former_r18-tiny_1xb8-800_shapes",
    "maskformer": "maskformer_r50_16xb1-554k_coco",
}
CLASSES = (("sky", False), ("car", True), ("road", False))
META = {
    "classes": tuple(name for name, _ in CLASSES),
    "isthing": tuple(thing for _, thing in CLASSES),
    "dataset_ids": (1, 2, 3),
    "palette": ((0, 0, 0), (9, 9, 9), (5, 5, 5)),
}
THIN = {"embed_dims": 16, "num_heads": 2, "dropout": 0.0}
FEED = {"embed_dims": 16, "feedforward_channels": 32, "ffn_drop": 0.0}


def tiny(family, **options):
    """The model of a shipped config, made small."""
    cfg = get_config(LEAVES[family])
    layer = {"self_attn_cfg": THIN, "ffn_cfg": FEED}
    head = {
        "in_channels": [8, 16, 32, 64],
        "feat_channels": 16,
        "out_channels": 16,
        "num_queries": 8,
        "pixel_decoder": {
            "norm_cfg": {"num_groups": 4},
            "encoder": {"num_layers": 1, "layer_cfg": layer},
            "positional_encoding": {"num_feats": 8},
        },
        "positional_encoding": {"num_feats": 8},
        "transformer_decoder": {"num_layers": 2, "layer_cfg": {**layer, "cross_attn_cfg": THIN}},
    }
    backbone = {"depth": 18, "base_channels": 8, "init_cfg": None}
    if family == "mask2former":  # a backbone of ours
        backbone = {"base_width": 8, "stem_channels": 8, "norm_cfg": {"type": "BN"}}
    cfg.merge_from_dict({"model": {"detector": {"backbone": backbone, "panoptic_head": head}}})
    if family == "mask2former":
        cfg.merge_from_dict({"model": {"detector": {"train_cfg": {"num_points": 64}}}})
    cfg.merge_from_dict(options)
    return resolve_config(cfg, dataset_meta=META).model


def build(config):
    init_default_scope("mmpanoptic")
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(config))
    model.init_weights()
    return model


def build_mmdets(config, model):
    """mmdet's own detector with the weights of a guest."""
    detector = {**config.detector, "_scope_": "mmdet"}
    head = {**config.detector.panoptic_head, "num_things_classes": 1, "num_stuff_classes": 2}
    loss = {**head["loss_cls"], "class_weight": [1.0, 1.0, 1.0, 0.1]}
    detector["panoptic_head"] = {**head, "loss_cls": loss}
    fusion = {"type": "MaskFormerFusionHead", "num_things_classes": 1, "num_stuff_classes": 2}
    detector["panoptic_fusion_head"] = fusion
    detector["test_cfg"] = {"panoptic_on": True}
    theirs = MODELS.build(ConfigDict(detector))
    own = {n: v for n, v in model.state_dict().items() if not n.startswith("data_pre")}
    theirs.load_state_dict(own, strict=True)
    return theirs


def things_first(samples):
    """Mmdet's ground truth: car is 0, sky 1, road 2; boxes' masks and a semantic map."""
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData, PixelData

    for one in samples:
        ids = one.gt_panoptic_seg.index_map[0]
        cars = [(ids == 2).numpy()] if (ids == 2).any() else []
        one.gt_instances = InstanceData(
            labels=torch.zeros(len(cars), dtype=torch.int64),
            masks=BitmapMasks(cars, *ids.shape),
        )
        semantic = torch.full_like(ids, 255, dtype=torch.int64)
        semantic[(ids == 1) | (ids == 5)] = 1
        one.gt_sem_seg = PixelData(sem_seg=semantic[None])
    return samples


def swap_classes(model):
    """Give a guest, whose sky is 0 and car 1, the class layer of a model with things first."""
    order = torch.tensor([1, 0, 2, 3])
    layer = model.panoptic_head.cls_embed
    with torch.no_grad():
        layer.weight.copy_(layer.weight[order])
        layer.bias.copy_(layer.bias[order])


@pytest.mark.parametrize("family", LEAVES)
def test_logits_and_losses_are_mmdets(family):
    config = tiny(family)
    model = build(config).train()
    theirs = build_mmdets(config, model).train()
    swap_classes(model)
    samples = [sample(), sample(empty=True)]
    torch.manual_seed(3)
    expected = theirs.loss(images(), things_first([sample(), sample(empty=True)]))
    torch.manual_seed(3)
    losses = model(images(), samples, mode="loss")
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, atol=1e-5, rtol=1e-5, msg=name)
    sum(losses.values()).backward()
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    assert not [name for name, one in trained.items() if one.grad is None]
    model.eval()
    theirs.eval()
    with torch.no_grad():
        ours = model(images())
        classes, masks = theirs._forward(images(), samples)
    order = torch.tensor([1, 0, 2, 3])
    torch.testing.assert_close(ours.semantic, classes[-1][..., order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.instance, masks[-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", LEAVES)
def test_predictions_are_maps_of_the_original_size(family):
    model = build(tiny(family, **{"model.fusion_head.score_thr": 0.0})).eval()
    one = sample()
    one.set_metainfo({"img_shape": (64, 60), "ori_shape": (100, 90)})
    with torch.no_grad():
        (found,) = model(images(1), [one], mode="predict")
    panoptic = found.pred_panoptic_seg
    assert panoptic.index_map.shape == (1, 100, 90)
    assert set(panoptic.index_map.unique().tolist()) - {0} == {
        segment["id"] for segment in panoptic.segments_info
    }


def test_settings_that_would_do_nothing_are_refused():
    config = tiny("mask2former")
    wrong = {
        "num_things_classes": "classes come from the dataset",
        "loss_cls.class_weight": 'needs 3 numbers and one of "no object"',
        "type": "must be Mask2FormerHead in a mmdet.Mask2Former",
    }
    for place, message in wrong.items():
        changed = copy.deepcopy(config)
        node = changed.detector.panoptic_head
        *way, last = place.split(".")
        for name in way:
            node = node[name]
        node[last] = "MaskFormerHead" if last == "type" else [1.0, 1.0]
        with pytest.raises(ConfigError, match=message):
            build(changed)
    for name, message in {
        "test_cfg": r"set model\.fusion_head\.score_thr",
        "data_preprocessor": r"set model\.data_preprocessor",
        "bbox_head": "it may have type, backbone",
    }.items():
        changed = copy.deepcopy(config)
        changed.detector[name] = {"a": 1}
        with pytest.raises(ConfigError, match=message):
            build(changed)
    config.detector.type = "mmdet.DETR"
    with pytest.raises(ConfigError, match=r"must be one of mmdet\.MaskFormer"):
        build(config)


def test_a_checkpoint_of_mmdet_is_loaded_as_it_is(tmp_path):
    config = tiny("mask2former")
    model = build(config)
    state = build_mmdets(config, model).state_dict()
    assert MMDetMaskKeyMap(model).to_ours(state).keys() == state.keys()
    meta = {"mmdet_version": "3.0.0", "config": "text", "iter": 368750}
    torch.save({"state_dict": state, "meta": meta}, tmp_path / "published.pth")
    cfg = get_config(LEAVES["mask2former"])
    cfg.model = config
    loaded = init_model(cfg, tmp_path / "published.pth", device="cpu")
    for name, value in state.items():
        assert torch.equal(loaded.state_dict()[name], value), name
    state.pop("panoptic_head.query_embed.weight")
    torch.save({"state_dict": state, "meta": meta}, tmp_path / "half.pth")
    with pytest.raises(CheckpointError):
        init_model(cfg, tmp_path / "half.pth", device="cpu")


def test_the_class_layer_alone_depends_on_the_classes():
    key_map = MMDetMaskKeyMap(build(tiny("mask2former")))
    state = {name: torch.zeros(shape) for name, shape in key_map.shapes.items()}
    placed = key_map.place(state, new_classes=True).tensors
    assert key_map.shapes.keys() - placed.keys() == {
        "panoptic_head.cls_embed.weight",
        "panoptic_head.cls_embed.bias",
    }
