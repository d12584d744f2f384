"""Evaluate one path of a supernet: recalibrate its batch norms, run the validation data."""

from __future__ import annotations

import copy
import itertools
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import Evaluator
from torch import nn
from torch.utils.data import DataLoader

from ..datasets.seeding import derive_seed
from ..engine.batches import endless_batches
from ..engine.random_state import isolated_random_state
from ..models.layers import set_path
from .recalibration import MODES, recalibrated_norms


class CandidateEvaluator:
    """Measure the metrics of paths of one supernet.

    The result depends on weights, path, data and settings alone: every evaluation takes the same
    batches, starts from the same random numbers and puts the norms' statistics back.

    Args:
        model (nn.Module): The supernet, not wrapped.
        train_loader (DataLoader): Data for the recalibration.
        val_loader (DataLoader): Data for the metrics.
        evaluator (Evaluator): The metrics.
        seed (int): Seed of the random numbers.
        num_batches (int): Batches of the recalibration per process; 0 keeps the statistics.
        mode (str): See :func:`~mmpanoptic.nas.recalibration.recalibrated_norms`.
        backbone_only (bool): Run only the backbone for the recalibration, which is enough where
            no other part has batch norms; False runs the losses of the whole model.
        cache (bool): Keep the loaded batches of both loaders in memory.

    Raises:
        ValueError: If the mode is unknown, or ``backbone_only`` would leave norms out.
    """

    def __init__(
        self,
        model: nn.Module,
        train_loader: DataLoader,
        val_loader: DataLoader,
        evaluator: Evaluator,
        seed: int,
        num_batches: int = 60,
        mode: str = "mean",
        backbone_only: bool = True,
        cache: bool = False,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"the mode of recalibration must be one of {MODES}, got {mode!r}")
        if backbone_only and num_batches:
            _check_norms_are_in_backbone(model)
        self.model: Any = model
        self.train_loader, self.val_loader = train_loader, val_loader
        self.evaluator = evaluator
        self.seed = seed
        self.num_batches, self.mode, self.backbone_only = num_batches, mode, backbone_only
        self._cached: dict[str, list[Any]] | None = {} if cache else None

    def __call__(self, path: Mapping[str, int]) -> dict[str, Any]:
        """Evaluate a path; to be called by all processes.

        Args:
            path (Mapping[str, int]): Choice by name of the decision.

        Returns:
            dict: ``status`` (``done`` or ``failed``), ``metrics`` by name (empty if failed),
            ``traceback`` if failed, ``seconds``.
        """
        start = time.perf_counter()
        with isolated_random_state(), torch.no_grad():
            torch.manual_seed(derive_seed(self.seed, 0))
            metrics, error = self._measure(path)
        record: dict[str, Any] = {
            "status": "failed" if error else "done",
            "metrics": metrics,
            "seconds": time.perf_counter() - start,
        }
        return record | ({"traceback": error} if error else {})

    def _measure(self, path: Mapping[str, int]) -> tuple[dict[str, float], str]:
        set_path(self.model, path)
        error = ""
        try:
            with self._recalibrated():
                self._predict()
        except Exception:  # a candidate that fails is recorded; the search goes on
            error = traceback.format_exc()
        errors = [text for text in all_gather_object(error) if text]
        if errors:
            for metric in self.evaluator.metrics:
                metric.results.clear()
            return {}, errors[0]
        metrics = self.evaluator.evaluate(len(self.val_loader.dataset))  # type: ignore[arg-type]
        numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
        return numbers, ""

    def _recalibrated(self) -> Any:
        forward = self._run_backbone if self.backbone_only else self._run_losses
        if not self.num_batches:
            return _evaluation_mode(self.model)
        return recalibrated_norms(self.model, forward, self._train_batches(), self.mode)

    def _run_backbone(self, batch: Any) -> None:
        self.model.backbone(self.model.data_preprocessor(batch, training=True)["inputs"])

    def _run_losses(self, batch: Any) -> None:
        self.model(**self.model.data_preprocessor(batch, training=True), mode="loss")

    def _predict(self) -> None:
        for batch in self._val_batches():
            outputs = self.model.val_step(batch)
            self.evaluator.process(data_samples=outputs, data_batch=batch)

    def _train_batches(self) -> Iterable[Any]:
        first = itertools.islice(endless_batches(self.train_loader, 0)[0], self.num_batches)
        return self._keep("train", first)

    def _val_batches(self) -> Iterable[Any]:
        return self._keep("val", self.val_loader)

    def _keep(self, name: str, batches: Iterable[Any]) -> Iterable[Any]:
        if self._cached is None:
            return batches
        if name not in self._cached:
            self._cached[name] = list(batches)
        # Preprocessor and model write into their batch.
        return (copy.deepcopy(batch) for batch in self._cached[name])


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Stand in for the recalibration where there is none."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _check_norms_are_in_backbone(model: nn.Module) -> None:
    norms = (nn.modules.batchnorm._BatchNorm,)
    outside = [
        name
        for name, module in model.named_modules()
        if isinstance(module, norms) and not name.startswith("backbone.")
    ]
    if outside:
        raise ValueError(
            f"the model has batch norms outside of its backbone ({', '.join(outside[:3])}); "
            "recalibrate them with calibration=dict(backbone_only=False)"
        )
