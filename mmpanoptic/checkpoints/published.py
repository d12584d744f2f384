"""Weights for a model wherever they come from: ours as they are, published ones converted."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, load_state_dict
from torch import nn

from .auto_panoptic_keys import AutoPanopticKeyMap, SearchedBackboneKeyMap
from .backbone_keys import BackboneKeyMap
from .conversion import convert_published
from .cops_keys import CopsKeyMap
from .download import check_cached, lock
from .efficientps_keys import EfficientPSKeyMap
from .errors import CheckpointError, CheckpointMismatchError, DamagedCheckpointError
from .foreign_weights import read_foreign_weights, unwrap
from .key_map import KeyMap
from .loading import PathLike, load_checkpoint
from .mmdet_mask_keys import MMDetMaskKeyMap
from .panoptic_deeplab_keys import PanopticDeepLabKeyMap
from .panoptic_fpn_keys import PanopticFPNKeyMap
from .rap_keys import RapKeyMap
from .solov2_keys import SOLOv2KeyMap
from .weights import SCHEME, PublishedWeights, locate, published

KEY_MAPS: dict[str, type[KeyMap]] = {
    "backbone": BackboneKeyMap,
    "panoptic_deeplab": PanopticDeepLabKeyMap,
    "cops": CopsKeyMap,
    "rap": RapKeyMap,
    "panoptic_fpn": PanopticFPNKeyMap,
    "efficientps": EfficientPSKeyMap,
    "auto_panoptic": AutoPanopticKeyMap,
    "searched_backbone": SearchedBackboneKeyMap,
    "solov2": SOLOv2KeyMap,
    "mmdet_masks": MMDetMaskKeyMap,
}
"""Maps of names by what the manifest calls ``converter``."""
_OUR_MARKS = {"mmpanoptic_version", "converted"}
"""Keys of the metainfo of checkpoints that our runner and our converters write."""
_CONVERSION = 1
"""To be raised when a map changes values rather than names: converted files are made anew then."""


def load_for_model(
    model: nn.Module,
    checkpoint: PathLike,
    trust: bool = False,
    training: bool = False,
    map_location: Any = "cpu",
    content: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Read a checkpoint in the names of a model.

    Args:
        model (nn.Module): The model, or a backbone.
        checkpoint: A path or address, see :func:`load_checkpoint`. Weights of the manifest
            (``mmpanoptic://ID``) are converted once and kept beside the published file. ImageNet
            weights in one of the namings of :class:`BackboneKeyMap` give the backbone.
        trust (bool): As in :func:`load_checkpoint`.
        training (bool): A training starts with it: heads may be missing, and where the published
            classes are others, what depends on them is left out and told.
        map_location: As in :func:`torch.load`.
        content (dict | None): What :func:`load_checkpoint` gave for it before.

    Returns:
        dict: The checkpoint, with ``state_dict``.

    Raises:
        CheckpointError: If it cannot be had or read, or does not fit the model.
    """
    if str(checkpoint).startswith(SCHEME):
        return _load_published(model, str(checkpoint), training, map_location)
    if content is None:
        content = load_checkpoint(checkpoint, map_location, trust)
    weights = content.get("state_dict", content)
    own = content if "state_dict" in content else {"state_dict": content}
    names = {str(name).removeprefix("module.") for name in weights}
    unknown = names - model.state_dict().keys()
    if not unknown or _OUR_MARKS & set(content.get("meta") or ()):
        return own
    holder = _with_backbone(model)
    try:
        placement = BackboneKeyMap(holder).place(unwrap(content, checkpoint))
    except (CheckpointMismatchError, CheckpointError) as error:
        if unknown != names:
            return own
        raise CheckpointError(
            f"{checkpoint} does not fit {type(model).__name__}: none of its names is one of the "
            f"model's, and it does not fit as ImageNet weights of the backbone either: {error}"
        ) from error
    print_log(
        f"{checkpoint} gives the backbone: {len(placement.tensors)} tensors placed, "
        f"{len(placement.dropped)} dropped",
        "current",
    )
    tensors = {name: torch.as_tensor(value) for name, value in placement.tensors.items()}
    return {"state_dict": _names_for(model, holder, tensors), "meta": {}}


def needs_model(checkpoint: PathLike) -> bool:
    """Tell whether a checkpoint can be read for a model only, see :func:`load_for_model`."""
    address = str(checkpoint)
    return address.startswith(SCHEME) and published(address).converter != "ours"


def install_safe_loading() -> None:
    """Route ``init_cfg=dict(type="Pretrained", ...)`` through our reader of checkpoints.

    Every address of :func:`.weights.remote_file` and every path is read with ``weights_only=True``
    and checked, see :func:`load_for_model`.

    Differences from the original: mmengine 0.10.7 reads downloads with an unpickler that runs code
    from the file, keeps half files, and goes on if nothing in a file fits.
    """
    # The readers of model names look this function up in their module when they are called.
    mmengine_checkpoint.load_from_http = _read
    schemes = ("", "http://", "https://", SCHEME, "timm://", "hf://")
    CheckpointLoader.register_scheme(schemes, _read, force=True)
    WEIGHT_INITIALIZERS.register_module("Pretrained", force=True, module=CheckedPretrainedInit)


