"""The largest batch that a GPU holds, found by training steps before a run."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_gather_object, get_world_size, init_dist, is_distributed
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.data import DataLoader

from mmpanoptic.registry import MODELS, ConfigError

from .config import fill_sizes, resolve_config, resolve_variables, share_label_table
from .random_state import isolated_random_state

SHARE = 0.9
"""Of the memory that a step may take: later images have more objects than those tried."""
LOOKED_AT = 16
"""Images of the training data, of which the most demanding ones fill the batches."""
STEPS = 2
"""Of a try: at the second one the optimizer holds its state."""
MOST = 1024

Fits = Callable[[int], bool]


class Memory(Protocol):
    """What a try asks of a device."""

    def clear(self) -> None:
        """Give back what is not used, and forget the greatest use."""

    def needed(self) -> int:
        """Return the bytes that were taken at most."""

    def limit(self) -> int:
        """Return the bytes that this process may take."""


class GPUMemory:
    """The memory of the process's GPU; what other processes hold there is not to be had."""

    def clear(self) -> None:
        """Give back what is not used, and forget the greatest use."""
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def needed(self) -> int:
        """Return the bytes that were reserved at most."""
        return torch.cuda.max_memory_reserved()

    def limit(self) -> int:
        """Return the bytes that are free, and those that this process holds."""
        free, _ = torch.cuda.mem_get_info()
        return free + torch.cuda.memory_reserved()


class Choice(NamedTuple):
    """What was found.

    Attributes:
        batch (int): Images of a process.
        note (str): A line that says so.
    """

    batch: int
    note: str


