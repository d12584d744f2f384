"""A model, a dataset and a config small enough to train in milliseconds."""

from __future__ import annotations

import time
from itertools import count

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from mmpanoptic.datasets.seeding import seed_sample
from mmpanoptic.registry import DATASETS, HOOKS, METRICS, MODELS

_NUMBERS = count()


@DATASETS.register_module()
class ToyDataset(Dataset):
    """Images whose noise and flip ("augmentation") follow from seed, epoch and index."""

    def __init__(self, size=13, seed=None, bad_index=None, delay=0.0):
        self.size, self.seed, self.bad_index, self.delay = size, seed, bad_index, delay
        self.metainfo = {"classes": ("a", "b"), "dataset_ids": [1, 2], "isthing": [1, 0]}
        self.drawn = []

    def __len__(self):
        return self.size

    def get_data_info(self, index):
        return {"width": 2 + index % 3, "height": 3}  # two of three are wide

    def __getitem__(self, index):
        self.drawn.append((int(index), getattr(index, "epoch", 0)))
        time.sleep(self.delay)
        with seed_sample(self.seed or 0, getattr(index, "epoch", 0), int(index)):
            image = torch.full((3, 6, 6), float(index) / self.size) + 0.3 * torch.randn(3, 6, 6)
            if np.random.rand() < 0.5:
                image = image.flip(-1)
        if index == self.bad_index:
            image[0, 0, 0] = float("nan")
        sample = BaseDataElement(metainfo={"img_id": f"image{int(index)}"})
        sample.target = torch.tensor(index / self.size)
        return {"inputs": image, "data_samples": sample}


@MODELS.register_module()
class ToyModel(BaseModel):
    def __init__(self, width=4, sync_bn=False):
        super().__init__()
        norm = nn.SyncBatchNorm if sync_bn else nn.BatchNorm2d
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 3),
            norm(width),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(width * 16, 1),
        )

    def forward(self, inputs, data_samples=None, mode="tensor"):
        out = self.net(torch.stack(inputs))[:, 0].float()
        if mode == "predict":
            torch.rand(3)  # validation that draws random numbers must not change training
            return [BaseDataElement(score=value) for value in out]
        target = torch.stack([sample.target for sample in data_samples])
        return {"loss_l2": (out - target).square().mean(), "loss_l1": (out - target).abs().mean()}


@METRICS.register_module()
class ToyMetric(BaseMetric):
    default_prefix = "toy"

    def process(self, data_batch, data_samples):
        self.results += [float(sample["score"]) for sample in data_samples]

    def compute_metrics(self, results):
        torch.rand(5)
        return {"PQ": float(np.mean(results))}


@HOOKS.register_module()
class RateRecorder(Hook):
    """Keep the learning rate of every iteration."""

    def __init__(self):
        self.rates = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.get_lr()["lr"][0])


def toy_config(work_dir, by_epoch=False, **changes):
    """Config of a run with augmentation, dropout, batch norm, EMA, momentum and a schedule.

    Args:
        work_dir: Folder of the run.
        by_epoch: Loop over epochs (7 batches each) or iterations.
        **changes: As for ``Config.merge_from_dict``; ``steps``, ``workers`` and ``optimizer``
            replace what their names say.
    """
    sampler = "SeededSampler" if by_epoch else "InfiniteSeededSampler"
    steps = changes.pop("steps", 2 if by_epoch else 10)
    workers = changes.pop("workers", 0)
    optimizer = changes.pop("optimizer", {"type": "SGD", "lr": 0.05, "momentum": 0.9})
    loader = {
        "dataset": {"type": "ToyDataset"},
        "sampler": {"type": sampler, "shuffle": True},
        "batch_size": 2,
        "num_workers": workers,
    }
    val_loader = {**loader, "sampler": {"type": "SeededSampler", "shuffle": False}}
    length = {"max_epochs": steps} if by_epoch else {"max_iters": steps}
    cfg = {
        "default_scope": "mmpanoptic",
        "runner_type": "PanopticRunner",
        "custom_imports": {"imports": ["tests.engine.toy"]},
        "work_dir": str(work_dir),
        # Two runners of one second would share mmengine's global message hub otherwise.
        "experiment_name": f"toy{next(_NUMBERS)}",
        "model": {"type": "ToyModel"},
        "train_dataloader": loader,
        "val_dataloader": val_loader,
        "val_evaluator": {"type": "ToyMetric"},
        "val_cfg": {},
        "train_cfg": {"by_epoch": by_epoch, "val_interval": 1 if by_epoch else 3, **length},
        "optim_wrapper": {"optimizer": optimizer},
        "param_scheduler": [
            {"type": "PolyLR", "by_epoch": False, "begin": 0, "end": 60, "power": 0.9}
        ],
        "default_hooks": {
            "checkpoint": {
                "type": "AtomicCheckpointHook",
                "by_epoch": by_epoch,
                "interval": 1 if by_epoch else 5,
                "max_keep_ckpts": 3,
            },
            "logger": {"type": "MainProcessLoggerHook", "interval": 50},
        },
        "custom_hooks": [
            {"type": "EMAHook", "momentum": 0.1, "update_buffers": True},
            {"type": "NonFiniteLossHook"},
        ],
        "randomness": {"seed": 3},
        "env_cfg": {"mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
        "log_level": "WARNING",
        "load_from": None,
        "resume": False,
    }
    cfg = Config(cfg)
    cfg.merge_from_dict(changes)
    return cfg


def train(cfg):
    """Train and return the runner."""
    from mmpanoptic.engine.runner import PanopticRunner

    runner = PanopticRunner.from_cfg(cfg)
    runner.train()
    return runner


def final_state(runner):
    """Everything that a continued run would go on from, flattened to tensors by name."""
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == "EMAHook")
    model = getattr(runner.model, "module", runner.model)
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    state |= {f"ema.{k}": v for k, v in ema.ema_model.state_dict().items()}
    for index, entry in runner.optim_wrapper.optimizer.state_dict()["state"].items():
        state |= {f"optim.{index}.{k}": v for k, v in entry.items() if torch.is_tensor(v)}
    state["torch_rng"] = torch.get_rng_state()
    state["lr"] = torch.tensor(runner.optim_wrapper.get_lr()["lr"], dtype=torch.float64)
    return state


def assert_same(first, second):
    """Assert bitwise equality of two states."""
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different