class CheckedPretrainedInit(PretrainedInit):
    """Initialise a module from a checkpoint that :func:`load_for_model` reads.

    A module that reads published tensors in a way of its own has a method
    ``read_pretrained(tensors by published name)``, which returns a state dict.

    Args:
        checkpoint (str): Path or address.
        prefix (str | None): Beginning of the names in the checkpoint that belong to the module.
        map_location (str): As in :func:`torch.load`.
    """

    def __call__(self, module: nn.Module) -> None:
        """Load the weights.

        Raises:
            CheckpointError: If nothing in the checkpoint fits.
        """
        if self.prefix is not None:
            super().__call__(module)
            return
        print_log(f"load model from: {self.checkpoint}", "current")
        read: Any = getattr(module, "read_pretrained", None)
        if read is not None:
            content = {"state_dict": _read_by(read, self.checkpoint)}
        else:
            content = load_for_model(
                module, self.checkpoint, training=True, map_location=self.map_location
            )
        weights = {n.removeprefix("module."): v for n, v in content["state_dict"].items()}
        load_state_dict(module, weights, strict=False, logger="current")
        if hasattr(module, "_params_init_info"):
            update_init_info(module, init_info=self._get_init_info())


def _read_by(read: Callable[[Mapping[str, Any]], dict[str, Any]], checkpoint: str) -> Any:
    try:
        return read(read_foreign_weights(checkpoint))
    except ValueError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error


def _read(filename: str, map_location: Any = None, *_: Any, **__: Any) -> dict[str, Any]:
    return load_checkpoint(filename, map_location or "cpu")


def _load_published(
    model: nn.Module, address: str, training: bool, map_location: Any
) -> dict[str, Any]:
    """Load weights of the manifest, from the converted file if there is one."""
    source = locate(address)
    entry = source.published
    assert entry is not None  # noqa: S101 - the address has our scheme
    if entry.converter == "ours":
        return load_checkpoint(source.path, map_location)
    holder = _with_backbone(model)
    try:
        key_map = KEY_MAPS[entry.converter](holder)
    except (CheckpointMismatchError, ValueError) as error:
        raise CheckpointError(f"{address} does not fit {type(model).__name__}: {error}") from error
    _compare_inputs(model, entry)
    initial = entry.initial or (training and bool(key_map.groups))
    reason: Exception | None = None
    for new_classes in (False, True) if training else (False,):
        try:
            content = _converted(
                source.path, key_map, entry, holder, new_classes, initial, map_location
            )
        except CheckpointMismatchError as error:
            reason = reason or error
            continue
        if new_classes:
            print_log(
                f"{address} has other classes than the model: what depends on them starts anew",
                "current",
                logging.WARNING,
            )
        return {**content, "state_dict": _names_for(model, holder, content["state_dict"])}
    raise CheckpointError(f"{address} does not fit {type(model).__name__}: {reason}") from reason


def _converted(
    source: Path,
    key_map: KeyMap,
    entry: PublishedWeights,
    holder: nn.Module,
    new_classes: bool,
    initial: bool,
    map_location: Any,
) -> dict[str, Any]:
    """Read the converted file, after the conversion if it was not made from this source."""
    digest = check_cached(entry.remote)["sha256"]
    made_of = [_CONVERSION, digest, entry.converter, key_map.variant, initial, new_classes]
    made_of += [key_map.published, {name: list(shape) for name, shape in key_map.shapes.items()}]
    mark = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
    target = source.with_name(f"{source.stem}.converted-{mark}.pth")
    with suppress(DamagedCheckpointError):  # made anew
        if target.exists():
            return load_checkpoint(target, map_location)
    with lock(target, f"converts {entry.address}"):
        with suppress(DamagedCheckpointError):
            if target.exists():  # another process was faster
                return load_checkpoint(target, map_location)
        report = convert_published(
            source,
            target,
            key_map,
            normalisation=_normalisation(holder),
            new_classes=new_classes,
            initial=initial,
            meta={"converted": entry.address, "source_sha256": digest},
        )
    print_log(report.report(), "current")
    return load_checkpoint(target, map_location)


def _with_backbone(model: nn.Module) -> nn.Module:
    """Return the model itself if it has a backbone, else a module that holds it as one."""
    return model if hasattr(model, "backbone") else nn.ModuleDict({"backbone": model})


def _names_for(model: nn.Module, holder: nn.Module, tensors: Mapping[str, Any]) -> dict[str, Any]:
    if holder is model:
        return dict(tensors)
    return {name.removeprefix("backbone."): value for name, value in tensors.items()}


def _normalisation(model: nn.Module) -> tuple[list[float], list[float]] | None:
    preprocessor: Any = getattr(model, "data_preprocessor", None)
    if not hasattr(preprocessor, "mean"):
        return None
    mean, std = preprocessor.mean, preprocessor.std
    return mean.flatten().tolist(), std.flatten().tolist()


def _compare_inputs(model: nn.Module, entry: PublishedWeights) -> None:
    """Tell if the model normalises images in another way than the weights' training did."""
    ours = _normalisation(model)
    if ours is None:
        return
    preprocessor: Any = model.data_preprocessor
    reverses = getattr(preprocessor, "bgr_to_rgb", preprocessor._channel_conversion)
    order = "RGB" if reverses else "BGR"
    theirs = (list(entry.mean), list(entry.std))
    close = all(
        max(abs(a - b) for a, b in zip(*pair, strict=True)) < 1
        for pair in zip(ours, theirs, strict=True)
    )
    if close and order == entry.order:
        return
    # Backbones are often used so, as published; whole models are not.
    print_log(
        f"{entry.address} was trained on {entry.order} with mean {theirs[0]} and std {theirs[1]}, "
        f"the model takes {order} with mean {ours[0]} and std {ours[1]}",
        "current",
        logging.WARNING if entry.config else logging.INFO,
    )
