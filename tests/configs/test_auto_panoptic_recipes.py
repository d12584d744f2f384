"""Architectures and recipe of the searched models against the released ones."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.checkpoints.auto_panoptic_keys import AutoPanopticKeyMap
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS
from tests.golden import golden_dir

CONFIGS = Path(__file__).parents[2] / "configs" / "auto_panoptic"
COCO = "auto-panoptic_coco-3.8g_8xb2-90k_coco"
MODELS_OF = {"COCO_3.8G": COCO, "ADE_3.8G": "auto-panoptic_ade-3.8g_8xb2-90k_ade20k"}


def golden(name):
    return json.loads((golden_dir("auto_panoptic") / name).read_text())


def load(name):
    init_default_scope("mmpanoptic")
    return Config.fromfile(CONFIGS / f"{name}.py")


@pytest.fixture(scope="module")
def coco():
    cfg = resolve_config(load(COCO))
    with torch.device("meta"):
        return cfg, MODELS.build(cfg.model)


@pytest.mark.parametrize("name", MODELS_OF)
def test_the_architecture_is_the_released_one(name):
    model = load(MODELS_OF[name]).model
    found = [
        *model.backbone.choices,
        *model.roi_head.mask_head.choices,
        *model.semantic_head.choices,
        *model.f2b.choices,
        *model.b2f.choices,
    ]
    assert found == golden("encodings.json")[name]["flat"]


@pytest.mark.parametrize("name", ["COCO_3.8G", "ADE_3.8G"])
def test_classifier_and_detector_have_the_same_backbone(name):
    system, width = name.lower().split("_")
    classifier = resolve_stage(f"auto-panoptic_{system}-{width}_8xb64-600k_imagenet")
    detector = resolve_stage(MODELS_OF[name])
    shapes = [
        {key: value.shape for key, value in MODELS.build(cfg).state_dict().items()}
        for cfg in (classifier, detector)
    ]
    assert shapes[0] == shapes[1]


def resolve_stage(name):
    """Config of a stage's backbone, with plain norm layers."""
    cfg = load(name)
    backbone = {k: v for k, v in cfg.model.backbone.items() if k != "norm_cfg"}
    return {k: cfg[v[1:]] if str(v).startswith("$") else v for k, v in backbone.items()}


def test_learning_rates_and_weight_decay_of_every_tensor(coco):
    cfg, model = coco
    wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(
        {
            "type": "DefaultOptimWrapperConstructor",
            "optim_wrapper_cfg": {
                k: v for k, v in cfg.optim_wrapper.items() if k != "paramwise_cfg"
            },
            "paramwise_cfg": cfg.optim_wrapper.paramwise_cfg,
        }
    )(model)
    published = AutoPanopticKeyMap(model).published
    names = {id(parameter): published[name] for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    }
    expected = golden("optimizer.json")["searched"]
    for name, settings in expected["examples"].items():
        assert found[name] == pytest.approx(settings)
    counts = {(g["lr"], g["weight_decay"]): g["tensors"] for g in expected["groups"]}
    counts[0.02, 1e-4] -= 4  # of the level that the original builds and never uses
    counts[0.04, 0] -= 2
    assert {key: list(found.values()).count(key) for key in counts} == counts
    assert len(found) == sum(counts.values())


def test_the_learning_rate_follows_the_published_schedule(coco):
    cfg, _ = coco
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], cfg.base_lr)
    schedulers = [
        PARAM_SCHEDULERS.build(scheduler, default_args={"optimizer": optimizer})
        for scheduler in cfg.param_scheduler
    ]
    rates = dict(golden("optimizer.json")["lr_retrain_multistep"])
    for iteration in range(max(rates) + 1):
        if iteration in rates:
            assert optimizer.param_groups[0]["lr"] == pytest.approx(rates[iteration]), iteration
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
