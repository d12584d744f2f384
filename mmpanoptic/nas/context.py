"""What an evaluation depends on besides the architecture, as plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ..engine.checkpoint_state import to_plain


def digest_of_weights(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def describe_data(cfg: Config) -> dict[str, Any]:
    """Describe the data and metrics of a resolved config of a search.

    Returns:
        dict: Datasets with their pipelines, batch sizes, metrics, and the SHA-256 of every
        annotation file. The folder of the data is left out: machines that share a search may
        have it in different places.
    """
    whole = cfg.to_dict()
    described: dict[str, Any] = {"metrics": to_plain(whole["val_evaluator"])}
    for name in ("train_dataloader", "val_dataloader"):
        loader = to_plain(whole[name])
        described[name] = {
            "dataset": _without_folders(loader["dataset"]),
            "sampler": loader.get("sampler", {}),
            "batch_size": loader.get("batch_size"),
            "files": dict(_digests_of_files(loader["dataset"])),
        }
    return described


def _without_folders(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: _without_folders(v) for k, v in node.items() if k != "data_root"}
    if isinstance(node, list | tuple):
        return [_without_folders(item) for item in node]
    return node


def _digests_of_files(dataset: Any) -> Iterator[tuple[str, str]]:
    """Find the annotation files of a dataset's config and of those it wraps."""
    if isinstance(dataset, list | tuple):
        for part in dataset:
            yield from _digests_of_files(part)
    if not isinstance(dataset, Mapping):
        return
    for key in ("ann_file", "instances_file"):
        name = dataset.get(key)
        path = Path(dataset.get("data_root") or "") / name if isinstance(name, str) else Path()
        if name and path.is_file():
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            yield name, digest.hexdigest()
    for key in ("dataset", "datasets"):
        yield from _digests_of_files(dataset.get(key))
