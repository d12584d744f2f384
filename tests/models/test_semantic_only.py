import copy

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper

from mmpanoptic.models.fusion_heads import SemanticOnlyHead
from mmpanoptic.models.postprocess import ResizedLogits
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import semantic_map
from tests.models.builders import NUM_CLASSES, THINGS, make_batch, tiny_config

SIZES = ((48, 64), (40, 80))


def semantic_config() -> dict:
    """A small DeepLabV3+: one predictor behind the decoder, losses from gt_sem_seg alone."""
    config = copy.deepcopy(tiny_config())
    config["semantic_head"].update(
        head_channels=None, separable=False, small_instance_area=0, project_channels=(8, 8)
    )
    config["fusion_head"] = {
        "type": "SemanticOnlyHead",
        "num_classes": NUM_CLASSES,
        "thing_labels": THINGS,
    }
    del config["instance_head"]
    return config


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = MODELS.build(semantic_config())
    model.init_weights()
    return model


def test_the_predictor_follows_the_decoder(model):
    assert not list(model.semantic_head.head.parameters())
    assert model.semantic_head.predictor.in_channels == model.semantic_head.decoder.out_channels


def test_training_needs_no_panoptic_ground_truth_and_learns(model):
    def batch():
        samples = make_batch(*SIZES)
        for sample in samples["data_samples"]:
            del sample.gt_panoptic_seg
        return samples

    wrapper = OptimWrapper(torch.optim.Adam(model.parameters(), 3e-3))
    model.train()
    history = [model.train_step(batch(), wrapper) for _ in range(25)]
    assert history[0].keys() == {"loss", "loss_semantic"}
    assert history[-1]["loss_semantic"] < 0.9 * history[0]["loss_semantic"]


def test_predictions_have_the_size_of_the_original_images(model):
    torch.nn.init.normal_(model.semantic_head.predictor.weight)
    batch = make_batch(*SIZES)
    for sample, size in zip(batch["data_samples"], ((96, 128), (41, 79)), strict=True):
        sample.set_metainfo({"ori_shape": size})
    with torch.no_grad():
        samples = model.eval().val_step(batch)
    for sample in samples:
        assert sample.pred_sem_seg.sem_seg.shape == (1, *sample.ori_shape)
        assert "pred_instances" not in sample


def test_labels_are_the_argmax_of_the_enlarged_logits():
    head = SemanticOnlyHead(NUM_CLASSES, THINGS)
    logits = torch.randn(1, NUM_CLASSES, 6, 8)
    meta = {"img_shape": (21, 30), "ori_shape": (42, 60)}
    (result,) = head.predict(logits, None, [meta])
    full = torch.nn.functional.interpolate(logits, (24, 32), mode="bilinear")[..., :21, :30]
    full = torch.nn.functional.interpolate(full, (42, 60), mode="bilinear")
    assert torch.equal(result["pred_sem_seg"].sem_seg, full.argmax(1))


def test_every_class_that_occurs_is_one_segment():
    head = SemanticOnlyHead(NUM_CLASSES, THINGS)
    semantic = torch.tensor([[1, 1, 5, 5], [1, 1, 5, 0], [1, 1, 1, 5]])
    logits = torch.nn.functional.one_hot(semantic, NUM_CLASSES).permute(2, 0, 1).float()
    result = head.predict_single(ResizedLogits(logits, 1, (3, 4), (3, 4)))
    panoptic = result["pred_panoptic_seg"]
    np.testing.assert_array_equal(semantic_map(panoptic)[0], semantic)
    assert panoptic.segments_info == [
        {"id": 1, "label": 0, "isthing": False, "score": 1.0, "area": 1, "bbox": [3, 1, 1, 1]},
        {"id": 2, "label": 1, "isthing": False, "score": 1.0, "area": 7, "bbox": [0, 0, 3, 3]},
        {"id": 3, "label": 5, "isthing": True, "score": 1.0, "area": 4, "bbox": [2, 0, 2, 3]},
    ]


def test_half_precision_predictions_work_under_autocast(model):
    batch = model.data_preprocessor(make_batch((48, 64)), training=False)
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        (sample,) = model(**batch, mode="predict")
    assert sample.pred_sem_seg.sem_seg.shape == (1, 48, 64)


def test_mirrored_logits_are_averaged_with_the_others():
    head = SemanticOnlyHead(NUM_CLASSES, THINGS)
    logits = torch.randn(NUM_CLASSES, 6, 8)
    meta = {"img_shape": (24, 32), "ori_shape": (42, 60)}
    (expected,) = head.predict(logits[None], None, [meta])
    metas = [meta, {**meta, "flip": True, "flip_direction": "horizontal"}]
    result = head.predict_augmented([logits, logits.flip(-1)], [None, None], metas)
    assert torch.equal(result["pred_sem_seg"].sem_seg, expected["pred_sem_seg"].sem_seg)
