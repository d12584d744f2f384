"""The network of COPS, its targets, losses and checkpoints against the published implementation.

Every parameter comes from the golden files; see ``tests/data/golden/cops/README.md``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.checkpoints.cops_keys import CopsKeyMap
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.models.instance_heads import EdgeWeights, make_affinity_targets
from mmpanoptic.models.layers import collate_segments
from mmpanoptic.models.losses import HardEdgeMiningLoss, HardPixelMiningLoss
from mmpanoptic.models.multicut.grid_edges import map_edges, valid_edges
from mmpanoptic.models.semantic_heads.semantic_targets import make_semantic_targets
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import make_panoptic_data
from tests.data.golden.panoptic_deeplab import synthetic_checkpoint
from tests.golden import golden_files

SYSTEM = "cops"
CONFIGS = Path(__file__).parents[2] / "configs" / "cops"
LEAVES = {
    "cityscapes": "cops_r52_pretrain_1xb12-50k_cityscapes-512x1024.py",
    "coco": "cops_r52_pretrain_4xb12-50k_coco-640x640.py",
}
CODES = 1000  # label divisor of the published codes


def files(pattern: str) -> list:
    return [pytest.param(path, id=path.stem) for path in golden_files(SYSTEM, pattern)]


def load(path: Path) -> dict:
    with np.load(path) as data:
        return {key: data[key] for key in data.files}


def build(dataset: str, crop=None, **fusion) -> torch.nn.Module:
    init_default_scope("mmpanoptic")
    cfg = resolve_config(Config.fromfile(CONFIGS / LEAVES[dataset])).model
    window = None if crop is None else tuple(map(int, crop))
    for head in ("semantic_head", "instance_head"):
        cfg[head].update(pool_crop_size=window, norm_cfg={"type": "BN"})
    cfg.backbone.norm_cfg = {"type": "BN"}
    cfg.fusion_head.update(solver={"mode": "lpmp"}, **fusion)
    return MODELS.build(cfg)


def published_weights(manifest: dict) -> dict:
    weights = synthetic_checkpoint.synthetic_state_dict(manifest)
    for name in manifest:
        if name.startswith("amwc_layer.seg_cost_weights"):
            weights[name][:] = -0.05 if name.endswith("1") else 1.25
        elif name.startswith("amwc_layer.edge_costs_weights"):
            number = int(name.rsplit(".", 1)[1])
            weights[name][:] = 0.02 * number if number % 2 else -1.1 - 0.1 * number
    for name in ("pixel_mean", "pixel_std"):
        weights.pop(name, None)
    return weights


def load_weights(model: torch.nn.Module, dataset: str) -> None:
    (path,) = golden_files(SYSTEM, f"manifest_{dataset}.json")
    ours = CopsKeyMap(model).to_ours(published_weights(json.loads(path.read_text())))
    model.load_state_dict({name: torch.as_tensor(value) for name, value in ours.items()})


def close(actual, expected, scale: float) -> bool:
    return float(np.abs(np.asarray(actual) - expected).max()) <= 2e-4 * scale


def steps(data: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    channel, row, column = data[name]
    return x[:, ::channel, ::row, ::column]


def codes_of(result) -> np.ndarray:
    """Rebuild the published codes, whose instance numbers start at 0."""
    codes, seen = [-1], {}
    for segment in result.segments_info:
        number = seen.get(segment["label"], 0)
        seen[segment["label"]] = number + 1
        codes.append(segment["label"] * CODES + (number if segment["isthing"] else 0))
    return np.array(codes)[result.index_map[0]]


@pytest.mark.parametrize("path", files("network_*.npz"))
def test_network_and_prediction(path):
    data = load(path)
    dataset = path.stem.split("_")[1]
    model = build(dataset, data["crop"], score_mode="published")
    load_weights(model, dataset)
    model.eval()
    size = int(data["height"]), int(data["width"])
    image = synthetic_checkpoint.synthetic_image(int(data["image_seed"]), *size)
    sample = DetDataSample(
        metainfo={
            "img_shape": size,
            "ori_shape": (int(data["out_height"]), int(data["out_width"])),
        }
    )
    model.data_preprocessor.pad_size_divisor = 1
    bgr = torch.from_numpy(image[::-1].astype(np.uint8))
    batch = model.data_preprocessor({"inputs": [bgr], "data_samples": [sample]})
    with torch.no_grad():
        feats = model.extract_feat(batch["inputs"])
        outputs = model.forward_heads(batch["inputs"])
    for name, feat in zip(("res2", "res3", "res5"), feats, strict=True):
        assert tuple(feat.shape) == tuple(data[f"{name}_shape"])
        sub = steps(data, f"{name}_step", feat)
        assert close(sub, data[name], float(data[f"{name}_mean_abs"]))
    logits = steps(data, "sem_step", outputs.semantic)
    assert close(logits, data["sem_logits"], np.abs(data["sem_logits"]).mean())
    for distance, edges in zip(model.instance_head.distances, outputs.instance.logits, strict=True):
        expected = data[f"aff_logits_{distance}"]
        assert tuple(edges.shape) == tuple(data[f"aff_shape_{distance}"])
        assert close(edges[:, :, ::2, ::2], expected, np.abs(expected).mean())
    (sample,) = model.postprocess(outputs, batch["data_samples"])
    assert (codes_of(sample.pred_panoptic_seg) == data["panoptic"]).mean() >= 0.999
    classes = sample.pred_sem_seg.sem_seg[0].numpy()
    assert (classes == data["sem_seg_argmax"]).mean() >= 0.999
    if "instance_scores" in data:
        check_instances(sample.pred_panoptic_seg.segments_info, data)


def check_instances(segments: list, data: dict) -> None:
    things = [segment for segment in segments if segment["isthing"]]
    assert [s["label"] for s in things] == data["instance_classes"].tolist()
    np.testing.assert_allclose([s["score"] for s in things], data["instance_scores"], rtol=1e-4)
    boxes = np.array([s["bbox"] for s in things])
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_array_equal(boxes, data["instance_boxes"])


@pytest.mark.parametrize("path", files("manifest_*.json"))
def test_manifest_round_trip(path):
    manifest = json.loads(path.read_text())
    with torch.device("meta"):
        model = build(path.stem.removeprefix("manifest_"))
    weights = published_weights(manifest)
    key_map = CopsKeyMap(model)
    ours = key_map.to_ours(weights)
    assert {name: tuple(value.shape) for name, value in ours.items()} == key_map.shapes
    back = key_map.to_published(ours)
    dead = {"amwc_layer.training_per_class_areas", "pixel_mean", "pixel_std"}
    assert back.keys() == manifest.keys() - dead
    assert all(back[name] is weights[name] for name in back)


@pytest.mark.parametrize("path", files("edges*.npz"))
def test_edge_layout(path):
    data = load(path)
    for case in (name.removesuffix("_shape") for name in data if name.endswith("_shape")):
        size = tuple(map(int, data[f"{case}_shape"]))
        index = torch.arange(size[0] * size[1]).view(size)
        codes, pairs = [], []
        for distance, interval in zip(
            data[f"{case}_distances"].tolist(), data[f"{case}_intervals"].tolist(), strict=True
        ):
            valid = valid_edges(size, distance, interval)
            codes.append(valid.flatten().nonzero()[:, 0])
            ends = [
                map_edges(index, distance, lambda a, b, end=end: (a, b)[end], interval)[valid]
                for end in (0, 1)
            ]
            pairs.append(torch.stack(ends, 1))
        np.testing.assert_array_equal(torch.cat(codes), data[f"{case}_position_codes"])
        np.testing.assert_array_equal(torch.cat(pairs), data[f"{case}_pairs"])


def target_cases() -> list:
    """Each file holds several sets of targets, told apart by the beginning of the names."""
    cases = []
    for path in golden_files(SYSTEM, "targets*.npz"):
        names = [name.removesuffix("_raw") for name in load(path) if name.endswith("_raw")]
        cases += [pytest.param(path, name, id=f"{path.stem}-{name}") for name in names]
    return cases


@pytest.mark.parametrize(("path", "case"), target_cases())
def test_targets(path, case):
    data = load(path)
    data = {n.removeprefix(f"{case}_"): v for n, v in data.items() if n.startswith(f"{case}_")}
    options = json.loads(str(data["options"]))
    segments = segments_of(data, options["size_divisibility"] or 1)
    distances = data["distances"].tolist()
    targets = make_affinity_targets(
        segments,
        distances,
        (1,) * len(distances),
        EdgeWeights(
            instance=options["instance_loss_weight"],
            small=options["small_instance_weight"],
            small_area=options["small_instance_area"],
            stuff=not options["ignore_stuff_in_affinities"],
        ),
        options["ignore_crowd"],
        options["downsampling_factor"],
        options["label_divisor"],
    )
    semantic, weight = make_semantic_targets(
        segments,
        options["small_instance_area"],
        options["small_instance_weight"],
        options["ignore_crowd"],
        small_crowds=False,
    )
    height, width = data["raw"].shape
    np.testing.assert_array_equal(semantic[0, :height, :width], data["sem_seg"])
    labelled = (weight * (semantic != 255))[0, :height, :width]
    np.testing.assert_array_equal(labelled, data["sem_seg_weights"])
    np.testing.assert_array_equal(targets.panoptic[0], data["panoptic"])
    np.testing.assert_array_equal(targets.weight[0], data["panoptic_weights"])
    for number, distance in enumerate(distances):
        np.testing.assert_array_equal(targets.edges[number][0], data[f"affinity_{distance}"])
        np.testing.assert_array_equal(
            targets.edge_weights[number][0], data[f"affinity_weight_{distance}"]
        )


def segments_of(data: dict, divisor: int):
    raw = data["raw"]
    index = np.zeros(raw.shape, np.int32)
    infos = []
    for number, (segment, label, crowd) in enumerate(data["segments"].tolist(), 1):
        index[raw == segment] = number
        infos.append(
            {"id": segment, "label": label, "isthing": label in data["thing_ids"]}
            | {"iscrowd": crowd}
        )
    sample = DetDataSample(metainfo={"img_shape": raw.shape})
    index = np.pad(index, [(0, -side % divisor) for side in raw.shape])
    sample.gt_panoptic_seg = make_panoptic_data(index, infos)
    return collate_segments([sample])


@pytest.mark.parametrize("path", files("losses*.npz"))
def test_losses_of_the_first_stage(path):
    data = load(path)
    for name in (name for name in data if name.startswith("sem_loss_top")):
        top_k = float(name.removeprefix("sem_loss_top"))
        logits = torch.from_numpy(data["sem_logits"]).requires_grad_()
        target = torch.from_numpy(data["sem_target"]).long()
        stride = target.shape[2] // logits.shape[3]
        loss = HardPixelMiningLoss(top_k=top_k)(
            logits, target, torch.from_numpy(data["sem_weight"]), stride
        )
        loss.backward()
        assert loss.item() == pytest.approx(float(data[name]), rel=1e-6)
        np.testing.assert_allclose(logits.grad, data[f"sem_grad_top{top_k}"], rtol=0, atol=1e-6)
    mining = HardEdgeMiningLoss()
    for name in (name for name in data if name.startswith("aff_logits_")):
        distance = name.removeprefix("aff_logits_")
        logits = torch.from_numpy(data[name]).requires_grad_()
        for channel in (0, 1):
            loss = mining(
                logits[:, channel],
                torch.from_numpy(data[f"aff_target_{distance}"])[:, channel],
                torch.from_numpy(data[f"aff_weight_{distance}"])[:, channel],
            )
            loss.backward()
            expected = float(data[f"loss_affinities_dist_{distance}_c_{channel}"])
            assert loss.item() == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(logits.grad, data[f"aff_grad_{distance}"], rtol=0, atol=1e-6)
