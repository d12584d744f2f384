"""How fast a model is: inference stage by stage, training step by step."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope

from mmpanoptic.datasets.transforms.source_grid import SourceGrid
from mmpanoptic.ops import name_backends
from mmpanoptic.registry import MODELS, TRANSFORMS
from mmpanoptic.structures import OVERLAP_FIELD, LabelTable

from .inferencer import build_test_pipeline, iter_sources
from .model import autocast

STAGES = ("decode", "preprocess", "network", "postprocess")
NUM_CLASSES, NUM_THINGS = 19, 8
ROWS, COLUMNS = 4, 6
"""Segments of a made-up image."""


@torch.inference_mode()
def time_inference(
    model: Any,
    images: str,
    num: int,
    warmup: int = 0,
    post: bool = True,
    amp: str | None = None,
    track: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, dict[str, float]]:
    """Run over images one by one.

    Args:
        model (PanopticSegmentor): From ``init_model``.
        images (str): Image or folder; fewer files than needed are repeated.
        num (int): Images that count.
        warmup (int): Images before them.
        post (bool): Post-process the network's outputs.
        amp (str | None): "fp16" or "bf16".
        track (Callable): Shows progress.

    Returns:
        dict: Milliseconds "mean", "p50" and "p95" of each of :data:`STAGES` and their "total".
    """
    device = next(model.parameters()).device
    pipeline = build_test_pipeline(model.cfg).transforms
    stages = STAGES if post else STAGES[:3]
    times: dict[str, list[float]] = {stage: [] for stage in stages}
    sources = islice(cycle(list(iter_sources(images))), warmup + num)
    for number, source in enumerate(track(sources)):
        clock = _Clock(device)
        loaded = clock.time("decode", pipeline[0], source.to_sample())
        batch = clock.time("preprocess", _prepare, model, pipeline[1:], loaded)
        samples = batch["data_samples"]
        with autocast(device, amp):
            outputs = clock.time("network", model.forward_heads, batch["inputs"], samples)
            if post:
                clock.time("postprocess", model.postprocess, outputs, samples)
        if number >= warmup:
            for stage in stages:
                times[stage].append(clock.seconds[stage])
    return _summarise(times)


class _Clock:
    """Time stages; a CUDA device is waited for, so that each stage pays for its own work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    def time(self, stage: str, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        _wait(self.device)
        self.seconds[stage] = time.perf_counter() - start
        return result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _prepare(model: Any, steps: Sequence[Callable[[Any], Any]], sample: Any) -> dict[str, Any]:
    for step in steps:
        sample = step(sample)
    batch: dict[str, Any] = model.data_preprocessor(pseudo_collate([sample]), False)
    return batch


def _summarise(times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    stages = {stage: np.array(seconds) * 1e3 for stage, seconds in times.items()}
    stages["total"] = np.sum(list(stages.values()), axis=0)
    return {
        stage: {
            "mean": float(values.mean()),
            "p50": float(np.percentile(values, 50)),
            "p95": float(np.percentile(values, 95)),
        }
        for stage, values in stages.items()
    }


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Name what the figures depend on."""
    cuda = device.type == "cuda"
    name = (
        torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine()
    )
    return {
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "operators": name_backends(device),
        "peak_memory_mib": _peak_memory(device),
    }


def _peak_memory(device: torch.device) -> int | None:
    """Return the device's peak allocation, or on the CPU the process's peak resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


class StepTimer:
    """Time training and inference of a model on made-up images.

    Args:
        cfg (Config): Resolved with the label table of :func:`make_table`.
        batch_size (int): Images per step.
        size (tuple[int, int]): Their height and width.
        device (torch.device): Where it runs.
        iters (int): Steps that count.
        warmup (int): Steps before them.
    """

    def __init__(
        self,
        cfg: Config,
        batch_size: int,
        size: tuple[int, int],
        device: torch.device,
        iters: int,
        warmup: int,
    ) -> None:
        init_default_scope("mmpanoptic")
        self.cfg, self.device = cfg, device
        self.iters, self.warmup = iters, warmup
        self.batch = make_batch(cfg, batch_size, *size)

    def measure(
        self, channels_last: bool = False, amp: str | None = None, compile: bool = False
    ) -> dict[str, float]:
        """Time with some switches.

        Args:
            channels_last (bool): Weights and images channels last.
            amp (str | None): "fp16" or "bf16".
            compile (bool): Compile backbone and heads.

        Returns:
            dict: Images per second of "train" (forward, losses, backward, a step of Adam) and
            "inference" (the network without post-processing).
        """
        torch.manual_seed(0)
        options = {"channels_last": True} if channels_last else {}
        model = MODELS.build({**self.cfg.model, **options})
        if self.device.type == "cpu":
            model = revert_sync_batchnorm(model)
        model = model.to(self.device)
        batch = model.data_preprocessor(self.batch, training=True)
        if compile:
            model.forward_heads = torch.compile(model.forward_heads)
        optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), 1e-4)
        scaler = torch.amp.GradScaler(self.device.type, enabled=amp == "fp16")

        def train() -> None:
            with autocast(self.device, amp):
                losses, _ = model.parse_losses(model(**batch, mode="loss"))
            optimizer.zero_grad()
            scaler.scale(losses).backward()
            scaler.step(optimizer)
            scaler.update()

        def infer() -> None:
            with torch.no_grad(), autocast(self.device, amp):
                model.forward_heads(batch["inputs"], batch["data_samples"])

        speeds = {}
        for name, step in (("train", train), ("inference", infer)):
            model.train(name == "train")
            speeds[name] = len(batch["inputs"]) / self._median(step)
        return speeds

    def _median(self, step: Callable[[], None]) -> float:
        seconds = []
        for number in range(self.warmup + self.iters):
            start = time.perf_counter()
            step()
            _wait(self.device)
            if number >= self.warmup:
                seconds.append(time.perf_counter() - start)
        return float(np.median(seconds))


