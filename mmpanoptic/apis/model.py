"""Building a model for inference from config and checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmpanoptic.checkpoints.errors import CheckpointError
from mmpanoptic.checkpoints.loading import load_checkpoint
from mmpanoptic.checkpoints.published import load_for_model, needs_model
from mmpanoptic.checkpoints.run_folder import run_checkpoint
from mmpanoptic.checkpoints.shipped_models import get_shipped_model, is_shipped_model
from mmpanoptic.checkpoints.weights import is_address
from mmpanoptic.engine.config import (
    explained_build_errors,
    label_table_of,
    resolve_config,
    stored_label_table,
    stored_sizes,
)
from mmpanoptic.engine.config_keys import apply_options
from mmpanoptic.registry import MODELS

from .configs import get_config

AMP_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def init_model(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> nn.Module:
    """Build a model and load its weights.

    The label table comes from the checkpoint if it has one, so that a machine for inference needs
    no dataset; else from the dataset of the config.

    Args:
        config: Path, name of a shipped config, a loaded config; or the folder of a run or the name
            of a shipped model (:func:`mmpanoptic.apis.list_shipped_models`), which stand for their
            own config and, without ``checkpoint``, their own weights.
        checkpoint: Path or address, see :func:`mmpanoptic.checkpoints.published.load_for_model`;
            of a run's folder its best checkpoint, else its newest
            (:func:`mmpanoptic.checkpoints.run_folder.run_checkpoint`). None leaves the weights
            random.
        device: None or ``auto``: the first CUDA device if there is one, else the CPU.
        cfg_options (Mapping | None): Values that replace those of the config, as
            ``{"model.backbone.depth": 50}``.
        trust (bool): Accept bookkeeping classes of other toolboxes in the checkpoint.

    Returns:
        nn.Module: In evaluation mode, with the attributes ``cfg`` (resolved), ``dataset_meta`` and
        ``checkpoint`` (file or address of its weights, or None).

    Raises:
        FileNotFoundError: If there is no such config.
        CheckpointError: If the checkpoint cannot be read or does not fit the model.
        ConfigError: If the config has settings that nothing reads, or wrong ones.
    """
    checkpoint = find_weights(config, checkpoint)
    cfg = config.copy() if isinstance(config, Config) else get_config(config)
    apply_options(cfg, cfg_options or {})
    is_foreign = checkpoint is not None and needs_model(checkpoint)
    content = load_checkpoint(checkpoint, trust=trust) if checkpoint and not is_foreign else {}
    stored = stored_label_table(content)
    meta = None if stored is None else {**content["meta"]["dataset_meta"], **stored.to_metainfo()}
    cfg = resolve_config(cfg, dataset_meta=meta, sizes=stored_sizes(content))
    if meta is None:
        meta = label_table_of(cfg).to_metainfo()
    init_default_scope("mmpanoptic")
    with explained_build_errors():
        model = MODELS.build(cfg.model)
    if checkpoint is not None and is_foreign:
        content = load_for_model(model, checkpoint, trust)
    if checkpoint is not None:
        _load_weights(model, content, checkpoint)
    model.cfg, model.dataset_meta, model.checkpoint = cfg, meta, checkpoint
    return model.to(choose_device(device)).eval()


def find_weights(
    config: str | os.PathLike[str] | Config, checkpoint: str | os.PathLike[str] | None
) -> str | os.PathLike[str] | None:
    """Choose the weights of a model: those given, or those of the run or shipped model given.

    Args:
        config: As in :func:`init_model`.
        checkpoint: As in :func:`init_model`.

    Returns:
        str | os.PathLike | None: File or address; None leaves the weights random.
    """
    if checkpoint is None and not isinstance(config, Config):
        if is_shipped_model(config):
            return get_shipped_model(os.fspath(config)).weights
        if Path(config).expanduser().is_dir():
            checkpoint = config
    if checkpoint is None or is_address(os.fspath(checkpoint)):
        return checkpoint
    path = Path(checkpoint).expanduser()
    return run_checkpoint(path) if path.is_dir() else checkpoint


def choose_device(device: str | torch.device | None) -> torch.device:
    """Return the given device, or the first CUDA device, or the CPU.

    Raises:
        ValueError: If the device's name is unknown, or it is a CUDA device and there is none.
    """
    if device is None or device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; use cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device} is not there: torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return chosen


def autocast(device: torch.device, amp: str | None) -> AbstractContextManager[Any]:
    """Give the context of a precision: that of :data:`AMP_TYPES`, or plain.

    Raises:
        ValueError: If the precision is unknown.
    """
    if amp is not None and amp not in AMP_TYPES:
        raise ValueError(f"amp must be {' or '.join(AMP_TYPES)}, got {amp!r}")
    return torch.autocast(device.type, AMP_TYPES[amp]) if amp else nullcontext()


def _load_weights(
    model: nn.Module, content: Mapping[str, Any], checkpoint: str | os.PathLike[str]
) -> None:
    """Load weights; every name and shape must fit."""
    weights = content.get("state_dict", content)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        lines = str(error).splitlines()
        shown = "\n".join(line[:300] for line in lines[1:6])
        raise CheckpointError(
            f"{checkpoint} does not fit the model of the config (another config, or other "
            f"classes?):\n{shown}"
        ) from error
