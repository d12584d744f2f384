"""Fusion head that takes the instances from files instead of from an instance head."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.postprocess.instance_files import (
    SavedInstances,
    find_instance_files,
    read_instances,
)
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import BoxedMasks

MISSING = ("error", "semantic")


@MODELS.register_module()
class SavedInstanceFusionHead(BaseModule):
    """Fuse a semantic model with instances that ``tools/save_instances.py`` has saved.

    Instances are paired with images by the image id alone. With saved logits the result equals
    that of the joint model bit for bit.

    Differences from the original (Location-Based-Panoptic-Segmentation-with-SOLOv2): there, files
    and images are paired in the order of the folder's listing, and classes come from the
    detections of another model; here a file has its image's id, its own classes and scores.

    Args:
        folder (str): With the files, one for each image.
        classes (Sequence[str]): Names of the thing classes of the semantic model, in the order of
            its thing labels; saved classes are matched by name.
        fusion (dict): Config of the panoptic fusion head.
        missing (str): What to do about an image without a file: "error", or "semantic" for a
            result without instances.
        binary_logit (float): Logit inside of the masks, and its negative outside, for instances
            that were saved without logits.

    Raises:
        ValueError: If ``missing`` is unknown, or two files have the same image id.
        FileNotFoundError: If the folder holds no instances.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        classes: Sequence[str],
        fusion: dict,
        missing: str = "error",
        binary_logit: float = 4.0,
    ) -> None:
        super().__init__()
        if missing not in MISSING:
            raise ValueError(
                f"SavedInstanceFusionHead: missing must be one of {MISSING}, got {missing!r}"
            )
        self.folder = folder
        self.files = find_instance_files(folder)
        self.place = {name: place for place, name in enumerate(classes)}
        self.fusion: Any = MODELS.build(fusion)
        self.missing = missing
        self.binary_logit = binary_logit

    @torch.no_grad()
    def predict(
        self, sem_outputs: Tensor, ins_outputs: Any, batch_img_metas: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Form the results of a batch.

        Args:
            sem_outputs (Tensor): Logits ``(N, C, h, w)``.
            ins_outputs (None): The model has no instance head.
            batch_img_metas (Sequence[Mapping]): ``img_id``, ``img_shape`` (height and width
                without padding) and ``ori_shape`` (size of the result, ``img_shape`` if absent)
                of each image.

        Returns:
            list[dict]: Fields of each data sample, those of ``fusion``.
        """
        instances = [self.instances_of(meta, sem_outputs.device) for meta in batch_img_metas]
        return self.fusion.predict(sem_outputs, instances, batch_img_metas)

    @torch.no_grad()
    def predict_augmented(
        self,
        sem_outputs: Sequence[Tensor],
        ins_outputs: Sequence[Any],
        metas: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Form the result of one image from several augmentations of the semantic branch.

        Args:
            sem_outputs (Sequence[Tensor]): Logits ``(C, h, w)`` of each augmentation.
            ins_outputs (Sequence[None]): The model has no instance head.
            metas (Sequence[Mapping]): As in :meth:`predict`, and ``flip`` and
                ``flip_direction``, of each.

        Returns:
            dict: See :meth:`predict`.
        """
        instances = self.instances_of(metas[0], sem_outputs[0].device)
        return self.fusion.predict_augmented(sem_outputs, instances, metas)

    def instances_of(self, meta: Mapping[str, Any], device: torch.device) -> InstanceData:
        """Read the instances of an image as the fusion head takes them.

        Args:
            meta (Mapping): See :meth:`predict`.
            device (torch.device): Where they go.

        Returns:
            InstanceData: ``scores``, ``labels`` (position among the classes) and ``mask_logits``
            (:class:`BoxedMasks`).

        Raises:
            FileNotFoundError: If there is no file of the image.
            ValueError: If its masks have another size than the image, or a class is unknown.
        """
        image_id = meta.get("img_id")
        size = tuple(int(side) for side in meta.get("ori_shape", meta["img_shape"])[:2])
        if image_id not in self.files:
            if self.missing == "semantic":
                return _no_instances(size, device)
            raise FileNotFoundError(
                f"{self.folder} holds no instances of the image {image_id!r}; save them with "
                'tools/save_instances.py, or choose missing="semantic" (--allow-missing)'
            )
        saved = read_instances(self.files[image_id])
        if tuple(saved.masks.shape[1:]) != size:
            raise ValueError(
                f"{self.files[image_id]}: the masks have {tuple(saved.masks.shape[1:])} pixels, "
                f"the image has {size}; save them again from images of this size"
            )
        labels = self._labels(saved).to(device)
        if saved.grid is not None:
            grid = replace(
                saved.grid,
                scores=saved.scores.to(device),
                labels=labels,
                logits=saved.grid.logits.to(device),
            )
            return grid.for_fusion(self.fusion.score_thr)
        instances = InstanceData(scores=saved.scores.to(device), labels=labels)
        boxed = BoxedMasks.from_full(saved.masks.to(device))
        signed = (boxed.values.float() * 2 - 1) * self.binary_logit
        instances.mask_logits = replace(boxed, values=signed)
        return instances

    def _labels(self, saved: SavedInstances) -> Tensor:
        """Match the classes by name."""
        unknown = [name for name in saved.classes if name not in self.place]
        if unknown:
            raise ValueError(
                f"{self.folder}: the saved instances have the classes {', '.join(unknown)}, which "
                f"are no things of the semantic model; its things are {', '.join(self.place)}"
            )
        return torch.tensor([self.place[name] for name in saved.classes])[saved.labels]


def _no_instances(size: tuple[int, ...], device: torch.device) -> InstanceData:
    empty = torch.zeros(0, dtype=torch.int64, device=device)
    instances = InstanceData(scores=torch.zeros(0, device=device), labels=empty)
    instances.mask_logits = BoxedMasks(
        empty.view(0, 4), torch.zeros(0, device=device), (size[0], size[1])
    )
    return instances
