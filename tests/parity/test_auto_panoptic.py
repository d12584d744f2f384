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
from tests.golden import Golden, golden_cases, layout_file
from tests.parity.auto_panoptic_weights import COCO_3_8G, SYSTEM, decisions, model_config
from tests.reference import auto_panoptic as plain
from tests.tolerances import Detections

SEARCHED, SUPERNET = "manifest_coco_3.8g.json", "manifest_supernet_1.3g.json"


@lru_cache(maxsize=1)  # the supernet is large; its tests come last
def model_of(manifest: str):
    init_default_scope("mmpanoptic")
    model = MODELS.build(model_config(COCO_3_8G if manifest == SEARCHED else None))
    layout = json.loads(layout_file(SYSTEM, manifest).read_text())
    weights = synthetic_checkpoint.synthetic_state_dict(layout)
    model.load_state_dict(AutoPanopticKeyMap(model).to_ours(weights))
    return model.eval().requires_grad_(False)


def inputs_of(model, meta) -> torch.Tensor:
    seed, height, width, count = map(int, meta[:4])
    images = [synthetic_checkpoint.synthetic_image(seed + i, height, width) for i in range(count)]
    batch = {"inputs": [torch.from_numpy(image) for image in images], "data_samples": None}
    return model.data_preprocessor(batch)["inputs"]


def stat(x: torch.Tensor) -> np.ndarray:
    x = x.double()
    return np.array([x.mean(), x.std(), x.abs().max()])


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


def check_features(out: dict, data: Golden, step: int) -> None:
    for name in ("body", "fpn", "segfeat", "fused"):
        for i, x in enumerate(out[name]):
            data.close(f"auto_panoptic.{name}", f"{name}{i}", x[:, ::step])
            data.close(f"auto_panoptic.{name}_stat", f"{name}{i}_stat", stat(x))
    for name in ("f2b_attention", "b2f_attention"):
        data.close("auto_panoptic.attention", name, torch.stack(out[name]))


FORMS = pytest.mark.parametrize("form", ["rewritten", "plain"])


@FORMS
@pytest.mark.parametrize("path", golden_cases(SYSTEM, "searched_coco_forward*.npz"))
def test_searched_network(path, form):
    data, model = Golden(path), model_of(SEARCHED)
    x = inputs_of(model, data["meta"])
    out = run(model, x, form)
    check_features(out, data, 8)
    data.close("auto_panoptic.score", "score", out["score"])
    full = plain.enlarge(out["score"], x.shape[2:])
    data.close("auto_panoptic.score", "logits_sub", full[:, ::9, ::2, ::2])
    data.classes("auto_panoptic.score", "sem_argmax", full.transpose(0, 1))
    objectness, deltas = model.rpn_head(out["fused"])
    for i in range(len(objectness)):
        data.close("auto_panoptic.rpn", f"rpn_obj{i}", objectness[i])
        data.close("auto_panoptic.rpn", f"rpn_reg{i}", deltas[i])


def publish_classes(x: torch.Tensor, per_class: int = 1) -> torch.Tensor:
    """Our order of classes (background last) to the published one (first)."""
    return x.roll(per_class, 1)


def detections(result) -> Detections:
    return Detections(result.bboxes, result.scores, result.labels + 1)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "searched_coco_heads*.npz"))