def largest_batch(fits: Fits, most: int) -> int:
    """Find the largest batch by doubling, then by halving the gap.

    Args:
        fits (Callable[[int], bool]): Tries a batch; what fits, fits with fewer images, too.
        most (int): Not to be exceeded.

    Returns:
        int: From 0, when not even one image fits, to ``most``.
    """
    good, bad = 0, 1
    while bad <= most and fits(bad):
        good, bad = bad, 2 * bad
        if good < most < bad:
            bad = most
            if fits(bad):
                return most
            break
    bad = min(bad, most + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


class TrainingTrial:
    """Training steps of a config with any batch: forward, backward, optimizer.

    The model has the weights it is made with, at a learning rate of 0. Batches hold the most
    demanding of some images of the training data, by pixels and number of segments.

    Args:
        cfg (Config): Without placeholders.
        loader (DataLoader): Its training data, without workers.
        device (str): Where to train.
        memory (Memory): Of the device.
    """

    def __init__(self, cfg: Config, loader: DataLoader, device: str, memory: Memory) -> None:
        model_cfg = copy.deepcopy(cfg.model)
        if cfg.get("data_preprocessor"):
            model_cfg.setdefault("data_preprocessor", cfg.data_preprocessor)
        self.model: nn.Module = revert_sync_batchnorm(MODELS.build(model_cfg)).to(device).train()
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.optim_wrapper.initialize_count_status(self.model, 0, 2**31)
        for group in self.optim_wrapper.param_groups:
            group["lr"] = 0.0  # steps without a warm-up must not lead to what is not finite
        self.memory = memory
        self._collate = loader.collate_fn
        self._samples = sorted(_some(loader.dataset), key=_demand, reverse=True)
        weights = sum(p.numel() * p.element_size() for p in self.model.parameters())
        hooks = [hook.get("type") for hook in cfg.get("custom_hooks") or ()]
        # Beside the step: gradients in transit between processes, averaged weights.
        self._beside = weights * ((cfg.get("launcher", "none") != "none") + ("EMAHook" in hooks))

    def fits(self, batch: int) -> bool:
        """Tell whether training steps with a number of images stay below the limit.

        Args:
            batch (int): Images.
        """
        self.memory.clear()
        room = SHARE * self.memory.limit() - self._beside
        needed = self._needed(batch)
        self.memory.clear()
        return needed is not None and needed <= room

    def _needed(self, batch: int) -> int | None:
        """Train; return the bytes that were needed, None where there were too few."""
        samples = [self._samples[k % len(self._samples)] for k in range(batch)]
        try:
            for _ in range(STEPS * self.optim_wrapper._accumulative_counts):
                data = self._collate([copy.deepcopy(sample) for sample in samples])
                self.model.train_step(data, optim_wrapper=self.optim_wrapper)  # type: ignore[operator]
        except torch.OutOfMemoryError:
            return None
        finally:
            self.optim_wrapper.zero_grad(set_to_none=True)
        return self.memory.needed()


def _some(dataset: Any) -> Iterator[Any]:
    """Read images from the whole of a dataset."""
    count = min(LOOKED_AT, len(dataset))
    for k in range(count):
        yield dataset[k * len(dataset) // count]


def _demand(sample: Any) -> tuple[int, int]:
    """Compare samples by their pixels, then by what is annotated."""
    annotated = sample["data_samples"].get("gt_panoptic_seg")
    return sample["inputs"].numel(), len(annotated.segments_info) if annotated is not None else 0


def choose_batch(
    cfg: Config, build_loader: Callable[[Any], DataLoader], trial: Callable[..., Any] | None = None
) -> Choice:
    """Find the largest batch of a config, and let its schedule follow by ``auto_scale_lr``.

    Several processes try for themselves; all take the least.

    Args:
        cfg (Config): With its placeholders; the batch and ``auto_scale_lr`` are changed in place.
        build_loader (Callable): Makes a loader from its config.
        trial (Callable | None): In place of :class:`TrainingTrial` on this process's GPU.

    Returns:
        Choice: What was found.

    Raises:
        ConfigError: If there is no GPU, no number of images that the schedule is made for, or too
            little memory for one image.
    """
    if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
        raise ConfigError(
            "--auto-batch scales the learning rate and needs auto_scale_lr=dict(base_batch_size=N) "
            "in the config, N being the images of an iteration that its schedule was chosen for"
        )
    if trial is None and not torch.cuda.is_available():
        raise ConfigError(
            "--auto-batch tries how many images the memory of a GPU holds, and there is none here; "
            "on a CPU say --cfg-options batch_size=N"
        )
    launcher = cfg.get("launcher", "none")
    if launcher != "none" and not is_distributed():
        init_dist(launcher, **(cfg.get("env_cfg") or {}).get("dist_cfg", {}))
    start = time.perf_counter()
    scope = cfg.get("default_scope") or "mmpanoptic"
    with isolated_random_state(), DefaultScope.overwrite_default_scope(scope):
        found, most = _largest_here(cfg, build_loader, trial or TrainingTrial)
    everywhere = all_gather_object(found)
    batch = min(everywhere)
    if batch < 1:
        raise ConfigError(
            f"--auto-batch: the GPU of process {everywhere.index(batch)} does not hold a training "
            "step with one image; take smaller images (crop_size), --amp or a smaller model"
        )
    _set_batch(cfg, batch)
    why = "all training images" if batch == most else "the largest that fits"
    several = f", the least of {', '.join(map(str, everywhere))}" if len(everywhere) > 1 else ""
    seconds = time.perf_counter() - start
    return Choice(
        batch, f"auto_batch: {batch} images a process, {why}{several} (tried in {seconds:.0f} s)"
    )


def _largest_here(
    source: Config, build_loader: Callable[[Any], DataLoader], trial: Callable[..., Any]
) -> tuple[int, int]:
    """Find the largest batch of this process; also how many images there are for it."""
    cfg = copy.deepcopy(source)
    table = share_label_table(cfg)
    fill_sizes(cfg)
    cfg = resolve_config(cfg, None if table is None else table.to_metainfo())
    settings = {**cfg.train_dataloader, "batch_size": 1, "num_workers": 0}
    loader = build_loader(settings)
    images: Any = loader.dataset
    most = max(1, min(MOST, len(images) // get_world_size()))
    tried = trial(cfg, loader, get_device(), GPUMemory())
    found = largest_batch(tried.fits, most)
    del tried
    gc.collect()
    torch.cuda.empty_cache()
    return found, most


def _set_batch(cfg: Config, batch: int) -> None:
    """Write the batch where the config takes it from; let the schedule follow."""
    if "batch_size" in cfg:
        cfg.batch_size = batch
    if resolve_variables(cfg).train_dataloader.batch_size != batch:
        cfg.train_dataloader.batch_size = batch
    cfg.auto_scale_lr = {**cfg.auto_scale_lr, "enable": True}
