"""Objectives of a tuning: a training with some settings, or the fusion of saved network outputs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import TestLoop

from mmpanoptic.engine.checkpoint_hook import find_metric
from mmpanoptic.engine.checkpoint_state import bare_model
from mmpanoptic.registry import LOOPS, MODELS
from mmpanoptic.tuning import require_optuna
from mmpanoptic.utils.muting import muted

from .live_fusion import count_bytes, move_outputs

FUSION = "model.fusion_head."
MEMORY = 4 << 30
"""Bytes of saved outputs that are admitted."""


def read_space(path: str | Path, cfg: Config) -> tuple[dict[str, Any], Config]:
    """Read the file that says what to tune.

    Args:
        path: A config file with ``space``: by name of the setting ``dict(low=, high=, log=,
            step=)`` (whole numbers if both ends are), or ``dict(choices=[...])``.
        cfg (Config): Config of the model, in which the settings must have a place.

    Returns:
        tuple[dict, Config]: Optuna's distributions by name; the whole file.

    Raises:
        ValueError: If it has no space, or a setting or its range is wrong; with the reason.
    """
    content = Config.fromfile(str(path))
    space = content.get("space")
    if not isinstance(space, dict) or not space:
        raise ValueError(f"{path} needs space = {{'optim_wrapper.optimizer.lr': dict(low=...)}}")
    found = {}
    for name, spec in space.items():
        _check_place(name, cfg, path)
        try:
            found[name] = _distribution(dict(spec))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, space[{name!r}]: {error}") from error
    return found, content


def _distribution(spec: dict[str, Any]) -> Any:
    distributions = require_optuna().distributions
    if "choices" in spec:
        return distributions.CategoricalDistribution(tuple(spec.pop("choices")), **spec)
    if not {"low", "high"} <= spec.keys():
        raise ValueError("needs low and high (and perhaps log, step), or choices")
    whole = isinstance(spec["low"], int) and isinstance(spec["high"], int)
    kind = distributions.IntDistribution if whole else distributions.FloatDistribution
    return kind(**spec)


def _check_place(name: str, cfg: Config, path: str | Path) -> None:
    """Make sure that a setting's parents are in the config; a new leaf is the part's to judge."""
    if name.startswith(FUSION) and cfg.get("model", {}).get("fusion_head") is None:
        return  # of a guest, which has one all the same; of another model the tuning says so
    node: Any = cfg
    *parents, last = name.split(".")
    for number, parent in enumerate(parents):
        if isinstance(node, list | tuple) and parent.isdigit() and int(parent) < len(node):
            node = node[int(parent)]
        elif isinstance(node, dict | Config) and parent in node:
            node = node[parent]
        else:
            there = ", ".join(map(str, node)) if isinstance(node, dict | Config) else str(node)
            raise ValueError(
                f"{path}, space[{name!r}]: the config has no {'.'.join(parents[: number + 1])}; "
                f"there are {there}"
            )
    if not parents and last not in cfg:
        raise ValueError(f"{path}, space[{name!r}]: the config has no variable of this name")


def read_last_validation(work_dir: Path, metric: str) -> dict[str, float]:
    """Read the metrics of the last validation of a training.

    Args:
        work_dir (Path): Folder of the run.
        metric (str): The metric that is wanted, with or without its prefix.

    Returns:
        dict[str, float]: All of them.

    Raises:
        ValueError: If there was no validation with this metric.
    """
    # Folders of runs are named by their time; a resumed training has several.
    for path in sorted(work_dir.glob("*/vis_data/scalars.json"), reverse=True):
        for line in reversed(path.read_text(encoding="utf-8").splitlines()):
            values = json.loads(line)
            if any(name.rpartition("/")[2] == metric.rpartition("/")[2] for name in values):
                return {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
    raise ValueError(
        f"the training in {work_dir} has no validation with the metric {metric!r}; it needs "
        "val_dataloader and val_evaluator, and a validation at its end"
    )


@LOOPS.register_module()
class FusionTuningLoop(TestLoop):
    """Run the network once over the test data, then fuse its outputs as often as one likes.

    It takes the place of a test loop: ``tune`` gets :meth:`fuse` when the outputs are there.
    """

    tune: Callable[[Callable[[Mapping[str, Any]], dict[str, float]]], object]

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Save the outputs and call ``tune``.

        Returns:
            dict[str, float]: Empty.

        Raises:
            ValueError: If the model has no fusion head, or the outputs need too much memory.
        """
        model: Any = bare_model(self.runner.model)
        self.model = model
        if getattr(model, "fusion_head", None) is None:
            raise ValueError("this model has no fusion_head to tune")
        # Guests fill in what their configs leave out.
        filled = getattr(model, "fusion_cfg", None) or self.runner.cfg.model.fusion_head
        self.plain = Config({"fusion_head": dict(filled)})
        model.eval()
        self.saved: list[tuple[Any, Any, Any]] = []
        used = 0
        for batch in self.dataloader:
            data = model.data_preprocessor(batch, False)
            outputs = model.forward_heads(data["inputs"], data["data_samples"])
            outputs = move_outputs(outputs, torch.device("cpu"))
            used += count_bytes(outputs)
            if used > MEMORY:
                raise ValueError(
                    f"the outputs of {len(self.saved)} batches fill {MEMORY >> 30} GiB; take fewer "
                    "images: --cfg-options test_dataloader.dataset.indices=200"
                )
            self.saved.append((outputs, data["data_samples"], batch))
        self.tune(self.fuse)
        return {}

    @torch.no_grad()
    def fuse(self, settings: Mapping[str, Any]) -> dict[str, float]:
        """Fuse the saved outputs and compute the metrics.

        Args:
            settings (Mapping): Values by name of the setting, ``model.fusion_head.`` in front.

        Returns:
            dict[str, float]: As a test with these ``--cfg-options`` gives.
        """
        device = next(self.model.parameters()).device
        cfg = copy.deepcopy(self.plain)
        cfg.merge_from_dict({name.removeprefix("model."): v for name, v in settings.items()})
        head = MODELS.build(cfg.fusion_head).to(device).eval()
        for outputs, samples, batch in self.saved:
            copies = [sample.new() for sample in samples]
            fused = self.model.postprocess(move_outputs(outputs, device), copies, head)
            self.evaluator.process(data_samples=fused, data_batch=batch)
        with muted():  # the tables of every trial would bury its progress
            metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        return {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}


def objective_of(metrics: Mapping[str, float], metric: str) -> float:
    """Look a metric up, with or without its prefix.

    Raises:
        ValueError: If there is none of this name, or several.
    """
    return metrics[find_metric(metric, metrics)]
