"""Auto-Panoptic's networks against numbers of the published implementation.

Every parameter comes from the golden files; see ``tests/data/golden/auto_panoptic/README.md``.
"""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.checkpoints.auto_panoptic_keys import AutoPanopticKeyMap
from mmpanoptic.models.layers import set_path
from mmpanoptic.registry import MODELS
from tests.data.golden.panoptic_deeplab import synthetic_checkpoint
from tests.golden import golden_files
from tests.parity.auto_panoptic_weights import COCO_3_8G, SYSTEM, model_config, relative
from tests.reference import auto_panoptic as plain

SEARCHED, SUPERNET = "manifest_coco_3.8g.json", "manifest_supernet_1.3g.json"
GROUPS = ("backbone", "mask", "semantic", "f2b", "b2f")
SIZES = (40, 4, 3, 4, 5)


def files(pattern: str) -> list:
    return [pytest.param(path, id=path.stem) for path in golden_files(SYSTEM, pattern)]


def load(path) -> dict:
    with np.load(path) as data:
        return {key: data[key] for key in data.files}


@lru_cache(maxsize=1)  # the supernet is large; its tests come last
def model_of(manifest: str):
    init_default_scope("mmpanoptic")
    model = MODELS.build(model_config(COCO_3_8G if manifest == SEARCHED else None))
    (path,) = golden_files(SYSTEM, manifest)
    weights = synthetic_checkpoint.synthetic_state_dict(json.loads(path.read_text()))
    model.load_state_dict(AutoPanopticKeyMap(model).to_ours(weights))
    return model.eval().requires_grad_(False)


def inputs_of(model, meta) -> torch.Tensor:
    seed, height, width, count = map(int, meta[:4])
    images = [synthetic_checkpoint.synthetic_image(seed + i, height, width) for i in range(count)]
    batch = {"inputs": [torch.from_numpy(image) for image in images], "data_samples": None}
    return model.data_preprocessor(batch)["inputs"]


def stat(x: torch.Tensor) -> np.ndarray:
    x = x.double()
    return np.array([x.mean(), x.std(correction=0), x.abs().max()])


def run(model, x: torch.Tensor, form: str) -> dict:
    """Everything up to the semantic logits, rewritten as in the model, or plain."""
    body = model.backbone(x)
    fpn = model.neck(body)
    if form == "plain":
        return {"body": body, "fpn": fpn, **plain.exchange(model, fpn)}
    fused, score = model.exchange(fpn)
    levels = model.semantic_head.extract(fpn)
    attention = plain.attend(model, fpn, levels)
    return {"body": body, "fpn": fpn, **attention, "fused": fused, "score": score}


def check_features(out: dict, data: dict, step: int, prefix: str = "") -> None:
    for name in ("body", "fpn", "segfeat", "fused"):
        for i, x in enumerate(out[name]):
            key = f"{prefix}{name}{i}"
            assert relative(x[:, ::step], data[key]) < 1e-5, key
            assert relative(stat(x), data[f"{key}_stat"]) < 1e-3, key
    for name in ("f2b_attention", "b2f_attention"):
        assert relative(torch.stack(out[name]), data[prefix + name]) < 1e-5


FORMS = pytest.mark.parametrize("form", ["rewritten", "plain"])


@FORMS
@pytest.mark.parametrize("path", files("searched_coco_forward*.npz"))
def test_searched_network(path, form):
    data, model = load(path), model_of(SEARCHED)
    x = inputs_of(model, data["meta"])
    out = run(model, x, form)
    check_features(out, data, 8)
    assert relative(out["score"], data["score"]) < 1e-5
    full = plain.enlarge(out["score"], x.shape[2:])
    assert relative(full[:, ::9, ::2, ::2], data["logits_sub"]) < 1e-5
    assert (full.argmax(1).numpy() == data["sem_argmax"]).mean() > 0.999
    objectness, deltas = model.rpn_head(out["fused"])
    for i in range(len(objectness)):
        assert relative(objectness[i], data[f"rpn_obj{i}"]) < 1e-5
        assert relative(deltas[i], data[f"rpn_reg{i}"]) < 1e-5


def publish_classes(x: torch.Tensor, per_class: int = 1) -> torch.Tensor:
    """Our order of classes (background last) to the published one (first)."""
    return x.roll(per_class, 1)


def detections_agree(result, boxes, scores, labels, tolerance: float) -> None:
    """Compare sets of boxes: each by class, score and place."""
    assert len(result.scores) == len(scores)
    close = np.abs(result.bboxes.numpy()[:, None] - boxes[None]).max(2) < tolerance
    close &= np.abs(result.scores.numpy()[:, None] - scores[None]) < 1e-4
    close &= result.labels.numpy()[:, None] == labels[None]
    assert close.any(0).all()
    assert close.any(1).all()


