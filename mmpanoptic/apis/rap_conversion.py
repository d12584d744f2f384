"""Conversion of weights that trainings of Panoptic FPN start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmpanoptic.checkpoints.detectron_keys import is_detectron, name_blobs
from mmpanoptic.checkpoints.foreign_weights import read_foreign_weights
from mmpanoptic.checkpoints.rap_keys import RapKeyMap

from .conversion import Conversion, PathLike, model_of_config, write_conversion


def convert_initial_weights(
    source: PathLike,
    config: PathLike,
    out: PathLike,
    drop: Sequence[str] = (),
    new_classes: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
) -> Conversion:
    """Convert an ImageNet backbone or a Mask R-CNN of Detectron or maskrcnn-benchmark.

    Args:
        source: See :func:`read_foreign_weights`; blobs of Detectron's ``.pkl``, or tensors in the
            naming of maskrcnn-benchmark.
        config: Path or name of the config with the same backbone.
        out: The file to write; ``load_from`` of a training config reads it.
        drop (Sequence[str]): Regular expressions of names (in the naming of maskrcnn-benchmark)
            to drop.
        new_classes (bool): The config's classes are others: leave out what depends on them.
        cfg_options (Mapping | None): Values that replace those of the config.

    Returns:
        Conversion: What was done.

    Raises:
        CheckpointError: If the source cannot be read.
        CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
    """
    state = read_foreign_weights(source)
    left_out: list[str] = []
    if is_detectron(state):
        state, left_out = name_blobs(state)
    key_map = RapKeyMap(model_of_config(config, cfg_options)[0])
    ours = key_map.initial_to_ours(state, drop, new_classes)
    used = {key_map.source_name(key_map.published[name]) for name in ours}
    every = {**state, **dict.fromkeys(left_out, torch.empty(0))}
    return write_conversion(out, {}, ours, used, every)