def test_heads(path):
    data, model = Golden(path), model_of(SEARCHED)
    x = inputs_of(model, data["meta"])
    feats, _ = model.exchange(model.extract_feat(x))
    head = model.roi_head
    given = torch.from_numpy(data["boxes"])  # (images, K, 4)
    image = torch.arange(len(given)).repeat_interleave(given.shape[1])
    rois = torch.cat([image[:, None].float(), given.flatten(0, 1)], 1)
    extractor = head.bbox_roi_extractor
    data.equal("levels", extractor.map_roi_levels(rois, extractor.num_inputs))
    boxes = head._bbox_forward(feats, rois)
    data.close("auto_panoptic.roi", "box_pool", boxes["bbox_feats"][:, ::32])
    vectors = boxes["bbox_feats"].flatten(1)
    for layer in head.bbox_head.shared_fcs:
        vectors = layer(vectors).relu()
    data.close("auto_panoptic.roi_head", "box_feat", vectors[:, ::4])
    data.close("auto_panoptic.roi_head", "cls_logits", publish_classes(boxes["cls_score"]))
    data.close("auto_panoptic.roi_head", "bbox_deltas", boxes["bbox_pred"], np.s_[:, 4:])
    masks = head._mask_forward(feats, rois)
    first = len(data["mask_pool"])
    data.close("auto_panoptic.roi", "mask_pool", masks["mask_feats"][:first, ::32])
    layers = masks["mask_feats"]
    for layer in head.mask_head.convs:
        layers = layer(layers)
    first = len(data["mask_feat"])
    data.close("auto_panoptic.roi_head", "mask_feat", layers[:first, ::16])
    first = len(data["mask_logits"])
    ours = masks["mask_preds"][:first, 15::16]  # published channel 16 is our class 15
    data.close("auto_panoptic.roi_head", "mask_logits", ours, np.s_[:, 1:])
    metas = [{"img_shape": tuple(x.shape[2:])} for _ in given]
    proposals = [InstanceData(bboxes=boxes) for boxes in given]
    results = head.predict_bbox(feats, metas, proposals, head.test_cfg, False)
    for i, result in enumerate(results):
        keys = [f"det_{name}{i}" for name in ("boxes", "scores", "labels")]
        data.detections("auto_panoptic.roi_head", keys, detections(result))


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "searched_coco_detect*.npz"))
def test_end_to_end(path):
    data, model = Golden(path), model_of(SEARCHED)
    x = inputs_of(model, data["meta"])
    samples = [
        DetDataSample(metainfo={"img_shape": tuple(x.shape[2:]), "ori_shape": tuple(out_size)})
        for out_size in data["ori_sizes"].tolist()
    ]
    feats, semantic = model.exchange(model.extract_feat(x))
    proposals = model.propose(feats, [sample.metainfo for sample in samples])
    results = model.roi_head.predict(feats, proposals, samples, rescale=False)
    for i, sample in enumerate(samples):
        keys = [f"proposals{i}", f"objectness{i}"]
        ours = Detections(proposals[i].bboxes, proposals[i].scores)
        data.detections("auto_panoptic.proposals", keys, ours)
        check_detections(results[i], data, i)
        channels = model.fusion_head.semantic_channels(semantic[i], sample.metainfo)
        data.alike(f"stuff_map{i}", channels, 0.999)


def check_detections(result, data: Golden, i: int) -> None:
    keys = [f"{name}{i}" for name in ("boxes", "scores", "labels")]
    partner = data.detections("auto_panoptic.detections", keys, detections(result))
    partner = partner[: len(data[f"mask_prob{i}"])]
    known = partner >= 0
    assert known.any()
    masks = result.mask_logits[partner[known]].sigmoid()
    data.close("auto_panoptic.detections_masks", f"mask_prob{i}", masks, np.s_[known, 0])


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "seg_loss*.npz"))
def test_semantic_loss(path):
    data, model = Golden(path), model_of(SEARCHED)
    head = model.semantic_head
    rng = np.random.RandomState(int(data["seed"][0]))
    padded = [2 * side for side in data["logits_sub"].shape[2:]]  # every second pixel is kept
    shape = (len(data["sizes"]), data["attention"].shape[2], *(s // head.stride for s in padded))
    count = len(data["attention"])
    levels = [torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for _ in range(count)]
    outputs = head.classify(levels, list(torch.from_numpy(data["attention"])))
    full = plain.enlarge(outputs, tuple(padded))
    data.close("auto_panoptic.semantic", "logits_sub", full[:, ::9, ::2, ::2])
    things, channels = model.roi_head.bbox_head.num_classes, full.shape[1]
    label_of_channel = np.append(0, np.arange(things, things + channels - 1))
    samples = []
    for i, (height, width) in enumerate(data["sizes"].tolist()):
        target = data[f"target{i}"].astype(np.int64)
        label = np.full((1, *padded), 255)
        label[0, :height, :width] = np.where(target == 255, 255, label_of_channel[target % 255])
        sample = DetDataSample(metainfo={"img_shape": (height, width)})
        sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(label))
        samples.append(sample)
    loss = head.loss_by_feat(outputs, samples)["loss_semantic"]
    data.close("auto_panoptic.loss", "loss", [loss.item() / head.loss_weight])


@FORMS
@pytest.mark.parametrize("path", golden_cases(SYSTEM, "supernet_paths*.npz"))
def test_paths_of_the_supernet(path, form):
    data, model = Golden(path), model_of(SUPERNET)
    x = inputs_of(model, data["meta"])
    rng = np.random.RandomState(int(data["roi_feature_seed"][0]))
    count, _, height, width = data["path0_mask_feat"].shape
    shape = (count, model.roi_head.mask_roi_extractor.out_channels, height, width)
    pooled = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    names = decisions()
    for number, choices in enumerate(data["paths"].tolist()):
        set_path(model, dict(zip(names, choices, strict=True)))
        part = data.case(f"path{number}")
        out = run(model, x, form)
        check_features(out, part, 32)
        part.close("auto_panoptic.score", "score", out["score"][:, ::3])
        full = plain.enlarge(out["score"], x.shape[2:])
        part.classes("auto_panoptic.score", "sem_argmax", full.transpose(0, 1))
        layers = pooled
        for layer in model.roi_head.mask_head.convs:
            layers = layer(layers)
        part.close("auto_panoptic.mask_layers", "mask_feat", layers[:, ::16])
