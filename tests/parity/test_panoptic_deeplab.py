"""Panoptic-DeepLab against numbers of the published implementation.

Every parameter comes from the golden files; see ``tests/data/golden/panoptic_deeplab/README.md``.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmpanoptic.checkpoints.backbone_keys import BackboneKeyMap
from mmpanoptic.checkpoints.panoptic_deeplab_keys import PanopticDeepLabKeyMap
from mmpanoptic.models.fusion_heads import CenterGroupingHead, FullSizeOutputs
from mmpanoptic.models.instance_heads import make_center_offset_targets
from mmpanoptic.models.layers import collate_segments, upsample_to_image
from mmpanoptic.models.postprocess import ResizedLogits
from mmpanoptic.models.postprocess.centers import find_centers, group_things
from mmpanoptic.models.postprocess.segments import merge_segments
from mmpanoptic.models.semantic_heads.semantic_targets import make_semantic_targets
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import make_panoptic_data, semantic_map
from tests.data.golden.panoptic_deeplab import crafted_inputs, synthetic_checkpoint
from tests.golden import Golden, golden_cases, layout_file
from tests.parity.panoptic_deeplab_variants import (
    CITYSCAPES_THINGS,
    FEATURES,
    SYSTEM,
    VARIANTS,
    build,
    images,
    normalisation,
)

TASKS = {"sem": "sem_seg", "center": "center", "offset": "offset"}


# No ReLU and no padding between this norm layer, a 1x1 convolution and the next norm layer, which
# takes any constant away again: the gradient of the bias is 0 (in float64 1e-12) and in float32
# rounding alone, with other values for each number of threads.
VANISHING = re.compile(r"backbone\.block(\d|1\d|20)\.sep_conv\d\.block\.bn_depth\.bias$")


def data_sample(ids: np.ndarray, segments: list, things) -> DetDataSample:
    index = np.zeros(ids.shape, np.int32)
    infos = []
    for number, segment in enumerate(segments, 1):
        index[ids == segment["id"]] = number
        label = segment["category_id"]
        infos.append(
            {"id": segment["id"], "label": label, "isthing": label in set(things)}
            | {"iscrowd": segment["iscrowd"]}
        )
    sample = DetDataSample(metainfo={"img_shape": ids.shape})
    sample.gt_panoptic_seg = make_panoptic_data(index, infos)
    sample.gt_sem_seg = PixelData(sem_seg=semantic_map(sample.gt_panoptic_seg))
    return sample


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "forward_*.npz"))
def test_network_forward(path):
    data = Golden(path)
    variant = str(data["variant"])
    model, _ = build(variant, data["crop"])
    model.eval()
    size = int(data["height"]), int(data["width"])
    x = images(data, [int(data["seed"])], size)
    with torch.no_grad():
        feats = model.extract_feat(x)
        semantic, instance = model.forward_heads(x)
    for feat, name in zip(feats, FEATURES[variant], strict=True):
        data.equal(f"feat_{name}_shape", feat.shape)
        data.close("panoptic_deeplab.feature_means", f"feat_{name}_chmean", feat.mean((0, 2, 3)))
        step = max(1, feat.shape[1] // 16)
        data.close("panoptic_deeplab.features", f"feat_{name}_sub", feat[0, ::step, ::2, ::2])
    outputs = {"sem": (semantic, 4, 1)}
    assert (instance is None) == ("center_s4" not in data)
    if instance is not None:
        outputs |= {"center": (instance.center, 2, 1), "offset": (instance.offset, 2, 4)}
    for name, (output, step, factor) in outputs.items():
        data.close("panoptic_deeplab.heads", f"{name}_s4", output[0])
        full = upsample_to_image(output, 4, size)[0, :, ::step, ::step]
        data.close("panoptic_deeplab.heads", f"{name}_up_sub", factor * full)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "train_*.npz"))
def test_training_step(path):
    data = Golden(path)
    model, key_map = build(str(data["variant"]), data["crop"])
    size = tuple(map(int, data["size"]))
    seeds = [int(data["seed"]), int(data["seed"]) + 1]
    samples = [
        data_sample(*crafted_inputs.make_panoptic_gt(seed, *size, 6), CITYSCAPES_THINGS)
        for seed in seeds
    ]
    model.train()
    losses = model(images(data, seeds, size), samples, mode="loss")
    sum(losses.values()).backward()
    published = {"loss_semantic": "loss_sem_seg"}
    assert {published.get(n, n) for n in losses} == {n for n in data if n.startswith("loss_")}
    for name, loss in losses.items():
        data.close("panoptic_deeplab.training_loss", published.get(name, name), loss)
    norms = {key_map.published[n]: p.grad.norm().item() for n, p in model.named_parameters()}
    names = data["grad_names"].tolist()
    assert norms.keys() == set(names)
    if not data.taken("grad_norms", [norms[name] for name in names]):
        check_norms(norms, dict(zip(names, data["grad_norms"].tolist(), strict=True)))
    state = key_map.to_published(model.state_dict())
    for part in data.cases("name"):
        name = str(data[f"{part}_name"])
        data.close("panoptic_deeplab.statistics", f"{part}_mean", state[name])
        variance = state[name.replace("_mean", "_var")]
        data.close("panoptic_deeplab.statistics", f"{part}_var", variance)


def check_norms(norms: dict[str, float], expected: dict[str, float]) -> None:
    """Compare with four times what the reference differs from itself, see the golden README."""
    for name in list(filter(VANISHING.match, norms)):
        scale = 1e-5 * expected[name.replace(".bias", ".weight")]
        assert max(norms.pop(name), expected[name]) < scale
    errors = np.array(
        [abs(g - expected[n]) / max(abs(expected[n]), 1e-12) for n, g in norms.items()]
    )
    assert np.median(errors) < 5e-3
    assert (errors < 3e-2).mean() >= 0.99


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "targets_*.npz"))
def test_targets(path):
    data = Golden(path)
    params = json.loads(str(data["params"]))
    sample = data_sample(data["ids"], json.loads(str(data["segments"])), params["thing_ids"])
    segments = collate_segments([sample])
    semantic, weight = make_semantic_targets(
        segments,
        params["small_instance_area"],
        params["small_instance_weight"],
        params["ignore_crowd_in_semantic"],
    )
    targets = make_center_offset_targets(
        segments, params["sigma"], params["ignore_stuff_in_offset"]
    )
    data.equal("sem_seg", semantic[0])
    data.equal("sem_seg_weights", weight[0])
    data.equal("center_weights", targets.center_weight[0])
    data.equal("offset_weights", targets.offset_weight[0])
    data.close("panoptic_deeplab.targets", "center", targets.center[0, 0])
    data.close("panoptic_deeplab.targets", "offset", targets.offset[0])
    points = targets.center_points
    points = points[~points.isnan().any(1)]
    np.testing.assert_allclose(points, data["center_points"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("memory_lean", [False, True])
@pytest.mark.parametrize("path", golden_cases(SYSTEM, "losses_*.npz"))
def test_losses_and_gradients(path, memory_lean):
    data = Golden(path)
    preds = {n: torch.from_numpy(data[f"{n}_s4"]).requires_grad_() for n in TASKS}
    size = data["sem_seg"].shape[1:]
    stride = size[0] // data["sem_s4"].shape[2]
    mining = MODELS.build(
        {
            "type": "HardPixelMiningLoss",
            "top_k": float(data["top_k"]),
            "memory_lean": memory_lean,
        }
    )
    mse = MODELS.build({"type": "WeightedMSELoss", "loss_weight": 200.0})
    l1 = MODELS.build({"type": "WeightedL1Loss", "loss_weight": 0.01})
    target = {k: torch.from_numpy(v) for k, v in data.items() if v.ndim >= 3}
    losses = {
        "sem": mining(
            preds["sem"], target["sem_seg"].long(), target["sem_seg_weights"].float(), stride
        ),
        "center": mse(
            upsample_to_image(preds["center"], stride, size),
            target["center"][:, None],
            target["center_weights"].float(),
        ),
        "offset": l1(
            upsample_to_image(preds["offset"], stride, size) * stride,
            target["offset"],
            target["offset_weights"].float(),
        ),
    }
    sum(losses.values()).backward()
    for name, key in TASKS.items():
        data.close("panoptic_deeplab.loss", f"loss_{key}", losses[name])
        data.close("panoptic_deeplab.loss_gradient", f"grad_{name}", preds[name].grad)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "postproc_*.npz"))
def test_postprocessing(path):
    data = Golden(path)
    params = json.loads(str(data["params"]))
    if "generator" in data:
        generated = json.loads(str(data["generator"]))
        data |= crafted_inputs.make_postprocess_inputs(**generated)
    semantic = torch.from_numpy(data["sem"].astype(np.int64))
    centers = find_centers(
        torch.from_numpy(data["center"])[0],
        params["threshold"],
        params["nms_kernel"],
        params["top_k"],
    )
    data.equal("centers", centers)
    isthing = torch.zeros(int(max(data["sem"].max(), *params["thing_ids"])) + 1, dtype=torch.bool)
    isthing[params["thing_ids"]] = True
    instance = group_things(semantic, centers, torch.from_numpy(data["offset"]), isthing)
    merged = merge_segments(semantic, instance, len(centers), isthing, params["stuff_area"])
    table = merged.table
    infos = sorted(
        (number, label)
        for number, label in zip(*(c.tolist() for c in table), strict=True)
        if number
    )
    codes = published_codes([label for _, label in infos], isthing.tolist(), params)
    actual = np.array([params["void_label"], *codes], np.int32)[merged.index_map]
    data.alike("panoptic", actual, 1 - 1e-4)


def published_codes(labels: list, isthing: list, params: dict) -> list:
    """Rebuild ``class * divisor + n`` of segments in ascending order."""
    codes, seen = [], {}
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        codes.append(label * params["label_divisor"] + (seen[label] if isthing[label] else 0))
    return codes


def panoptic_codes(result, isthing: list, params: dict) -> np.ndarray:
    labels = [segment["label"] for segment in result.segments_info]
    codes = published_codes(labels, isthing, params)
    return np.array([params["void_label"], *codes], np.int32)[result.index_map[0]]


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "instances_*.npz"))
def test_instances(path):
    data = Golden(path)
    head = CenterGroupingHead(
        data["logits"].shape[0],
        CITYSCAPES_THINGS,
        stride=1,
        stuff_area=int(data["stuff_area"]),
        rescale_offsets=False,
        predict_instances=True,
    )
    meta = {"img_shape": data["logits"].shape[1:], "ori_shape": tuple(map(int, data["out_size"]))}
    tensors = [torch.from_numpy(data[name]) for name in ("logits", "center", "offset")]
    outputs = head.resize_outputs(*tensors, meta)
    assert isinstance(outputs, FullSizeOutputs)
    result = head.form_results([head.group(outputs)])[0]
    codes = panoptic_codes(
        result["pred_panoptic_seg"],
        head.isthing.tolist(),
        {"label_divisor": 1000, "void_label": -1},
    )
    data.equal("panoptic", codes)
    instances = result["pred_instances"]
    data.equal("classes", instances.labels)
    data.close("panoptic_deeplab.instance_scores", "scores", instances.scores)
    data.equal("boxes", instances.bboxes)
    data.equal("areas", instances.masks.flatten(1).sum(1))


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "e2e_*.npz"))
def test_end_to_end(path):
    data = Golden(path)
    params = json.loads(str(data["params"]))
    variant = str(data["variant"])
    model, _ = build(variant, params["crop"])
    model.eval()
    preprocessor = MODELS.build(
        {
            "type": "PanopticDataPreprocessor",
            "pad_size_divisor": params["size_divisibility"],
            **normalisation(variant),
        }
    )
    size, out_size = (tuple(map(int, data[name])) for name in ("size", "out_size"))
    image = synthetic_checkpoint.synthetic_image(int(data["seed"]), *size)
    sample = DetDataSample(metainfo={"img_shape": size, "ori_shape": out_size})
    bgr = torch.from_numpy(image[::-1].astype(np.uint8))
    batch = preprocessor({"inputs": [bgr], "data_samples": [sample]})
    with torch.no_grad():
        outputs = model.forward_heads(batch["inputs"])
        if "panoptic" in data:
            (sample,) = batch["data_samples"]
            full = check_panoptic(model, outputs, sample, data, params)
        else:
            resized = ResizedLogits.of_image(
                outputs.semantic[0], model.fusion_head.stride, sample.metainfo
            )
            full = resized.dense()
            (sample,) = model.postprocess(outputs, batch["data_samples"])
    data.close("panoptic_deeplab.heads", "sem_sub", full[:, ::8, ::8])
    data.alike("sem_argmax", sample.pred_sem_seg.sem_seg[0], 0.995)


def check_panoptic(model, outputs, sample, data: Golden, params: dict) -> torch.Tensor:
    """Fuse in the parity mode, compare map and instances, return the full-size logits."""
    head = model.fusion_head
    for name in ("stuff_area", "nms_kernel", "threshold", "top_k", "rescale_offsets"):
        setattr(head, name, params[name])
    head.predict_instances = True
    tensors = (outputs.semantic[0], outputs.instance.center[0], outputs.instance.offset[0])
    full = head.resize_outputs(*tensors, sample.metainfo)
    model.postprocess(outputs, [sample])
    codes = panoptic_codes(sample.pred_panoptic_seg, head.isthing.tolist(), params)
    data.alike("panoptic", codes, 0.995)
    instances = sample.pred_instances
    data.equal("classes", instances.labels)
    areas = instances.masks.flatten(1).sum(1).numpy()
    # As far as pixels differ, so do areas, and the scores, which are means over them.
    if not (data.taken("scores", instances.scores) and data.taken("areas", areas)):
        np.testing.assert_allclose(instances.scores, data["scores"], rtol=1e-3)
        np.testing.assert_allclose(areas, data["areas"], atol=0.005 * codes.size)
    return full.logits


@pytest.mark.parametrize(
    "path", [case for v in VARIANTS for case in golden_cases(SYSTEM, f"manifest_{v}.json")]
)
def test_manifest_round_trip(path):
    manifest = json.loads(path.read_text())
    model = MODELS.build(VARIANTS[path.stem.removeprefix("manifest_")](None))
    key_map = PanopticDeepLabKeyMap(model)
    weights = synthetic_checkpoint.synthetic_state_dict(manifest)
    ours = key_map.to_ours(weights)
    assert {name: list(value.shape) for name, value in ours.items()} == {
        name: list(value.shape) for name, value in model.state_dict().items()
    }
    back = key_map.to_published(ours)
    assert back.keys() == manifest.keys()
    assert all(back[name] is weights[name] for name in weights)


IMAGENET = {
    "manifest_imagenet_r52_d2.json": ("r52_conv", {"stem.fc.weight": (1000, 2048)}),
    "manifest_imagenet_xception65_tf.json": ("x65_conv", {"fc.weight": (1000, 2048)}),
    "manifest_imagenet_hrnetv2_w48.json": ("h48_conv", {}),
}


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_weights_fit_the_backbone(name):
    variant, classifier = IMAGENET[name]
    layout = json.loads(layout_file(SYSTEM, name).read_text())
    weights = synthetic_checkpoint.synthetic_state_dict(layout)
    weights |= {n: np.zeros(shape, np.float32) for n, shape in classifier.items()}
    weights = {n: v for n, v in weights.items() if not n.endswith("num_batches_tracked")}
    model = MODELS.build(VARIANTS[variant](None))
    ours = BackboneKeyMap(model).to_ours(weights)
    backbone = {name.removeprefix("backbone."): value for name, value in ours.items()}
    assert backbone.keys() == model.backbone.state_dict().keys()
    counters = [v for n, v in backbone.items() if n.endswith("num_batches_tracked")]
    assert counters
    assert not any(counters)
