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


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe_data(cfg: Config) -> dict[str, Any]:
    """Describe the data and metrics of a search.

    Args:
        cfg (Config): Resolved config of the run.

    Returns:
        dict: Datasets with their pipelines, batch sizes, metrics, and the SHA-256 of every
        annotation file. The folder of the data is left out: machines that share a search may
        have it in different places.
    """
    described: dict[str, Any] = {"metrics": _plain(cfg.val_evaluator)}
    for name in ("train_dataloader", "val_dataloader"):
        loader = cfg[name]
        described[name] = {
            "dataset": _without_folders(_plain(loader["dataset"])),
            "sampler": _plain(loader.get("sampler", {})),
            "batch_size": loader.get("batch_size"),
            "files": {str(k): digest_of_file(v) for k, v in _files(loader["dataset"])},
        }
    return described


def _plain(value: Any) -> Any:
    return to_plain(value.to_dict() if hasattr(value, "to_dict") else value)


def _without_folders(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: _without_folders(v) for k, v in node.items() if k != "data_root"}
    if isinstance(node, list | tuple):
        return [_without_folders(item) for item in node]
    return node


def _files(dataset: Any) -> Iterator[tuple[str, Path]]:
    """Find the annotation files of a dataset's config and of those it wraps."""
    if isinstance(dataset, list | tuple):
        for part in dataset:
            yield from _files(part)
    if not isinstance(dataset, Mapping):
        return
    for key in ("ann_file", "instances_file"):
        name = dataset.get(key)
        if isinstance(name, str) and name:
            path = Path(dataset.get("data_root") or "") / name
            if path.is_file():
                yield name, path
    for key in ("dataset", "datasets"):
        yield from _files(dataset.get(key))
