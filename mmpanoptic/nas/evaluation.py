"""Evaluate one path of a supernet: recalibrate its batch norms, run the validation data."""

from __future__ import annotations

import copy
import itertools
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_world_size
from mmengine.evaluator import Evaluator
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from ..datasets.seeding import derive_seed
from ..engine.batches import endless_batches
from ..engine.random_state import isolated_random_state
from ..models.layers import set_path
from ..models.layers.recalibration import MODES, recalibrated_norms
from ..utils.muting import muted

Judge = Callable[[int, Mapping[str, float]], bool]
"""Gets the number of a check, from 1, and the metrics so far; tells whether to give up."""


@dataclass
class CandidateEvaluator:
    """Measure the metrics of paths of one supernet.

    The result depends on weights, path, data and settings alone: every evaluation takes the same
    batches, starts from the same random numbers and puts the norms' statistics back.

    Attributes:
        model (nn.Module): The supernet, not wrapped.
        train_loader (DataLoader): Data for the recalibration.
        val_loader (DataLoader): Data for the metrics.
        evaluator (Evaluator): The metrics.
        seed (int): Seed of the random numbers.
        num_batches (int): Batches of the recalibration per process; 0 keeps the statistics.
        mode (str): See :func:`~mmpanoptic.models.layers.recalibration.recalibrated_norms`.
        backbone_only (bool): Run only the backbone for the recalibration, which is enough where
            no other part has batch norms; False runs the losses of the whole model.
        cache (bool): Keep the loaded batches of both loaders in memory.
        checks (Sequence[float]): Shares of the validation data after which a candidate may be
            given up.

    Raises:
        ValueError: If the mode or a check is unknown, or ``backbone_only`` would leave norms out.
    """

    model: Any
    train_loader: DataLoader
    val_loader: DataLoader
    evaluator: Evaluator
    seed: int
    num_batches: int = 60
    mode: str = "mean"
    backbone_only: bool = True
    cache: bool = False
    checks: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"the mode of recalibration must be in {MODES}, got {self.mode!r}")
        if any(not 0 < share < 1 for share in self.checks):
            raise ValueError(f"the shares of early checks lie between 0 and 1, got {self.checks}")
        modules = self.model.named_modules()
        norms = [name for name, module in modules if isinstance(module, _BatchNorm)]
        outside = [name for name in norms if not name.startswith("backbone.")]
        if outside and self.backbone_only and self.num_batches:
            raise ValueError(
                f"the model has batch norms outside of its backbone ({', '.join(outside[:3])}); "
                "recalibrate them with calibration=dict(backbone_only=False)"
            )
        self.checks = sorted(self.checks)
        self._batches = 0
        self._cached: dict[str, list[Any]] = {}

    def __call__(self, path: Mapping[str, int], judge: Judge | None = None) -> dict[str, Any]:
        """Evaluate a path; to be called by all processes.

        Returns:
            dict: ``status`` (``done``, ``failed`` or ``pruned``), ``metrics`` by name (empty if
            failed, of a part of the data if pruned), ``traceback`` if failed, ``seconds``,
            ``batches`` of the validation data that this process ran.
        """
        start = time.perf_counter()
        with isolated_random_state(), torch.no_grad():
            torch.manual_seed(derive_seed(self.seed, 0))
            record = self._measure(path, judge)
        return record | {"seconds": time.perf_counter() - start, "batches": self._batches}

    def _measure(self, path: Mapping[str, int], judge: Judge | None) -> dict[str, Any]:
        set_path(self.model, path)
        error, part = "", {}
        try:
            with self._recalibrated():
                part = self._predict(judge if self.checks else None)
        except Exception:  # a candidate that fails is recorded; the search goes on
            error = traceback.format_exc()
        errors = [text for text in all_gather_object(error) if text]
        if errors or part:
            for metric in self.evaluator.metrics:
                metric.results.clear()
            if not errors:
                return {"status": "pruned", "metrics": part}
            return {"status": "failed", "metrics": {}, "traceback": errors[0]}
        metrics = self.evaluator.evaluate(len(self.val_loader.dataset))  # type: ignore[arg-type]
        return {"status": "done", "metrics": _numbers(metrics)}

    def _recalibrated(self) -> Any:
        if not self.num_batches:
            return nullcontext(self.model.eval())
        first = itertools.islice(endless_batches(self.train_loader, 0)[0], self.num_batches)
        return recalibrated_norms(self.model, self._run, self._keep("train", first), self.mode)

    def _run(self, batch: Any) -> None:
        data = self.model.data_preprocessor(batch, training=True)
        if self.backbone_only:
            self.model.backbone(data["inputs"])
        else:
            self.model(**data, mode="loss")

    def _predict(self, judge: Judge | None) -> dict[str, float]:
        """Run the validation data; return the metrics so far if the candidate is given up."""
        places = [max(1, round(share * len(self.val_loader))) for share in self.checks]
        self._batches = images = 0
        for batch in self._keep("val", self.val_loader):
            outputs = self.model.val_step(batch)
            self.evaluator.process(data_samples=outputs, data_batch=batch)
            self._batches += 1
            images += len(outputs)
            if judge and self._batches in places and self._batches < len(self.val_loader):
                metrics = self._metrics_so_far(images)
                if judge(1 + places.index(self._batches), metrics):
                    return metrics
        return {}

    def _metrics_so_far(self, images: int) -> dict[str, float]:
        """Compute the metrics of the images that every process has seen so far."""
        # A metric that is evaluated forgets its records.
        part = copy.deepcopy(self.evaluator)
        size = min(images * get_world_size(), len(self.val_loader.dataset))  # type: ignore[arg-type]
        with muted():  # tables of a part would look like those of the whole
            return _numbers(part.evaluate(size))

    def _keep(self, name: str, batches: Iterable[Any]) -> Iterable[Any]:
        if not self.cache:
            return batches
        if name not in self._cached:
            self._cached[name] = list(batches)
        # Preprocessor and model write into their batch.
        return (copy.deepcopy(batch) for batch in self._cached[name])


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