@pytest.mark.parametrize("path", files("searched_coco_heads*.npz"))
def test_heads(path):
    data, model = load(path), model_of(SEARCHED)
    x = inputs_of(model, data["meta"])
    feats, _ = model.exchange(model.extract_feat(x))
    head = model.roi_head
    given = torch.from_numpy(data["boxes"])  # (images, K, 4)
    image = torch.arange(len(given)).repeat_interleave(given.shape[1])
    rois = torch.cat([image[:, None].float(), given.flatten(0, 1)], 1)
    np.testing.assert_array_equal(
        head.bbox_roi_extractor.map_roi_levels(rois, 4), data["levels"].astype(int)
    )
    boxes = head._bbox_forward(feats, rois)
    assert relative(boxes["bbox_feats"][:, ::32], data["box_pool"]) < 1e-5
    vectors = boxes["bbox_feats"].flatten(1)
    for layer in head.bbox_head.shared_fcs:
        vectors = layer(vectors).relu()
    assert relative(vectors[:, ::4], data["box_feat"]) < 1e-5
    assert relative(publish_classes(boxes["cls_score"]), data["cls_logits"]) < 1e-5
    assert relative(boxes["bbox_pred"], data["bbox_deltas"][:, 4:]) < 1e-5
    masks = head._mask_forward(feats, rois)
    assert relative(masks["mask_feats"][:4, ::32], data["mask_pool"]) < 1e-5
    layers = masks["mask_feats"]
    for layer in head.mask_head.convs:
        layers = layer(layers)
    assert relative(layers[:4, ::16], data["mask_feat"]) < 1e-5
    classes = data["mask_logits"].shape[1]
    ours = masks["mask_preds"][:3, 15::16]  # published channel 16 is our class 15
    assert relative(ours, data["mask_logits"][:, 1:classes]) < 1e-5
    metas = [{"img_shape": tuple(x.shape[2:])} for _ in given]
    proposals = [InstanceData(bboxes=boxes) for boxes in given]
    results = head.predict_bbox(feats, metas, proposals, head.test_cfg, False)
    for i, result in enumerate(results):
        expected = [data[f"det_{name}{i}"] for name in ("boxes", "scores", "labels")]
        detections_agree(result, expected[0], expected[1], expected[2] - 1, 1e-2)


@pytest.mark.parametrize("path", files("searched_coco_detect*.npz"))
def test_end_to_end(path):
    data, model = load(path), model_of(SEARCHED)
    x = inputs_of(model, data["meta"])
    samples = [
        DetDataSample(metainfo={"img_shape": tuple(x.shape[2:]), "ori_shape": tuple(out_size)})
        for out_size in data["ori_sizes"].tolist()
    ]
    feats, semantic = model.exchange(model.extract_feat(x))
    proposals = model.propose(feats, [sample.metainfo for sample in samples])
    results = model.roi_head.predict(feats, proposals, samples, rescale=False)
    for i, sample in enumerate(samples):
        check_proposals(proposals[i], data[f"proposals{i}"], data[f"objectness{i}"])
        check_detections(results[i], data, i)
        channels = model.fusion_head.semantic_channels(semantic[i], sample.metainfo)
        assert (channels.numpy() == data[f"stuff_map{i}"]).mean() > 0.999


def check_proposals(found, boxes, objectness) -> None:
    assert len(found) == len(boxes)
    np.testing.assert_allclose(found.bboxes, boxes, rtol=0, atol=2e-3)
    np.testing.assert_allclose(found.scores, objectness, rtol=0, atol=1e-5)


def check_detections(result, data: dict, i: int) -> None:
    boxes, masks = data[f"boxes{i}"], data[f"mask_prob{i}"]
    detections_agree(result, boxes, data[f"scores{i}"], data[f"labels{i}"] - 1, 1e-2)
    order = [
        int(np.abs(result.bboxes.numpy() - box).max(1).argmin()) for box in boxes[: len(masks)]
    ]
    assert relative(result.mask_logits[order].sigmoid(), masks[:, 0]) < 1e-3


@pytest.mark.parametrize("path", files("seg_loss*.npz"))
def test_semantic_loss(path):
    data = load(path)
    head = model_of(SEARCHED).semantic_head
    rng = np.random.RandomState(int(data["seed"][0]))
    sizes = [tuple(map(int, size)) for size in data["sizes"]]
    shape = (2, 128, 16, 16)
    levels = [torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for _ in range(4)]
    outputs = head.classify(levels, list(torch.from_numpy(data["attention"])))
    full = plain.enlarge(outputs, (shape[2] * head.stride, shape[3] * head.stride))
    assert relative(full[:, ::9, ::2, ::2], data["logits_sub"]) < 1e-5
    label_of_channel = np.append(0, np.arange(80, 80 + 175))
    samples = []
    for i, (height, width) in enumerate(sizes):
        target = data[f"target{i}"].astype(np.int64)
        label = np.full((1, *full.shape[2:]), 255)
        label[0, :height, :width] = np.where(target == 255, 255, label_of_channel[target % 176])
        sample = DetDataSample(metainfo={"img_shape": (height, width)})
        sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(label))
        samples.append(sample)
    loss = head.loss_by_feat(outputs, samples)["loss_semantic"]
    assert loss.item() == pytest.approx(head.loss_weight * float(data["loss"][0]), rel=1e-5)


@FORMS
@pytest.mark.parametrize("path", files("supernet_paths*.npz"))
def test_paths_of_the_supernet(path, form):
    data, model = load(path), model_of(SUPERNET)
    x = inputs_of(model, data["meta"])
    rng = np.random.RandomState(int(data["roi_feature_seed"][0]))
    pooled = torch.from_numpy(rng.standard_normal((2, 256, 14, 14)).astype(np.float32))
    names = [f"{name}.{i}" for name, n in zip(GROUPS, SIZES, strict=True) for i in range(n)]
    for number, choices in enumerate(data["paths"].tolist()):
        set_path(model, dict(zip(names, choices, strict=True)))
        prefix = f"path{number}_"
        out = run(model, x, form)
        check_features(out, data, 32, prefix)
        assert relative(out["score"][:, ::3], data[f"{prefix}score"]) < 1e-5
        full = plain.enlarge(out["score"], x.shape[2:])
        assert (full.argmax(1).numpy() == data[f"{prefix}sem_argmax"]).mean() > 0.999
        layers = pooled
        for layer in model.roi_head.mask_head.convs:
            layers = layer(layers)
        assert relative(layers[:, ::16], data[f"{prefix}mask_feat"]) < 1e-5
