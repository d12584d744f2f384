"""Schedule and parameters of the fine-tuning of RAP against the reference's numbers."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmpanoptic.checkpoints.rap_keys import RapKeyMap
from mmpanoptic.datasets.label_sets import COCO_PANOPTIC
from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import MODELS
from tests.golden import golden_files
from tests.parity.rap_variants import CONFIGS, SYSTEM
from tests.parity.test_rap_recipe import rates, wrap

LEAF = "rap_r50_relation-finetune_8xb2-10k_coco.py"
SCHEDULES = golden_files(SYSTEM, "schedule*.json")


def config(**options):
    cfg = Config.fromfile(CONFIGS / LEAF)
    cfg.merge_from_dict(options)
    return resolve_config(cfg, COCO_PANOPTIC.to_metainfo())


@pytest.mark.parametrize("path", SCHEDULES, ids=lambda p: p.stem)
def test_the_learning_rate_never_drops_as_in_the_published_runs(path):
    expected = json.loads(path.read_text())["relation_finetune"]["lr_by_iteration_weights"]
    expected = {int(iteration): rate for iteration, rate in expected.items()}
    cfg = config()
    ours = rates(cfg, wrap(cfg, torch.nn.Linear(1, 1)), list(expected))
    assert ours == pytest.approx(expected, rel=1e-9)
    assert cfg.train_cfg.max_iters == max(expected)


def test_the_drop_that_the_published_configs_intend_is_an_option():
    cfg = config(drop_at=5000)
    ours = rates(cfg, wrap(cfg, torch.nn.Linear(1, 1)), [5000, 5001, 10000])
    assert ours == pytest.approx({5000: 0.002, 5001: 0.0002, 10000: 0.0002}, rel=1e-9)


@pytest.mark.parametrize("path", SCHEDULES, ids=lambda p: p.stem)
def test_only_the_parameters_of_the_head_are_trained(path):
    expected = json.loads(path.read_text())["relation_finetune"]
    cfg = config()
    with torch.device("meta"), DefaultScope.overwrite_default_scope("mmpanoptic"):
        model = MODELS.build(cfg.model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    published = RapKeyMap(model).published
    base = cfg.optim_wrapper.optimizer
    ours = {
        published[names[id(group["params"][0])]]: {
            "lr_over_base": group["lr"] / base.lr,
            "weight_decay": group["weight_decay"],
        }
        for group in wrap(cfg, model).param_groups
        if group["params"][0].requires_grad
    }
    assert len(ours) == expected["num_param_groups"]
    for group in expected["groups"]:
        own = ours[group["name"]]
        assert own["lr_over_base"] == pytest.approx(group["lr_over_base"])
        assert own["weight_decay"] == group["weight_decay"]
