"""What a test changes in the config of a training."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, MutableMapping
from typing import Any

from mmengine.config import Config


def set_predictions_folder(cfg: Config, folder: str, format_only: bool) -> None:
    """Let the test's metrics write their predictions, in the form that their test server takes.

    Args:
        cfg (Config): Changed in place.
        folder (str): Receives ``predictions.panoptic.json`` and ``predictions.panoptic/*.png``,
            and what other metrics write (``predictions.segm.json``, ``predictions.semantic/``).
        format_only (bool): Write the files and compute no metric; metrics that write none are
            left out.

    Raises:
        ValueError: If none of the test's metrics writes files.
    """
    metrics = list(_metrics(cfg.get("test_evaluator")))
    writers = [metric for metric in metrics if _writes_files(metric)]
    if not writers:
        raise ValueError(
            "--out-dir and --format-only need a metric that writes files, such as "
            "PanopticQualityMetric, in the config's test_evaluator, which has "
            f"{', '.join(str(m.get('type')) for m in metrics) or 'no metric'}"
        )
    for metric in writers:
        metric["outfile_prefix"] = os.path.join(folder, "predictions")
        metric["format_only"] = format_only
    if format_only:
        cfg.test_evaluator = writers


def set_per_image_table(cfg: Config, file: str | os.PathLike[str]) -> None:
    """Let the test write the panoptic quality of every image.

    Args:
        cfg (Config): Changed in place.
        file: ``.csv`` or ``.json``.

    Raises:
        ValueError: If the test has no PanopticQualityMetric.
    """
    metrics = list(_metrics(cfg.get("test_evaluator")))
    panoptic = [metric for metric in metrics if "per_image" in _arguments(metric)]
    if not panoptic:
        raise ValueError(
            "--per-image needs PanopticQualityMetric in the config's test_evaluator, which has "
            f"{', '.join(str(m.get('type')) for m in metrics) or 'no metric'}"
        )
    panoptic[0]["per_image"] = os.fspath(file)


def use_test_time_augmentation(cfg: Config) -> None:
    """Test with averages over augmentations of each image.

    Args:
        cfg (Config): Changed in place. ``tta_model`` wraps the model (``PanopticTTAModel`` by
            default) and ``tta_pipeline`` takes the place of the test pipeline; without one the
            image and its mirror image are averaged.
    """
    dataset = cfg.test_dataloader.dataset
    while "pipeline" not in dataset and "dataset" in dataset:
        dataset = dataset.dataset
    pipeline = cfg.get("tta_pipeline")
    if pipeline is None:
        pipeline = dataset.pipeline
        if isinstance(pipeline, str):  # "$name", a variable of the config
            pipeline = cfg[pipeline.removeprefix("$")]
        *steps, pack = pipeline
        flips = [{"type": "PanopticRandomFlip", "prob": prob} for prob in (0.0, 1.0)]
        pipeline = [*steps, {"type": "TestTimeAug", "transforms": [flips, [pack]]}]
    dataset.pipeline = pipeline
    wrapper = cfg.get("tta_model") or {"type": "PanopticTTAModel"}
    cfg.model = {**wrapper, "module": cfg.model}


def draw_predictions(
    cfg: Config, folder: str | None, show: bool = False, wait_time: float = 2.0
) -> None:
    """Let the test draw every image.

    Args:
        cfg (Config): Changed in place.
        folder (str | None): Receives the pictures.
        show (bool): Show them in a window.
        wait_time (float): Seconds that each is shown.
    """
    hooks = dict(cfg.get("default_hooks", {}))
    hooks["visualization"] = {
        "type": "PanopticVisualizationHook",
        "draw": True,
        "show": show,
        "wait_time": wait_time,
        "out_dir": folder,
    }
    cfg.default_hooks = hooks


def _writes_files(metric: MutableMapping[str, Any]) -> bool:
    """Tell whether a metric takes mmdet's usual arguments for writing predictions."""
    return {"outfile_prefix", "format_only"} <= _arguments(metric)


def _arguments(metric: MutableMapping[str, Any]) -> set[str]:
    """List the names of a metric's own arguments; none of one that nobody knows."""
    from mmpanoptic.registry import METRICS

    kind = metric.get("type")
    found = METRICS.get(kind) if isinstance(kind, str) else kind
    return set(inspect.signature(found).parameters) if found is not None else set()


def _metrics(evaluator: Any) -> Iterable[MutableMapping[str, Any]]:
    if isinstance(evaluator, list | tuple):
        for part in evaluator:
            yield from _metrics(part)
    elif isinstance(evaluator, MutableMapping):
        if "metrics" in evaluator:
            yield from _metrics(evaluator["metrics"])
        else:
            yield evaluator
