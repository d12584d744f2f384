"""A supernet, its space and a search small enough to run in a second."""

from __future__ import annotations

from functools import partial

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel, BaseModule
from mmengine.structures import BaseDataElement
from torch import nn

from mmpanoptic.models.layers import check_choices, make_choice
from mmpanoptic.registry import METRICS, MODELS
from tests.engine.toy import toy_config

SPACE = [
    {"name": "backbone", "size": 3, "choices": ["k1", "k3"], "key": "backbone.choices"},
    {"name": "head", "size": 2, "choices": ["a", "b", "c"], "key": "head_choices"},
]
WINDOW = 6


def conv_bn(channels, kernel, norm):
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2),
        nn.BatchNorm2d(channels) if norm else nn.Identity(),
    )


@MODELS.register_module()
class ToySearchBackbone(BaseModule):
    def __init__(self, channels=4, choices=None, norm=True):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3)
        chosen = check_choices("choices", choices, 3)
        makers = [partial(conv_bn, channels, kernel, norm) for kernel in (1, 3)]
        self.blocks = nn.ModuleList(
            make_choice(f"backbone.{i}", makers, chosen[i]) for i in range(3)
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return x


@MODELS.register_module()
class ToySupernet(BaseModel):
    """Backbone with batch norm and a head of two decisions; the target is a number per image."""

    def __init__(self, backbone, head_choices=None):
        super().__init__({"type": "ImgDataPreprocessor"})
        self.backbone = MODELS.build(backbone)
        chosen = check_choices("head_choices", head_choices, 2)
        makers = [partial(nn.Linear, 4, 4, bias=bias) for bias in (True, False, True)]
        self.head = nn.ModuleList(make_choice(f"head.{i}", makers, chosen[i]) for i in range(2))
        self.last = nn.Linear(4, 1)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        x = self.backbone(inputs).mean((2, 3))
        for layer in self.head:
            x = torch.tanh(layer(x))
        out = self.last(x)[:, 0]
        if mode == "tensor":
            return out
        if mode == "predict":
            return [BaseDataElement(score=value) for value in out]
        target = torch.stack([sample.target for sample in data_samples])
        return {"loss": (out - target).square().mean()}


@METRICS.register_module()
class ToyScore(BaseMetric):
    """Mean of the predictions: a fitness that depends on weights, path and norms."""

    default_prefix = "toy"

    def process(self, data_batch, data_samples):
        self.results += [float(sample["score"]) for sample in data_samples]

    def compute_metrics(self, results):
        return {"PQ": sum(results) / len(results)}


MODEL = {"type": "ToySupernet", "backbone": {"type": "ToySearchBackbone"}}


def supernet_config(work_dir, steps=12, **changes):
    """Config that trains the supernet over fair windows."""
    cfg = toy_config(work_dir, steps=steps, **changes.pop("toy", {}))
    cfg.custom_imports = {"imports": ["tests.engine.toy", "tests.nas.toy"]}
    cfg.model = MODEL
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.train_cfg = {"type": "IterTrainLoop", "max_iters": steps, "val_interval": 1000}
    cfg.optim_wrapper = {
        "constructor": "SupernetOptimWrapperConstructor",
        "optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
        "accumulative_counts": WINDOW,
    }
    cfg.default_hooks.checkpoint.interval = WINDOW
    cfg.custom_hooks = [{"type": "SupernetPathHook", "space": SPACE}]
    cfg.merge_from_dict(changes)
    return cfg


def search_config(work_dir, weights, loop="PathPrioritySearchLoop", **options):
    """Config that searches in a trained supernet."""
    cfg = toy_config(work_dir)
    cfg.custom_imports = {"imports": ["tests.engine.toy", "tests.nas.toy"]}
    cfg.model = MODEL
    cfg.val_evaluator = {"type": "ToyScore"}
    cfg.load_from = str(weights)
    cfg.custom_hooks = []
    cfg.train_cfg = {
        "type": loop,
        "space": SPACE,
        "fitness": "toy/PQ",
        "calibration": {"num_batches": 2},
        "poll_seconds": 0.05,
        "storage": "memory",
        **options,
    }
    if loop == "PathPrioritySearchLoop":
        cfg.train_cfg.setdefault("cycles", 2)
    return cfg