def make_table() -> LabelTable:
    """Make up as many classes as Cityscapes has."""
    first = NUM_CLASSES - NUM_THINGS
    return LabelTable.from_categories(
        [
            {"id": k + 1, "name": f"class {k}", "isthing": int(k >= first)}
            for k in range(NUM_CLASSES)
        ]
    )


def make_batch(cfg: Config, batch_size: int, height: int, width: int) -> dict[str, Any]:
    """Make up images with a grid of segments of all classes, packed as the config's training does.

    Args:
        cfg (Config): With ``train_dataloader``.
        batch_size (int): Images.
        height (int): Of an image.
        width (int): Of an image.

    Returns:
        dict: ``inputs`` and ``data_samples``, before the data preprocessor. A dataset with an
        ``instances_file`` also gives each instance one that lies in front of it.

    Raises:
        ValueError: If the training is none of panoptic maps.
    """
    dataset = (cfg.get("train_dataloader") or {}).get("dataset") or {}
    while "pipeline" not in dataset and "dataset" in dataset:
        dataset = dataset["dataset"]
    steps = dataset.get("pipeline") or []
    if not steps or steps[-1]["type"] != "PackPanopticInputs":
        raise ValueError(
            "the config's training pipeline does not end with PackPanopticInputs; only trainings "
            "on panoptic maps are timed"
        )
    pack = TRANSFORMS.build(steps[-1])
    rng = np.random.default_rng(0)
    scenes = [
        _make_scene(rng, height, width, bool(dataset.get("instances_file")))
        for _ in range(batch_size)
    ]
    return pseudo_collate([pack(scene) for scene in scenes])


def _make_scene(
    rng: np.random.Generator, height: int, width: int, relations: bool
) -> dict[str, Any]:
    """Make up what the last step of a training pipeline gets."""
    rows, columns = (np.arange(n) * k // n for n, k in ((height, ROWS), (width, COLUMNS)))
    index = (rows[:, None] * COLUMNS + columns + 1).astype(np.uint8)
    labels = rng.permutation(np.arange(ROWS * COLUMNS) % NUM_CLASSES)
    segments = [
        {"id": k, "label": int(c), "isthing": bool(c >= NUM_CLASSES - NUM_THINGS), "iscrowd": 0}
        for k, c in enumerate(labels, 1)
    ]
    scene = {
        "img": rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        "img_shape": (height, width),
        "ori_shape": (height, width),
        "height": height,
        "width": width,
        "gt_seg_map": index,
        "segments_info": segments,
    }
    if relations:
        things = [segment for segment in segments if segment["isthing"]]
        scene["instances"] = [
            {
                "id": segment["id"],
                "label": segment["label"],
                "iscrowd": 0,
                "mask": _box_polygon(index == segment["id"]),
                OVERLAP_FIELD: [things[k - 1]["id"]] if k else [],
            }
            for k, segment in enumerate(things)
        ]
        scene["source_grid"] = SourceGrid.identity(height, width)
    return scene


def _box_polygon(mask: np.ndarray) -> list[list[float]]:
    y, x = np.nonzero(mask)
    left, top, right, bottom = (float(v) for v in (x.min(), y.min(), x.max() + 1, y.max() + 1))
    return [[left, top, right, top, right, bottom, left, bottom]]
