"""COCO AP of predicted instances as an mmengine metric."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmpanoptic.registry import METRICS
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import write_json
from mmpanoptic.utils.coco_file import load_json

from .coco_ap import IOU_TYPES, check_truth, coco_table, evaluate_coco_ap, load_backend
from .indexed_metric import IndexedMetric
from .sample_fields import check_source, panoptic_things, predicted_instances


@dataclass(frozen=True, eq=False)
class DetectedInstances:
    """Detections of one image.

    Attributes:
        img_id (Any): The dataset's image id.
        file_name (str): Name of the image file, without folders.
        labels (list[int]): P contiguous labels.
        scores (list[float]): P scores.
        boxes (list[list[float]]): P boxes ``x, y, w, h``; empty without box AP.
        masks (list[dict]): P run-length masks with text counts; empty without mask AP.
    """

    img_id: Any
    file_name: str
    labels: list[int]
    scores: list[float]
    boxes: list[list[float]]
    masks: list[dict[str, Any]]


@METRICS.register_module()
class CocoInstanceMetric(IndexedMetric):
    """Box and mask AP of predicted instances against an ``instances_*.json``.

    Classes are matched by name and images by id, else by file name, so stuff may come first in
    the label table, and Cityscapes' text ids meet the numbers of its instance JSON.

    Results, in percent: ``bbox_AP``, ``bbox_AP50``, ... ``segm_ARl``; nan where there is no
    ground truth.

    Differences from the original (``mmdet.CocoMetric``): mmdet takes the n-th thing of the JSON
    for label n, and rounds to three digits.

    Args:
        ann_file (str | None): COCO instance annotations; may be None with ``format_only``.
        metric (Sequence[str] | str): ``bbox``, ``segm`` or both.
        source (str): ``pred_instances`` (labels, scores, masks, bboxes), or ``pred_panoptic_seg``,
            whose things are the instances; boxes that are absent are those of the masks.
        backend (str): ``pycocotools`` or ``faster-coco-eval``.
        format_only (bool): Write the result files and compute nothing.
        outfile_prefix (str | None): Detections go to ``<outfile_prefix>.bbox.json`` and
            ``<outfile_prefix>.segm.json``.
        data_root (str | None): Folder that a relative ``ann_file`` lies in.
        **options: Arguments of :class:`IndexedMetric`.

    Raises:
        ValueError: If an argument is unknown or ``ann_file`` is missing.
        ImportError: If the backend's package is absent.
    """

    default_prefix = "coco"

    def __init__(
        self,
        ann_file: str | os.PathLike[str] | None = None,
        metric: Sequence[str] | str = IOU_TYPES,
        source: str = "pred_instances",
        backend: str = "pycocotools",
        format_only: bool = False,
        outfile_prefix: str | os.PathLike[str] | None = None,
        data_root: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(format_only, outfile_prefix, **options)
        self.iou_types = [metric] if isinstance(metric, str) else list(metric)
        if not self.iou_types or set(self.iou_types) - set(IOU_TYPES):
            raise ValueError(f"metric must be of {', '.join(IOU_TYPES)}, got {metric!r}")
        if ann_file is None and not format_only:
            raise ValueError(
                "CocoInstanceMetric needs ann_file, an instances_*.json, unless format_only=True"
            )
        load_backend(backend)  # a missing package shows before hours of inference, not after
        if ann_file is not None and data_root is not None:
            ann_file = os.path.join(data_root, ann_file)
        self.ann_file = ann_file
        self.source = check_source(source)
        self.backend = backend

    def make_record(self, sample: Mapping[str, Any]) -> DetectedInstances:
        """Compress the detections of one image."""
        num_classes, name = len(self.label_table), type(self).__name__
        if self.source == "pred_panoptic_seg":
            things = panoptic_things(sample, num_classes, name)
            labels, scores = things.labels, things.scores
            corners, masks = None, encode_segments(things.index_map, things.numbers)
        else:
            found = self._read_instances(sample, num_classes)
            labels, scores = found["labels"].tolist(), found["scores"].tolist()
            corners = found.get("bboxes")
            masks = encode_masks(found["masks"].bool().numpy()) if "masks" in found else []
        boxes = _boxes(corners, masks) if "bbox" in self.iou_types else []
        file_name = Path(sample.get("img_path") or "").name
        return DetectedInstances(sample.get("img_id"), file_name, labels, scores, boxes, masks)

    def _read_instances(self, sample: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
        instances = sample.get("pred_instances") or {}
        parts = ["labels", "scores"]
        if "segm" in self.iou_types or "bboxes" not in instances:
            parts.append("masks")
        if "bbox" in self.iou_types and "bboxes" in instances:
            parts.append("bboxes")
        values = predicted_instances(sample, parts, num_classes, type(self).__name__)
        return dict(zip(parts, values, strict=True))

    def write_files(self, records: list[DetectedInstances]) -> None:
        """Write one result file per kind."""
        truth = None if self.ann_file is None else self._read_truth()
        for iou_type in self.iou_types:
            path = f"{self.outfile_prefix}.{iou_type}.json"
            write_json(path, self._detections(records, iou_type, truth)[0])

    def summarize(self, records: list[DetectedInstances]) -> dict[str, float]:
        """Evaluate against the annotations."""
        truth = self._read_truth()
        names = {category["id"]: category["name"] for category in truth["categories"]}
        metrics = {}
        for iou_type in self.iou_types:
            detections, image_ids = self._detections(records, iou_type, truth)
            scores = evaluate_coco_ap(
                truth, detections, iou_type, self.backend, image_ids, checked=True
            )
            self.log_table(coco_table(scores, names, iou_type))
            for key, value in scores.statistics.items():
                metrics[f"{iou_type}_{key}"] = 100 * value
        return metrics

    def _read_truth(self) -> dict[str, Any]:
        file = os.fspath(self.ann_file or "")
        return check_truth(load_json(file), self.iou_types, file)

    def _detections(
        self, records: list[DetectedInstances], iou_type: str, truth: dict[str, Any] | None
    ) -> tuple[list[dict[str, Any]], list[Any]]:
        """Make a COCO result list, and list the images that it covers."""
        table = self.label_table
        categories = _category_ids(table, truth, self.ann_file)
        images = None if truth is None else _ImageIndex(truth["images"], str(self.ann_file))
        key, detections, image_ids = _SHAPE_KEYS[iou_type], [], []
        seen: set[Any] = set()
        for record in records:
            image_id = record.img_id if images is None else images.find(record)
            if image_id in seen:
                raise ValueError(
                    f"two images have the id {image_id!r}, and their detections would be mixed; "
                    "evaluate concatenated datasets one by one (SeparateEvaluator)"
                )
            seen.add(image_id)
            image_ids.append(image_id)
            shapes = record.boxes if iou_type == "bbox" else record.masks
            for label, score, shape in zip(record.labels, record.scores, shapes, strict=True):
                if label not in categories:  # stuff has no instances in the annotations
                    continue
                detections.append(
                    {
                        "image_id": image_id,
                        "category_id": categories[label],
                        "score": score,
                        key: shape,
                    }
                )
        return detections, image_ids


_SHAPE_KEYS = {"bbox": "bbox", "segm": "segmentation"}


class _ImageIndex:
    """Images of an annotation file by id and by name."""

    def __init__(self, images: Sequence[Mapping[str, Any]], file: str) -> None:
        self._file = file
        self._ids = {image["id"] for image in images}
        self._by_name: dict[str, Any] = {}
        for image in images:
            self._by_name[Path(image["file_name"]).name] = image["id"]

    def find(self, record: DetectedInstances) -> Any:
        if record.img_id in self._ids:
            return record.img_id
        if record.file_name in self._by_name:
            return self._by_name[record.file_name]
        raise ValueError(
            f"{self._file} has no image with the id {record.img_id!r} or the file name "
            f"{record.file_name!r}; give the annotations of the split that is evaluated"
        )


def _category_ids(
    table: LabelTable, truth: Mapping[str, Any] | None, ann_file: object
) -> dict[int, int]:
    """Tabulate category ids by contiguous label, for things only if there are no annotations."""
    if truth is None:
        return {label.index: label.dataset_id for label in table if label.isthing}
    by_name = {category["name"]: category["id"] for category in truth["categories"]}
    missing = [label.name for label in table if label.isthing and label.name not in by_name]
    if missing:
        raise ValueError(
            f"{ann_file} has no categories named {', '.join(missing)}, which are things of the "
            f"dataset; its categories are {', '.join(by_name)}"
        )
    return {label.index: by_name[label.name] for label in table if label.name in by_name}


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """Encode masks as COCO's compressed run lengths.

    Args:
        masks (np.ndarray): bool ``(P, H, W)``.

    Returns:
        list[dict]: P times ``size`` ``[H, W]`` and text ``counts``, fit for JSON.
    """
    from pycocotools import mask as coco_mask

    encoded = []
    for mask in masks:
        run_lengths = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
        encoded.append(
            {
                "size": [int(side) for side in run_lengths["size"]],
                "counts": run_lengths["counts"].decode("ascii"),
            }
        )
    return encoded


def encode_segments(index_map: np.ndarray, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Encode segments of a map as COCO's compressed run lengths, in one pass over the map.

    Args:
        index_map (np.ndarray): Integers ``(H, W)``.
        numbers (Sequence[int]): P values of the map.

    Returns:
        list[dict]: As :func:`encode_masks` of the P masks.
    """
    from pycocotools import mask as coco_mask

    height, width = index_map.shape
    flat = index_map.ravel(order="F")  # COCO's runs go down the columns
    start = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    end = np.append(start[1:], flat.size)
    value = flat[start]
    encoded = []
    for number in numbers:
        own = np.flatnonzero(value == number)
        gaps = start[own] - np.concatenate([[0], end[own]])[:-1]
        counts = np.stack([gaps, (end - start)[own]], axis=1).ravel().tolist()
        counts.append(flat.size - sum(counts))
        plain = {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]}
        run_lengths = coco_mask.frPyObjects(plain, height, width)
        encoded.append({"size": [height, width], "counts": run_lengths["counts"].decode("ascii")})
    return encoded


def _boxes(predicted: Any, masks: list[dict[str, Any]]) -> list[list[float]]:
    """Boxes ``x, y, w, h`` as predicted (corners, ``(P, 4)``), else those of the masks."""
    if predicted is not None:
        corners = predicted.double().reshape(-1, 4)
        return torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
    from pycocotools import mask as coco_mask

    return coco_mask.toBbox(masks).tolist() if masks else []
