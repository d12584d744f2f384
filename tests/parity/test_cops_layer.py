"""Everything around the solver of COPS against the published implementation.

Every parameter comes from the golden files; see ``tests/data/golden/cops/README.md``.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from mmpanoptic.checkpoints.cops_keys import CopsKeyMap
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.models.fusion_heads import MulticutHead
from mmpanoptic.models.instance_heads import AffinityOutputs, AffinityTargets
from mmpanoptic.models.instance_heads.affinity import CostScaling
from mmpanoptic.models.losses import MulticutLoss
from mmpanoptic.models.losses.panoptic_quality_loss import panoptic_quality_loss
from mmpanoptic.models.losses.segment_matching import NO_SEGMENT, match_segments
from mmpanoptic.models.multicut.layer import (
    CutProblem,
    CutSegments,
    foreground_probability,
    segments_of_cut,
)
from mmpanoptic.models.multicut.scores import affinity_scores, mean_over_segments
from mmpanoptic.registry import MODELS
from tests.data.golden.cops import synthetic_scenes
from tests.golden import Golden, golden_cases, golden_files
from tests.parity.test_cops_network import CODES, CONFIGS, SYSTEM, codes_of

# What the README says of files that do not store it.
AREAS = {"instance_area": 200, "stuff_area": 2048}
NUM_CLASSES = 19
STAGES = {
    "cityscapes_pretrain": "cops_r52_pretrain_1xb12-50k_cityscapes-512x1024.py",
    "coco_pretrain": "cops_r52_pretrain_4xb12-50k_coco-640x640.py",
    "cityscapes_fully_differentiable": "cops_r52_e2e_1xb24-20k_cityscapes-512x1024.py",
    "coco_fully_differentiable": "cops_r52_e2e_1xb24-20k_coco-640x640.py",
}


def channel_map(masks: np.ndarray) -> CutSegments:
    masks = torch.from_numpy(masks).bool()
    index = torch.where(masks.any(0), masks.int().argmax(0), -1)
    return CutSegments(index, torch.empty(0), masks.flatten(1).sum(1))


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "foreground*.npz"))
def test_foreground(path):
    data = Golden(path)
    isthing = torch.from_numpy(np.isin(data["classes"], data["thing_ids"]))
    areas = torch.from_numpy(data["areas"])
    instance, stuff = int(data["instance_area"]), int(data["stuff_area"])
    train = foreground_probability(areas, isthing, instance / 4, stuff / 16)
    data.close("cops.foreground", "train", train)
    test = foreground_probability(areas, isthing, instance, stuff)
    data.close("cops.foreground", "eval", test)


@pytest.mark.parametrize("kind", ["binary", "soft"])
@pytest.mark.parametrize("path", golden_cases(SYSTEM, "pq_loss*.npz"))
def test_matching_and_panoptic_quality_loss(path, kind):
    data = Golden(path)
    num_classes, things = int(data["num_classes"]), data["thing_ids"].tolist()
    flags = [label in things for label in range(num_classes)]
    truth = torch.from_numpy(data["gt"]).long()
    weight = torch.from_numpy(data["weights"])
    images, channels = data["gt_onehot"].shape[:2]
    label = torch.full((images, channels), -1)
    partner = torch.full((images, channels), NO_SEGMENT)
    for image in range(images):
        classes = torch.from_numpy(data[f"pred_classes_{image}"])
        segments = replace(channel_map(data["pred_onehot"][image, : len(classes)]), label=classes)
        found = match_segments(segments, truth[image], weight[image], flags, CODES)
        assert found.label.tolist() == [
            c for c in data[f"channel_class_{image}"].tolist() if c >= 0
        ]
        label[image, : len(found.label)] = found.label
        partner[image, : len(found.truth)] = found.truth
    matched = truth[:, None] == partner[:, :, None, None]
    data.equal("gt_onehot", matched)
    masks = torch.from_numpy(data["pred_onehot" if kind == "binary" else "soft_pred"]).float()
    masks.requires_grad_()
    isthing = torch.tensor([*flags, False])[label]
    areas = {name: int(data.get(name, default)) for name, default in AREAS.items()}
    foreground = foreground_probability(
        masks.sum((2, 3)), isthing, areas["instance_area"] / 4, areas["stuff_area"] / 16
    )
    quality = panoptic_quality_loss(masks, matched, weight, label, foreground, num_classes)
    quality.loss.backward()
    data.close("cops.quality_loss", f"{kind}_loss", quality.loss)
    data.close("cops.quality_gradient", f"{kind}_grad", masks.grad)
    data.close("cops.quality_loss", f"{kind}_iou", quality.iou)
    data.close("cops.foreground", f"{kind}_fg", foreground)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "amwc_backward*.npz"))
def test_gradient_through_the_solver(path):
    golden = Golden(path)
    data = {name: torch.from_numpy(np.asarray(value)) for name, value in golden.items()}
    distances = data["distances"].tolist()
    module = MulticutLoss(
        int(data["num_classes"]),
        data["thing_ids"].tolist(),
        distances,
        label_divisor=CODES,
        loss_weight=1.0,
        **{name: int(data.get(name, default)) for name, default in AREAS.items()},
        solver={"mode": "lpmp"},
    )
    node = data["node_costs"].requires_grad_()
    edges = tuple(data[f"edge_costs_{d}"].requires_grad_() for d in distances)
    weights = tuple(data[f"edge_weights_{d}"] for d in distances)
    targets = AffinityTargets(data["gt"].long(), data["weights"], (), weights)
    steps = np.stack([data["lambdas"].numpy()] * len(node))
    losses = module(AffinityOutputs((), node, edges), targets, steps)
    golden.close("cops.quality_loss", "loss", losses["loss_multicut"])
    golden.close("cops.quality_loss", "loss", 1 - losses["soft_pq"])
    losses["loss_multicut"].backward()
    golden.close("cops.solver_gradient", "node_grad", node.grad)
    for distance, costs in zip(distances, edges, strict=True):
        assert golden[f"edge_grad_{distance}"].any()
        golden.close("cops.solver_gradient", f"edge_grad_{distance}", costs.grad)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "layer_eval*.npz"))
def test_evaluation_layer(path):
    data = Golden(path)
    distances, things = data["distances"].tolist(), data["thing_ids"].tolist()
    height, width = int(data["height"]), int(data["width"])
    num_classes = int(data.get("num_classes", NUM_CLASSES))
    head = MulticutHead(
        num_classes,
        things,
        distances,
        stuff_area=int(data["stuff_area"]),
        instance_area=int(data["instance_area"]),
        ignore_area=4 * int(data["min_pixels"]),
        solver={"mode": "lpmp"},
    )
    scaling = CostScaling(len(distances), 0.0, False)
    numbers = np.concatenate([data["seg_cost_weights"], data["edge_cost_weights"]])
    for parameter, value in zip(scaling.parameters(), numbers.tolist(), strict=True):
        parameter.data.fill_(value)
    options = json.loads(str(data["scene_options"]))
    for image, seed in enumerate(data["scene_seeds"].tolist()):
        node, edges, *_ = synthetic_scenes.scene(
            seed, height, width, num_classes, things, distances, **options
        )
        logits = [-torch.from_numpy(array) for array in (node, *edges)]
        with torch.no_grad():
            costs = scaling(logits[0][None], [part[None] for part in logits[1:]])
        problem = CutProblem(costs[0][0], [part[0] for part in costs[1]])
        (cut,) = head.solve_asymmetric([problem])
        data.equal(f"node_labels_{image}", cut.labels)
        segments = segments_of_cut(
            cut.labels, cut.components, head.isthing, int(data["min_pixels"])
        )
        data.equal(f"channel_{image}", segments.index)
        data.equal(f"classes_{image}", segments.label)
        foreground = foreground_probability(
            16 * segments.cells, head.isthing[segments.label], head.instance_area, head.stuff_area
        )
        data.close("cops.foreground", f"foreground_{image}", foreground)
        meta = {"img_shape": (4 * height, 4 * width)}
        result = head.predict_single(cut, logits[0], logits[1:], meta)
        full = np.kron(data[f"panoptic_{image}"], np.ones((4, 4), np.int64))
        np.testing.assert_array_equal(codes_of(result["pred_panoptic_seg"]), full)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "postprocess*.npz"))
def test_instance_scores(path):
    data = Golden(path)
    numbers = data["instance_ids"]
    index = np.zeros(data["panoptic"].shape, np.int64)
    for number, code in enumerate(numbers, 1):
        index[data["panoptic"] == code] = number
    index = torch.from_numpy(index)
    distances = data["distances"].tolist()
    edges = affinity_scores(
        index[2::4, 2::4],
        [torch.from_numpy(data[f"affinity_{d}"])[0] for d in distances],
        distances,
        (1,) * len(distances),
        len(numbers),
    )
    data.close("cops.affinity_scores", "affinity_scores", edges)
    order = data["thing_ids"].tolist()
    # The logits are stored as float16; the golden scores come from float32.
    means = [
        mean_over_segments(
            torch.from_numpy(data["sem_logits"][order.index(code // CODES)].astype(np.float32)),
            index,
            len(numbers),
        )[number]
        for number, code in enumerate(numbers.tolist())
    ]
    np.testing.assert_allclose(torch.stack(means) + edges, data["scores"], rtol=0, atol=2e-4)


def stages() -> list:
    return [
        pytest.param(path, stage, id=stage)
        for path in golden_files("cops", "optimizer*.json")
        for stage in sorted(json.loads(path.read_text()))
    ]


@pytest.mark.parametrize(("path", "stage"), stages())
def test_trained_parts_and_learning_rates(path, stage):
    golden = json.loads(path.read_text())[stage]
    cfg = resolve_config(Config.fromfile(Path(CONFIGS) / STAGES[stage]))
    init_default_scope("mmpanoptic")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    published = CopsKeyMap(model).published
    divisors = {
        published[names[id(parameter)]]: golden["base_lr"] / group["lr"]
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
        if parameter.requires_grad
    }
    if golden["lr_divisor"] == "every parameter: 1":
        assert set(divisors.values()) == {1.0}
        assert len(divisors) == golden["num_parameters"]
    else:
        assert divisors == pytest.approx(golden["lr_divisor"], rel=1e-6)
    assert (cfg.base_lr, cfg.max_iters, cfg.warmup_iters) == (
        golden["base_lr"],
        golden["max_iter"],
        golden["warmup_iters"],
    )
    assert learning_rates(cfg, map(int, golden["lr_factor"])) == pytest.approx(
        list(golden["lr_factor"].values()), rel=1e-6
    )


def learning_rates(cfg: Config, iterations) -> list[float]:
    """Factors of the base rate, from the config's schedulers."""
    from mmpanoptic.registry import PARAM_SCHEDULERS

    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [
        PARAM_SCHEDULERS.build({**one, "optimizer": optimizer}) for one in cfg.param_scheduler
    ]
    wanted, factors = set(iterations), []
    for number in range(max(wanted) + 1):
        if number in wanted:
            factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return factors
