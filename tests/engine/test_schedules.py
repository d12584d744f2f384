"""The learning rates of Panoptic-DeepLab, by mmengine's schedulers."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpanoptic.engine.config import resolve_config
from mmpanoptic.registry import OPTIM_WRAPPERS, PARAM_SCHEDULERS
from tests.golden import golden_files

BASES = Path(__file__).parents[2] / "configs" / "_base_" / "schedules"


def published():
    """Yield (name, base learning rate, iterations, learning rate by iteration)."""
    for path in golden_files("panoptic_deeplab", "lr_schedule*.json"):
        for name, rates in json.loads(path.read_text()).items():
            if name != "note":
                _, base, length = name.split("_")
                rates = {int(iteration): rate for iteration, rate in rates.items()}
                yield pytest.param(float(base), int(length.replace("k", "000")), rates, id=name)


@pytest.mark.parametrize("name", ["adam_poly", "sgd_poly"])
@pytest.mark.parametrize(("base_lr", "max_iters", "rates"), published())
def test_schedules_of_the_base_configs_give_the_published_rates(name, base_lr, max_iters, rates):
    init_default_scope("mmpanoptic")
    cfg = Config.fromfile(BASES / f"{name}.py")
    cfg.merge_from_dict({"base_lr": base_lr, "max_iters": max_iters})
    cfg = resolve_config(cfg)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], cfg.base_lr)
    wrapper = OPTIM_WRAPPERS.build({"type": "OptimWrapper", "optimizer": optimizer})
    schedulers = [
        PARAM_SCHEDULERS.build(scheduler, default_args={"optimizer": wrapper})
        for scheduler in cfg.param_scheduler
    ]
    for iteration in range(max(rates) + 1):
        if iteration in rates:
            given = optimizer.param_groups[0]["lr"]
            assert given == pytest.approx(rates[iteration], rel=1e-9), iteration
        for scheduler in schedulers:
            scheduler.step()
