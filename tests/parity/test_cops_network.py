"""The network of COPS, its targets, losses and checkpoints against the published implementation.

Every parameter comes from the golden files; see ``tests/data/golden/cops/README.md``.
"""

from __future__ import annotations

import json
import math
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
from tests.golden import Golden, golden_cases, golden_files, layout_file
from tests.tolerances import Detections

SYSTEM = "cops"
CONFIGS = Path(__file__).parents[2] / "configs" / "cops"
LEAVES = {
    "cityscapes": "cops_r52_pretrain_1xb12-50k_cityscapes-512x1024.py",
    "coco": "cops_r52_pretrain_4xb12-50k_coco-640x640.py",
}
CODES = 1000  # label divisor of the published codes


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
    layout = json.loads(layout_file(SYSTEM, f"manifest_{dataset}.json").read_text())
    ours = CopsKeyMap(model).to_ours(published_weights(layout))
    model.load_state_dict({name: torch.as_tensor(value) for name, value in ours.items()})


def divisor_of(data: dict, published: int) -> int:
    """What the sizes of the network's input are multiples of.

    A file that does not name it tells how far the image is padded by the size of its features.
    """
    if "size_divisibility" in data:
        return max(int(data["size_divisibility"]), 1)
    padded = [4 * int(side) for side in data["res2_shape"][2:]]
    sizes = [int(data["height"]), int(data["width"])]
    if not published and all(p - side < 4 for p, side in zip(padded, sizes, strict=True)):
        return 1  # two convolutions of stride 2 round up
    return math.gcd(*padded)


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


def numbered_alike(codes: np.ndarray, golden: np.ndarray) -> np.ndarray:
    """Give each of our segments the code of the golden one of its class that it covers most of.

    Instances that lie in the padding alone have a number in the published map, and none in ours.
    """
    both = np.stack([codes.ravel(), golden.ravel()])
    pairs, areas = np.unique(both, axis=1, return_counts=True)
    renumbered, partners = np.full_like(codes, -2), {}
    for ours, theirs in pairs[:, np.argsort(-areas)].T.tolist():
        free = ours not in partners and theirs not in partners.values()
        if free and ours // CODES == theirs // CODES:
            partners[ours] = theirs
            renumbered[codes == ours] = theirs
    return renumbered


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "network_*.npz"))
def test_network_and_prediction(path):
    data = Golden(path)
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
    preprocessor = model.data_preprocessor
    preprocessor.pad_size_divisor = divisor_of(data, preprocessor.pad_size_divisor)
    bgr = torch.from_numpy(image[::-1].astype(np.uint8))
    batch = preprocessor({"inputs": [bgr], "data_samples": [sample]})
    with torch.no_grad():
        feats = model.extract_feat(batch["inputs"])
        outputs = model.forward_heads(batch["inputs"])
    for name, feat in zip(("res2", "res3", "res5"), feats, strict=True):
        data.equal(f"{name}_shape", feat.shape)
        data.close("cops.features", name, steps(data, f"{name}_step", feat))
    logits = steps(data, "sem_step", outputs.semantic)
    data.close("cops.semantic", "sem_logits", logits)
    for distance, edges in zip(model.instance_head.distances, outputs.instance.logits, strict=True):
        data.equal(f"aff_shape_{distance}", edges.shape)
        data.close("cops.affinity", f"aff_logits_{distance}", edges[:, :, ::2, ::2])
    (sample,) = model.postprocess(outputs, batch["data_samples"])
    codes = codes_of(sample.pred_panoptic_seg)
    if not data.taken("panoptic", codes):
        data.alike("panoptic", numbered_alike(codes, data["panoptic"]), 0.999)
    data.alike("sem_seg_argmax", sample.pred_sem_seg.sem_seg[0], 0.999)
    if "instance_scores" in data:
        check_instances(sample.pred_panoptic_seg.segments_info, data)


def check_instances(segments: list, data: Golden) -> None:
    things = [segment for segment in segments if segment["isthing"]]
    boxes = np.array([s["bbox"] for s in things]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    ours = Detections(boxes, [s["score"] for s in things], [s["label"] for s in things])
    keys = [f"instance_{name}" for name in ("boxes", "scores", "classes")]
    data.detections("cops.instances", keys, ours)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "manifest_*.json"))
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


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "edges*.npz"))
def test_edge_layout(path):
    golden = Golden(path)
    for data in map(golden.case, golden.cases("shape")):
        size = tuple(map(int, data["shape"]))
        index = torch.arange(size[0] * size[1]).view(size)
        codes, pairs = [], []
        for distance, interval in zip(
            data["distances"].tolist(), data["intervals"].tolist(), strict=True
        ):
            valid = valid_edges(size, distance, interval)
            codes.append(valid.flatten().nonzero()[:, 0])
            ends = [
                map_edges(index, distance, lambda a, b, end=end: (a, b)[end], interval)[valid]
                for end in (0, 1)
            ]
            pairs.append(torch.stack(ends, 1))
        data.equal("position_codes", torch.cat(codes))
        data.equal("pairs", torch.cat(pairs))


def target_cases() -> list:
    """Each file holds several sets of targets, told apart by the beginning of the names."""
    cases = []
    for path in golden_files(SYSTEM, "targets*.npz"):
        names = Golden(path).cases("raw")
        cases += [pytest.param(path, name, id=f"{path.stem}-{name}") for name in names]
    return cases


@pytest.mark.parametrize(("path", "case"), target_cases())
def test_targets(path, case):
    data = Golden(path).case(case)
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
    data.equal("sem_seg", semantic[0, :height, :width])
    data.equal("sem_seg_weights", (weight * (semantic != 255))[0, :height, :width])
    data.equal("panoptic", targets.panoptic[0])
    data.equal("panoptic_weights", targets.weight[0])
    for number, distance in enumerate(distances):
        data.equal(f"affinity_{distance}", targets.edges[number][0])
        data.equal(f"affinity_weight_{distance}", targets.edge_weights[number][0])


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


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "losses*.npz"))
def test_losses_of_the_first_stage(path):
    data = Golden(path)
    for name in (name for name in data if name.startswith("sem_loss_top")):
        top_k = float(name.removeprefix("sem_loss_top"))
        logits = torch.from_numpy(data["sem_logits"]).requires_grad_()
        target = torch.from_numpy(data["sem_target"]).long()
        stride = target.shape[2] // logits.shape[3]
        loss = HardPixelMiningLoss(top_k=top_k)(
            logits, target, torch.from_numpy(data["sem_weight"]), stride
        )
        loss.backward()
        data.close("cops.loss", name, loss)
        data.close("cops.loss_gradient", f"sem_grad_top{top_k}", logits.grad)
    mining = HardEdgeMiningLoss()
    for name in (name for name in data if name.startswith("aff_logits_")):
        distance = name.removeprefix("aff_logits_")
        logits = torch.from_numpy(data[name]).requires_grad_()
        for channel in range(logits.shape[1]):
            loss = mining(
                logits[:, channel],
                torch.from_numpy(data[f"aff_target_{distance}"])[:, channel],
                torch.from_numpy(data[f"aff_weight_{distance}"])[:, channel],
            )
            loss.backward()
            data.close("cops.loss", f"loss_affinities_dist_{distance}_c_{channel}", loss)
        data.close("cops.loss_gradient", f"aff_grad_{distance}", logits.grad)
