"""Make every way by which mmengine reads weights a safe one."""

from __future__ import annotations

from typing import Any

from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from ..utils.checkpoint import load_checkpoint


def install_safe_loading() -> None:
    """Route ``init_cfg=dict(type="Pretrained", ...)`` through our reader of checkpoints.

    Local files, ``https://`` addresses and the model names of ``torchvision://`` and
    ``open-mmlab://`` are read with ``weights_only=True`` and checked; see
    :func:`mmpanoptic.utils.checkpoint.load_checkpoint`.

    Differences from the original: mmengine 0.10.7 reads downloads with an unpickler that runs
    code from the file.
    """
    # The readers of model names look this function up in their module when they are called.
    mmengine_checkpoint.load_from_http = _read
    CheckpointLoader.register_scheme(("http://", "https://"), _read, force=True)
    CheckpointLoader.register_scheme("", _read, force=True)


def _read(filename: str, map_location: Any = None, *_: Any, **__: Any) -> dict[str, Any]:
    return load_checkpoint(filename, map_location or "cpu")
