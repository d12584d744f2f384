"""SOLOv2 and a semantic model one after the other, with files in between."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import nn

from mmpanoptic.checkpoints.loading import CheckpointError, load_checkpoint
from mmpanoptic.checkpoints.published import needs_model
from mmpanoptic.engine.config import label_table_of, resolve_config
from mmpanoptic.models.postprocess.instance_files import (
    SavedInstances,
    check_unique,
    write_instances,
)
from mmpanoptic.registry import DATASETS
from mmpanoptic.structures import LabelTable

from .inferencer import build_test_pipeline, iter_sources
from .model import init_model

PathLike = str | os.PathLike[str]
SEMANTIC_PARTS = ("backbone", "neck", "semantic_head")
"""Parts of a panoptic model that the semantic branch needs."""
SEMANTIC_SETTINGS = ("data_preprocessor", "channels_last")


def save_instances(
    config: PathLike,
    checkpoint: PathLike,
    folder: PathLike,
    images: PathLike | None = None,
    with_logits: bool = True,
    device: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> int:
    """Predict instances with a model that has SOLOv2 and write one file per image.

    Args:
        config: Path or name of the config.
        checkpoint: Weights.
        folder: Takes the files.
        images: An image or a folder; by default the config's test dataset.
        with_logits (bool): Also write the mask logits, which fusion needs to equal the joint
            model; without them files are smaller.
        device (str | None): As in :func:`init_model`.
        cfg_options (Mapping | None): Values that replace those of the config.
        trust (bool): As in :func:`init_model`.

    Returns:
        int: Number of images.

    Raises:
        CheckpointError: If the checkpoint cannot be read or does not fit the model.
        ValueError: If the model has no SOLOv2, or images share an id.
    """
    model: Any = init_model(config, checkpoint, device, cfg_options, trust)
    if not hasattr(model.fusion_head, "select"):
        raise ValueError(
            f"the fusion head {type(model.fusion_head).__name__} selects no instances from "
            "SOLOv2's outputs; take a config of configs/solov2 or an efficientps-solov2 one"
        )
    table = LabelTable.from_metainfo(model.dataset_meta)
    classes = tuple(table[label].name for label in table.thing_labels)
    digest = hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    count = 0
    for sample in _samples(model.cfg, images):
        saved = _predict(model, sample, classes, digest)
        if not with_logits:
            saved = replace(saved, grid=None)
        write_instances(folder, saved)
        count += 1
    return count


def _samples(cfg: Config, images: PathLike | None) -> Iterable[dict[str, Any]]:
    """Prepare the images one by one, after a check of their ids."""
    if images is not None:
        pipeline = build_test_pipeline(cfg)
        return (pipeline(source.to_sample()) for source in iter_sources(images))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    check_unique([dataset.get_data_info(number)["img_id"] for number in range(len(dataset))])
    return (dataset[number] for number in range(len(dataset)))


@torch.inference_mode()
def _predict(
    model: Any, sample: dict[str, Any], classes: tuple[str, ...], digest: str
) -> SavedInstances:
    batch = model.data_preprocessor(pseudo_collate([sample]))
    meta = batch["data_samples"][0].metainfo
    outputs = model.forward_heads(batch["inputs"]).instance
    found = model.fusion_head.select([part[0] for part in outputs], meta)
    return SavedInstances(
        meta["img_id"], classes, found.labels, found.scores, found.masks().to_full(), found, digest
    )


def use_saved_instances(
    cfg: Config,
    folder: PathLike,
    allow_missing: bool = False,
    binary_logit: float = 4.0,
    fusion_options: Mapping[str, Any] | None = None,
    dataset_meta: Mapping[str, Any] | None = None,
) -> Config:
    """Replace the instance branch of a config's model by saved instances.

    Args:
        cfg (Config): Of any model with a semantic head at stride 4; changed in place.
        folder: With the files of :func:`save_instances`.
        allow_missing (bool): Images without a file get no instances instead of an error.
        binary_logit (float): Logit of masks that were saved without logits.
        fusion_options (Mapping | None): Arguments of the panoptic fusion head that replace those of
            the config, such as ``score_thr``.
        dataset_meta (Mapping | None): Label table, from the checkpoint for instance.

    Returns:
        Config: ``cfg``, resolved.

    Raises:
        ValueError: If the model has no semantic head.
    """
    cfg = resolve_config(cfg, dataset_meta)
    model = cfg.model
    if not model.get("semantic_head"):
        raise ValueError("the model of this config has no semantic_head to fuse instances with")
    table = LabelTable.from_metainfo(dataset_meta) if dataset_meta else label_table_of(cfg)
    kept = {key: model[key] for key in (*SEMANTIC_PARTS, *SEMANTIC_SETTINGS) if model.get(key)}
    cfg.model = {
        "type": "PanopticSegmentor",
        **kept,
        "fusion_head": {
            "type": "SavedInstanceFusionHead",
            "folder": str(folder),
            "classes": [table[label].name for label in table.thing_labels],
            "fusion": {
                **_panoptic_fusion(model.get("fusion_head") or {}, table),
                **(fusion_options or {}),
            },
            "missing": "semantic" if allow_missing else "error",
            "binary_logit": binary_logit,
        },
    }
    return cfg


def _panoptic_fusion(given: Mapping[str, Any], table: LabelTable) -> dict[str, Any]:
    """Take the adaptive fusion head of a config, or its published settings."""
    for head in (given, given.get("fusion") or {}):
        if head.get("type") == "AdaptiveLogitFusionHead":
            return dict(head)
    return {
        "type": "AdaptiveLogitFusionHead",
        "num_classes": len(table),
        "thing_labels": table.thing_labels,
        "score_thr": 0.3,
    }


def load_semantic_part(
    model: nn.Module, checkpoint: PathLike, config: Config, trust: bool = False
) -> None:
    """Load the weights of backbone, neck and semantic head; others in the file are left out.

    Args:
        model (nn.Module): Built from a config of :func:`use_saved_instances`.
        checkpoint: Weights of the semantic model or of a panoptic model that contains it.
        config (Config): The config before, of which published weights (``mmpanoptic://ID``) are.
        trust (bool): As in :func:`mmpanoptic.checkpoints.loading.load_checkpoint`.

    Raises:
        CheckpointError: If weights are missing or of another shape.
    """
    if needs_model(checkpoint):
        content = {"state_dict": init_model(config, checkpoint, "cpu").state_dict()}
    else:
        content = load_checkpoint(checkpoint, trust=trust)
    weights = content.get("state_dict", content)
    kept = {k: v for k, v in weights.items() if k.partition(".")[0] in SEMANTIC_PARTS}
    try:
        model.load_state_dict(kept)
    except RuntimeError as error:
        lines = "\n".join(line[:300] for line in str(error).splitlines()[1:6])
        raise CheckpointError(
            f"{checkpoint} does not fit the semantic part of the config (another config, or other "
            f"classes?):\n{lines}"
        ) from error
