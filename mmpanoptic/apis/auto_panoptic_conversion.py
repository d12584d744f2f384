"""Conversion of released Auto-Panoptic and DetNAS weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmpanoptic.checkpoints.auto_panoptic_keys import AutoPanopticKeyMap
from mmpanoptic.checkpoints.foreign_weights import read_foreign_weights
from mmpanoptic.engine.config import label_table_of

from .conversion import Conversion, PathLike, model_of_config, write_conversion


def convert_auto_panoptic(
    source: PathLike,
    config: PathLike,
    out: PathLike,
    drop: Sequence[str] = (),
    new_classes: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
) -> Conversion:
    """Convert one of the four released layouts; which one follows from source and config.

    Args:
        source: A panoptic model or an ImageNet classifier, searched or supernet; see
            :func:`read_foreign_weights`.
        config: Path or name of the config with the same architecture: an ``AutoPanoptic`` (a
            classifier gives it the backbone) or an ``ImageClassifier``.
        out: The file to write.
        drop (Sequence[str]): Regular expressions of names to drop.
        new_classes (bool): The config's classes are others: leave out what depends on them.
        cfg_options (Mapping | None): Values that replace those of the config.

    Returns:
        Conversion: What was done.

    Raises:
        CheckpointError: If the source cannot be read.
        CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
        ValueError: If the config is that of another model.
    """
    model, cfg = model_of_config(config, cfg_options)
    key_map = AutoPanopticKeyMap(model)
    state = read_foreign_weights(source)
    ours = key_map.to_ours(state, drop=drop, new_classes=new_classes)
    wanted = key_map.wanted(state, new_classes)
    complete = not key_map.is_classifier and len(ours) == len(key_map.published)
    meta = {"dataset_meta": label_table_of(cfg).to_metainfo()} if complete else {}
    return write_conversion(out, meta, ours, set(wanted.values()), state)
