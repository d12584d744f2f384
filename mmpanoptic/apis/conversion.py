"""Conversion of published weights to ours and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmpanoptic.checkpoints.foreign_weights import read_foreign_weights, take_normalisation
from mmpanoptic.checkpoints.loading import load_checkpoint, save_checkpoint
from mmpanoptic.checkpoints.panoptic_deeplab_keys import PublishedKeyMap
from mmpanoptic.engine.config import label_table_of, resolve_config
from mmpanoptic.registry import MODELS

from .configs import get_config

PathLike = str | os.PathLike[str]


class KeyMap(Protocol):
    """A translation of published names."""

    @property
    def published(self) -> Mapping[str, str]:
        """Published name by our name."""
        ...

    def to_ours(
        self,
        state: Mapping[str, Any],
        backbone_only: bool = False,
        drop: Sequence[str] = (),
        new_classes: bool = False,
    ) -> dict[str, Any]:
        """Rename the tensors of a published checkpoint, see :class:`PublishedKeyMap`."""
        ...


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        out (Path): The file that was written.
        placed (int): Tensors in it.
        zeroed (int): Batch counters that the source lacks; they became 0.
        dropped (list[str]): Names of the source that have no place in the result.
    """

    out: Path
    placed: int
    zeroed: int
    dropped: list[str]

    def report(self) -> str:
        """Describe the conversion in a few lines."""
        lines = [f"{self.placed} tensors written to {self.out}"]
        if self.zeroed:
            lines.append(f"{self.zeroed} of them are batch counters that were absent and are 0 now")
        lines.append(f"{len(self.dropped)} tensors deliberately dropped")
        return "\n".join([*lines, *(f"  {name}" for name in self.dropped)])


def convert_backbone(
    source: PathLike,
    out: PathLike,
    make_config: Callable[[Mapping[str, Tensor]], dict[str, Any]],
    drop: Sequence[str] = (),
    make_key_map: Callable[[nn.Module], KeyMap] = PublishedKeyMap,
) -> Conversion:
    """Convert ImageNet weights; every tensor is placed, or dropped and listed.

    Args:
        source: See :func:`read_foreign_weights`.
        out: The file to write; ``load_from`` of a training config reads it.
        make_config (Callable): Gives the backbone's config for the source's tensors.
        drop (Sequence[str]): Regular expressions of names to drop, besides known classifiers.
        make_key_map (Callable): Makes the translation of the checkpoint's names for a model.

    Returns:
        Conversion: What was done.

    Raises:
        CheckpointError: If the source cannot be read.
        CheckpointMismatchError: If tensors are missing, unexpected or of another shape.
    """
    init_default_scope("mmpanoptic")
    state = read_foreign_weights(source)
    with torch.device("meta"):
        model = nn.ModuleDict({"backbone": MODELS.build(make_config(state))})
    key_map = make_key_map(model)
    ours = key_map.to_ours(state, backbone_only=True, drop=drop)
    used = {key_map.published[name].removeprefix("backbone.") for name in ours}
    return write_conversion(out, {}, ours, used, state)


def convert_model(
    source: PathLike,
    config: PathLike,
    out: PathLike,
    drop: Sequence[str] = (),
    new_classes: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    make_key_map: Callable[[nn.Module], KeyMap] = PublishedKeyMap,
) -> Conversion:
    """Convert a published Panoptic-DeepLab, DeepLabV3+ or COPS model.

    Args:
        source: See :func:`read_foreign_weights`.
        config: Path or name of the config of the same variant.
        out: The file to write.
        drop (Sequence[str]): Regular expressions of names to drop.
        new_classes (bool): The config's classes are others: leave the semantic predictor out.
        cfg_options (Mapping | None): Values that replace those of the config.
        make_key_map (Callable): Makes the translation of the system's names for a model.

    Returns:
        Conversion: What was done.

    Raises:
        CheckpointError: If the source cannot be read.
        CheckpointMismatchError: If tensors are missing, unexpected or of another shape, or the
            checkpoint was trained with another input normalisation.
    """
    model, cfg = model_of_config(config, cfg_options)
    state = read_foreign_weights(source)
    names = dict(state)
    preprocessor = cfg.model.data_preprocessor
    take_normalisation(state, preprocessor.mean, preprocessor.std)
    key_map = make_key_map(model)
    ours = key_map.to_ours(state, drop=drop, new_classes=new_classes)
    meta = {} if new_classes else {"dataset_meta": label_table_of(cfg).to_metainfo()}
    return write_conversion(out, meta, ours, {key_map.published[name] for name in ours}, names)


def restore_published(
    source: PathLike,
    config: PathLike,
    out: PathLike,
    cfg_options: Mapping[str, Any] | None = None,
    make_key_map: Callable[[nn.Module], PublishedKeyMap] = PublishedKeyMap,
) -> Conversion:
    """Convert one of our checkpoints to the published naming, for detectron2.

    Args:
        source: A checkpoint of ours.
        config: Path or name of its config.
        out: The file to write, as detectron2 loads it (``.pth``, tensors under ``model``).
        cfg_options (Mapping | None): Values that replace those of the config.
        make_key_map (Callable): Makes the translation of the system's names for a model.

    Returns:
        Conversion: What was done.

    Raises:
        CheckpointError: If the source cannot be read.
        CheckpointMismatchError: If it is not a checkpoint of the config.
    """
    content = load_checkpoint(source)
    theirs = make_key_map(model_of_config(config, cfg_options)[0]).to_published(
        content.get("state_dict", content)
    )
    save_checkpoint({"model": theirs, "__author__": "mmpanoptic"}, out)
    return Conversion(Path(out), len(theirs), 0, [])


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
    cfg = get_config(config)
    if cfg_options:
        cfg.merge_from_dict(dict(cfg_options))
    cfg = resolve_config(cfg)
    init_default_scope("mmpanoptic")
    with torch.device("meta"):
        return MODELS.build(cfg.model), cfg


def write_conversion(
    out: PathLike,
    meta: dict[str, Any],
    ours: Mapping[str, Tensor],
    used: set[str],
    state: Mapping[str, Tensor],
) -> Conversion:
    """Save converted weights.

    Args:
        out: The file to write.
        meta (dict): The checkpoint's metainfo.
        ours (Mapping): Tensors by our name.
        used (set[str]): The names they have in the source.
        state (Mapping): All tensors of the source by name.

    Returns:
        Conversion: What was placed and dropped.
    """
    # A tensor that is a view would be saved with all of its storage.
    weights = {name: torch.as_tensor(value).clone() for name, value in ours.items()}
    save_checkpoint({"meta": meta, "state_dict": weights}, out)
    return Conversion(Path(out), len(ours), len(used - state.keys()), sorted(state.keys() - used))
