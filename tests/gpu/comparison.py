"""The same model on a CPU and on a GPU: how far apart what it computes may lie.

Runs on a GPU (``-m gpu``, ``tools/dev/gpu_check.py``) and on the pretended one, whose numbers are
the CPU's, so that there the code that only a GPU takes is compared in `make test`.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

LIMITS = {"outputs": 1e-4, "losses": 1e-4, "gradients": 1e-3, "other pixels": 1e-3}
"""Largest deviations in float32 without TF32, of the scale of what is compared.

The gradients' is larger: they went through batch norms of two images. Pixels may differ where two
values tie but for rounding.
"""
DETECTIONS = 2e-2
"""Share of other pixels where boxes were found: one tie may add or remove an instance."""


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute in float32 without TF32, with the same algorithm each time."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends], torch.backends.cudnn.deterministic
    for backend in backends:
        backend.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before[0], strict=True):
            backend.allow_tf32 = allowed
        torch.backends.cudnn.deterministic = before[1]


def deviation(ours: Any, theirs: Any) -> float:
    """Largest difference of float tensors by the largest value; infinity if shapes differ."""
    pairs = [
        [leaf.detach().cpu().double() for leaf in tree_leaves(found) if _is_float(leaf)]
        for found in (ours, theirs)
    ]
    if [leaf.shape for leaf in pairs[0]] != [leaf.shape for leaf in pairs[1]]:
        return math.inf
    worst = 0.0
    for one, other in zip(*pairs, strict=True):
        if one.numel():
            scale = max(one.abs().max().item(), 1e-6)
            worst = max(worst, (one - other).abs().max().item() / scale)
    return worst


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def other_pixels(ours: Any, theirs: Any) -> float:
    """Share of the pixels of two ``pred_panoptic_seg`` that lie in other segments or classes."""
    one, other = (found.index_map.cpu().flatten().long() for found in (ours, theirs))
    classes = [
        torch.tensor([-1, *(segment["label"] for segment in found.segments_info)])
        for found in (ours, theirs)
    ]
    shared = torch.zeros(len(classes[0]), len(classes[1]), dtype=torch.int64)
    shared.index_put_((one, other), torch.ones_like(one), accumulate=True)
    shared *= classes[0][:, None] == classes[1]
    return 1 - shared.amax(1).sum().item() / len(one)


def learn(model: Any, batch: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
    """Compute the losses of a batch and the gradients, joined to one vector."""
    torch.manual_seed(1)
    model.train()
    model.zero_grad()
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    losses = model(**data, mode="loss")
    model.parse_losses(losses)[0].backward()
    gradients = [p.grad.detach().cpu().flatten() for p in model.parameters() if p.grad is not None]
    return {name: value for name, value in losses.items() if "loss" in name}, torch.cat(gradients)


def predict(model: Any, batch: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Compute the heads' outputs, as far as no detections, and the predictions."""
    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(copy.deepcopy(batch), False)
        outputs = model.forward_heads(data["inputs"], data["data_samples"])
        return outputs, model.postprocess(outputs, data["data_samples"])


def compare(here: Any, there: Any, train: dict[str, Any], test: dict[str, Any]) -> dict[str, float]:
    """Compare two copies of a model, the second one on a device.

    Args:
        here (PanopticSegmentor): On the CPU.
        there (PanopticSegmentor): The same weights on the device.
        train (dict): Batch with ground truth, before the data preprocessor.
        test (dict): Batch to predict.

    Returns:
        dict[str, float]: Deviations by the names of :data:`LIMITS`.
    """
    found = {}
    with full_precision():
        (outputs, samples), (outputs_there, samples_there) = (
            predict(here, test),
            predict(there, test),
        )
        found["outputs"] = deviation(outputs.semantic, outputs_there.semantic)
        if not hasattr(here, "roi_head"):
            found["outputs"] = max(
                found["outputs"], deviation(outputs.instance, outputs_there.instance)
            )
        if "pred_panoptic_seg" in samples[0]:
            found["other pixels"] = max(
                other_pixels(one.pred_panoptic_seg, other.pred_panoptic_seg)
                for one, other in zip(samples, samples_there, strict=True)
            )
        (losses, gradients), (losses_there, gradients_there) = (
            learn(here, train),
            learn(there, train),
        )
    found["losses"] = deviation(losses, losses_there)
    difference = (gradients_there - gradients).norm()
    found["gradients"] = (difference / gradients.norm().clamp(min=1e-12)).item()
    return found


def too_far(found: dict[str, float], detects: bool) -> dict[str, float]:
    """Return the deviations that are beyond their limit."""
    limits = {**LIMITS, "other pixels": DETECTIONS} if detects else LIMITS
    return {name: value for name, value in found.items() if not value <= limits[name]}


def count_waits(step: Callable[[], Any]) -> Counter[str]:
    """Count by line where the host waits for a GPU, as CUDA itself tells."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [one for one in said if "synchronizing CUDA operation" in str(one.message)]
    return Counter(f"{one.filename}:{one.lineno}" for one in waits)
