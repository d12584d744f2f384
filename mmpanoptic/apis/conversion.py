"""Conversion of published weights for the model of a config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import init_default_scope
from torch import nn

from mmpanoptic.checkpoints.conversion import Conversion, convert_published
from mmpanoptic.checkpoints.key_map import KeyMap
from mmpanoptic.engine.config import label_table_of, resolve_config
from mmpanoptic.models.segmentors.image_classifier import ImageClassifier
from mmpanoptic.registry import MODELS

from .configs import get_config

PathLike = str | os.PathLike[str]


def convert_model(
    source: PathLike,
    config: PathLike,
    out: PathLike,
    key_map: type[KeyMap],
    cfg_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Conversion:
    """Convert the published weights of a config's model, see :func:`convert_published`.

    Args:
        source: See :func:`mmpanoptic.checkpoints.foreign_weights.read_foreign_weights`.
        config: Path or name of the config of the same variant.
        out: The file to write.
        key_map (type[KeyMap]): The system's map of names.
        cfg_options (Mapping | None): Values that replace those of the config.
        options: ``drop``, ``new_classes`` and ``initial`` of :func:`convert_published`.

    Returns:
        Conversion: What was done.
    """
    model, cfg = model_of_config(config, cfg_options)
    is_classifier = isinstance(model, ImageClassifier)
    return convert_published(
        source,
        out,
        key_map(model),
        normalisation=(cfg.model.data_preprocessor.mean, cfg.model.data_preprocessor.std),
        dataset_meta=None if is_classifier else lambda: label_table_of(cfg).to_metainfo(),
        **options,
    )


def model_of_config(
    config: PathLike, cfg_options: Mapping[str, Any] | None
) -> tuple[nn.Module, Any]:
    """Build a model without memory for its weights; only names and shapes are needed.

    Args:
        config: Path or name of a config.
        cfg_options (Mapping | None): Values that replace those of the config.

    Returns:
        tuple: The model, and the resolved config.
    """
    cfg = get_config(config, cfg_options)
    cfg = resolve_config(cfg)
    init_default_scope("mmpanoptic")
    with torch.device("meta"):
        return MODELS.build(cfg.model), cfg
