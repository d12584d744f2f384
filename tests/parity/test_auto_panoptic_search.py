"""Search, sampling, costs and learning rates of Auto-Panoptic against the published code."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmpanoptic.engine.config import resolve_config
from mmpanoptic.models.layers import set_path
from mmpanoptic.models.layers.recalibration import recalibrated_norms
from mmpanoptic.nas.auto_panoptic_cost import make_costs
from mmpanoptic.nas.optim import SupernetOptimWrapperConstructor
from mmpanoptic.nas.sampling import FairPaths, fair_table
from mmpanoptic.nas.scoring import best_architectures, rank_scores
from mmpanoptic.nas.space import SearchSpace
from mmpanoptic.registry import MODELS, OPTIM_WRAPPERS, PARAM_SCHEDULERS
from tests.data.golden.panoptic_deeplab import synthetic_checkpoint
from tests.golden import Golden, golden_cases, layout_file
from tests.parity.auto_panoptic_weights import SUPERNET, SYSTEM, decisions, model_config

WIDTHS = {
    "300M": (16, 64, 160, 320, 640),
    "1.3G": (48, 96, 240, 480, 960),
    "3.8G": (72, 172, 432, 864, 1728),
}
CLASSIFIER_WIDTHS = {"1.3G": 1024, "3.8G": 1728}  # before the last layer


def size_in(name: str) -> tuple[int, int]:
    """The image size that a name of the golden file states, as ``224`` or ``800x1344``."""
    height, width = re.search(r"_(\d+)(?:x(\d+))?(?:_|$)", name).groups()
    return int(height), int(width or height)


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    init_default_scope("mmpanoptic")
    cfg = Config.fromfile(SUPERNET)
    cfg.pop("model")
    return SearchSpace(resolve_config(cfg).search_space)


def heads_only(space: SearchSpace) -> SearchSpace:
    return SearchSpace([group for group in space.groups if group.name != "backbone"])


def model_at(width: str):
    cfg = model_config()
    cfg.backbone.widths = WIDTHS[width]
    cfg.neck.in_channels = list(WIDTHS[width][1:])
    return cfg


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "encodings*.json"))
def test_codes_of_architectures(path, space):
    for case in read(path).values():
        arch = space.parse(case["compact"])
        assert arch == space.parse(case["flat"]) == space.parse([case["json"]])
        assert space.to_json(arch) == case["json"]
        assert space.digits(arch) == case["compact"]
        names = space.describe(arch)
        assert names["backbone"] == [
            op for stage in case["decoded"]["backbone_stages"] for op in stage
        ]
        assert names["mask"] == case["decoded"]["mask_head"]
        assert names["semantic"] == case["decoded"]["semantic"]
        for group in ("f2b", "b2f"):
            assert [f"Inter-{name}" for name in names[group]] == case["decoded"][group]


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "sampler_tables*.json"))
def test_fair_tables(path, space):
    for case in read(path):
        table = fair_table(space, np.random.RandomState(case["np_seed"]))
        columns = case["backbone"] + case["head"] + case["inter"]
        np.testing.assert_array_equal(table.T, columns)


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "trainer_windows*.json"))
def test_the_published_windows_are_one_iteration_late_and_ours_are_not(path, space):
    content = read(path)
    late, ours = FairPaths(space, 0, strict_legacy_windows=True), FairPaths(space, 0)
    for rows in content.values():
        first = rows[0]["iteration"] - 1
        for row in rows:
            window, place = late.locate(row["iteration"] - 1)
            assert place == row["row"]
            assert window - late.locate(first)[0] == row["table"]
    for row in content["from_iteration_0"]:
        assert row["step"] == (row["iteration"] % space.window == 0)
        assert (ours.locate(row["iteration"] - 1)[1] == space.window - 1) == row["step"]


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "search_trace*.json"))
def test_complete_searches(path, space):
    for trace in read(path):
        own = space if trace["search_backbone"] else heads_only(space)
        assert own.window == trace["lcm"]
        rng = np.random.RandomState(trace["np_seed"])
        cycles: list[list] = [[] for _ in range(trace["cycles"])]
        for case in trace["candidates"]:
            arch = own.validate(case["backbone"] + case["head"] + case["inter"])
            cycles[case["cycle"]].append((arch, case["fitness"]))
        for cycle in cycles:
            np.testing.assert_array_equal(fair_table(own, rng), [arch for arch, _ in cycle])
        for number, board in enumerate(trace["scoreboard_after_cycle"]):
            scores = rank_scores(own, cycles[: number + 1])
            lists = [np.array(board[key]).T for key in ("backbone", "head", "inter")]
            expected = [column for table in lists for column in table][-len(own) :]
            for column, values in zip(expected, scores, strict=True):
                np.testing.assert_array_equal(column[: len(values)], values)
        models = [own.parse(model) for model in trace["models"].values()]
        assert best_architectures(own, scores, strict_legacy_ties=True) == models
        # The rule that does not depend on the processor agrees where it matters.
        assert best_architectures(own, scores)[0] == models[0]


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "complexity*.json"))
def test_costs_of_backbones(path, space):
    content = read(path)
    ((group, cases),) = ((k, v) for k, v in content.items() if k.startswith("backbone_"))
    for case in cases.values():
        arch = [*case["arch"], *[0] * (len(space) - len(case["arch"]))]
        for key in (key for key in case if key.startswith("macs")):
            size = size_in(group if key == "macs" else key)
            cost = make_costs(space, model_at(case["width"]), size).cost(arch)
            assert cost["macs.backbone"] == case[key]
            assert cost["params.backbone"] == case["params"]


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "complexity*.json"))
def test_costs_of_operations(path):
    from mmpanoptic.models.layers.head_ops import head_op_macs

    for op, macs in read(path)["op_macs_per_position_256in_256out"].items():
        assert head_op_macs(op, 256, 256) == macs


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "complexity*.json"))
def test_costs_of_classifiers(path, space):
    content = read(path)
    ((group, cases),) = ((k, v) for k, v in content.items() if k.startswith("imagenet_classifier"))
    ((_, backbones),) = ((k, v) for k, v in content.items() if k.startswith("backbone_"))
    coco = backbones["COCO_3.8G"]["arch"]
    backbone = SearchSpace([group for group in space.groups if group.name == "backbone"])
    for width, expected in cases.items():
        head = {"in_channels": WIDTHS[width][-1], "channels": CLASSIFIER_WIDTHS[width]}
        cfg = {"backbone": model_at(width).backbone, "head": head | {"num_labels": 1000}}
        cost = make_costs(backbone, cfg, size_in(group)).cost(coco)
        assert (cost["macs"], cost["params"]) == (expected["macs"], expected["params"])


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "complexity*.json"))
def test_costs_of_whole_detectors(path, space):
    content, codes = read(path), read(layout_file(SYSTEM, "encodings.json"))
    ((group, cases),) = ((k, v) for k, v in content.items() if k.startswith("detector_macs_"))
    counts = [int(n) for n in re.search(r"_(\d+)box_(\d+)mask", group).groups()]
    ours = {
        "body": "backbone",
        "fpn": "neck",
        "rpn": "rpn_head",
        "box_head": "bbox_head",
        "mask_head": "mask_head",
    }
    for name, expected in cases.items():
        cfg = model_at("3.8G" if "3.8G" in name else "1.3G")
        costs = make_costs(space, cfg, size_in(group), *counts, background_rows=True)
        cost = costs.cost(codes[name]["flat"])
        assert cost["macs"] == expected["total"]
        for theirs, part in ours.items():
            assert cost[f"macs.{part}"] == expected[theirs]
        assert cost["macs.semantic_head"] == expected["seg_subnet"] + expected["seg_score"]
        assert cost["macs.f2b"] + cost["macs.b2f"] == expected["inter"]
        dead = content["detector_params"]["COCO_3.8G"]["dead(fpn_inner1,fpn_layer1)"]
        if "3.8G" not in name:  # the dead level has the width of the stem
            dead = 256 * WIDTHS["1.3G"][0] + 9 * 256 * 256 + 4 * 256
        assert cost["params"] + dead == content["detector_params"][name]["total"]


@pytest.fixture(scope="module")
def supernet() -> nn.Module:
    init_default_scope("mmpanoptic")
    with torch.device("meta"):
        return MODELS.build(model_config())


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "optimizer*.json"))
def test_learning_rates_of_the_supernet(path, supernet):
    expected = {
        (round(group["lr"], 8), group["weight_decay"]): group["tensors"]
        for group in read(path)["supernet"]["groups"]
    }
    # The level of the pyramid that never runs is left out: two convolutions with norms.
    expected[round(0.02 / 12, 8), 1e-4] -= 4
    expected[0.04, 0] -= 2
    settings = constructor(12).summed_settings(supernet).values()
    assert Counter((round(lr, 8), decay) for lr, decay in settings) == expected


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "optimizer*.json"))
def test_learning_rates_of_the_searched_model(path):
    init_default_scope("mmpanoptic")
    from tests.parity.auto_panoptic_weights import COCO_3_8G

    with torch.device("meta"):
        model = MODELS.build(model_config(COCO_3_8G))
    counts = {group["lr"]: group["tensors"] for group in read(path)["searched"]["groups"]}
    settings = list(constructor(1).summed_settings(model).values())
    assert settings.count((0.02, 1e-4)) == counts[0.02] - 4
    assert settings.count((0.04, 0.0)) == counts[0.04] - 2


def constructor(passes: int) -> SupernetOptimWrapperConstructor:
    return SupernetOptimWrapperConstructor(
        {
            "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4},
            "accumulative_counts": passes,
        },
        {"legacy_bias_lr": True},
    )


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "optimizer*.json"))
@pytest.mark.parametrize(
    ("config", "curve"),
    [("auto-panoptic_supernet-1.3g_8xb2-90k_coco-nas", "lr_supernet_cosine")],
)
def test_learning_rate_of_every_iteration(path, config, curve):
    cfg = resolve_without_model(SUPERNET.with_name(f"{config}.py"))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    wrapper = OPTIM_WRAPPERS.build({"type": "OptimWrapper"}, default_args={"optimizer": optimizer})
    schedulers = [
        PARAM_SCHEDULERS.build(step, default_args={"optimizer": wrapper})
        for step in cfg.param_scheduler
    ]
    wanted = dict(read(path)[curve])
    for iteration in range(max(wanted) + 1):
        if iteration in wanted:
            lr = optimizer.param_groups[0]["lr"]
            assert lr == pytest.approx(wanted[iteration], rel=1e-6, abs=1e-9)
        for scheduler in schedulers:
            scheduler.step()


def resolve_without_model(path):
    cfg = Config.fromfile(path)
    cfg.pop("model")
    return resolve_config(cfg)


def published_backbone_names(backbone: nn.Module) -> dict[str, str]:
    from mmpanoptic.checkpoints.auto_panoptic_keys import AutoPanopticKeyMap

    holder = nn.Module()
    holder.backbone = backbone
    names = AutoPanopticKeyMap(holder).published
    return {ours.removeprefix("backbone."): theirs for ours, theirs in names.items()}


@pytest.mark.parametrize("path", golden_cases(SYSTEM, "bn_recalibration*.npz"))
def test_recalibration_of_batch_norms(path):
    init_default_scope("mmpanoptic")
    golden = Golden(path)
    cfg = model_config()
    backbone = MODELS.build({**cfg.backbone, "norm_cfg": {"type": "BN"}})
    names = published_backbone_names(backbone)
    state = {
        ours: torch.from_numpy(
            synthetic_checkpoint.synthetic_tensor(f"backbone.{names[ours]}", tuple(value.shape))
        )
        for ours, value in backbone.state_dict().items()
    }
    backbone.load_state_dict(state)
    choices = zip(decisions(), golden["path"].tolist(), strict=True)
    set_path(backbone, {name: c for name, c in choices if name.startswith("backbone.")})
    height, width, count = map(int, golden["meta"])
    norms = {v: k.rsplit(".", 1)[0] for k, v in names.items() if k.endswith("running_mean")}
    batches = [images(int(seed), height, width, count) for seed in golden["seeds"]]
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with recalibrated_norms(backbone, backbone, batches, mode="ema") as touched, torch.no_grad():
        golden.equal("n_touched", [touched])
        # Deep layers see few cells, so that the noise of float32 grows from stage to stage.
        for number, layer in enumerate(golden["layers"]):
            name = norms[f"{layer}.running_mean"]
            norm = backbone.get_submodule(name)
            quantity = f"auto_panoptic.recalibrated_norms_{stage_of(backbone, name)}"
            golden.close(quantity, f"std_mean{number}", norm.running_mean)
            golden.close(quantity, f"std_var{number}", norm.running_var)
        for level, feature in enumerate(
            backbone(images(int(golden["seeds"][0]), height, width, 1))
        ):
            quantity = f"auto_panoptic.recalibrated_body_{level}"
            golden.close(quantity, f"std_body{level}", feature[:, ::32])
    after = backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def stage_of(backbone: nn.Module, name: str) -> int:
    """Stage of the block ``blocks.<number>...``."""
    ends = np.cumsum(backbone.depths)
    return int(np.searchsorted(ends, int(name.split(".")[1]), side="right"))


def images(seed: int, height: int, width: int, count: int) -> torch.Tensor:
    pixels = [synthetic_checkpoint.synthetic_image(seed + i, height, width) for i in range(count)]
    batch = torch.from_numpy(np.stack(pixels)).float()
    return batch - torch.tensor([102.9801, 115.9465, 122.7717])[:, None, None]
