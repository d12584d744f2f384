"""From the pipeline's dict to what models eat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.registry import TRANSFORMS, ConfigError
from mmpanoptic.structures import IGNORE_LABEL, SegmentInfo, make_panoptic_data, occluder_matrix

from .foreign import ADVICE, without_fill
from .instances import InstanceArrays, annotated_instances, segment_instances

MASK_FORMATS = ("bitmap", "tensor")


@TRANSFORMS.register_module()
class PackPanopticInputs(BaseTransform):
    """Pack the image into a tensor and everything else into a ``DetDataSample``.

    The sample gets ``gt_panoptic_seg`` (index map and segments_info) and ``gt_sem_seg`` if the
    annotation was loaded. With instances it also gets ``gt_instances`` and, for crowds,
    ``ignored_instances``, each with ``bboxes`` (float32 ``(N, 4)``, x0 y0 x1 y1, ends exclusive),
    ``labels``, ``masks`` and

    - ``segment_index``: value in the index map, if the instances come from the panoptic map;
    - ``instance_index``: position in the sample's ``instances``, if they come from an instance
      file (the sample's metainfo then holds ``instances`` without their masks), ``instance_id``,
      its id there, and, if the file has relations, ``occluders``: bool ``(N, M)``, which of all M
      annotated instances lie in front (see :func:`mmpanoptic.structures.relation_matrix`).

    Args:
        with_instances (bool): Derive boxes and masks; costs time and memory, so leave it off for
            models that do not use them.
        mask_format (str): "bitmap" for mmdet's ``BitmapMasks``, which its heads expect, or
            "tensor" for bool ``(N, H, W)``.
        meta_keys (Sequence[str]): Entries of the pipeline's dict to hand on if they exist.
    """

    META_KEYS = (
        "img_id",
        "img_path",
        "sample_idx",
        "ori_shape",
        "img_shape",
        "pad_shape",
        "scale_factor",
        "flip",
        "flip_direction",
        "seg_map_path",
        "png_name",
        "segments_info",
    )

    def __init__(
        self,
        with_instances: bool = False,
        mask_format: str = "bitmap",
        meta_keys: Sequence[str] = META_KEYS,
    ) -> None:
        if mask_format not in MASK_FORMATS:
            raise ValueError(
                f"mask_format must be one of {', '.join(MASK_FORMATS)}, got {mask_format!r}"
            )
        self.with_instances = with_instances
        self.mask_format = mask_format
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack the sample.

        Args:
            results (dict): With ``img`` uint8 ``(H, W, 3)`` and optionally ``gt_seg_map``.

        Returns:
            dict: ``inputs`` uint8 BGR ``(3, H, W)`` and ``data_samples``.
        """
        img = np.ascontiguousarray(results["img"].transpose(2, 0, 1))
        sample = DetDataSample()
        meta = {key: results[key] for key in self.meta_keys if key in results}
        if results.get("gt_seg_map") is not None:
            index_map = np.ascontiguousarray(without_fill(results["gt_seg_map"]))
            _check_size(results["img"], index_map)
            sample.gt_panoptic_seg = make_panoptic_data(index_map, results["segments_info"])
            labels = paint_labels(index_map, results["segments_info"])
            sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(labels)[None])
            if self.with_instances:
                meta.update(self._add_instances(sample, index_map, results))
        sample.set_metainfo(meta)
        return {"inputs": torch.from_numpy(img), "data_samples": sample}

    def _add_instances(
        self, sample: DetDataSample, index_map: np.ndarray, results: dict[str, Any]
    ) -> dict[str, Any]:
        """Set the instances; return further metainfo."""
        if results.get("instances") is None:
            segments = results["segments_info"]
            things, crowds = (segment_instances(index_map, segments, c) for c in (False, True))
            field, meta = "segment_index", {}
        else:
            _check_geometry(index_map, results)
            size = (results["height"], results["width"])
            instances = results["instances"]
            things, crowds = annotated_instances(instances, size, results["source_grid"])
            field = "instance_index"
            facts = [{k: v for k, v in one.items() if k != "mask"} for one in instances]
            meta = {"instances": facts}
        sample.gt_instances = self._pack(things, field)
        sample.ignored_instances = self._pack(crowds, field)
        if field == "instance_index":
            _add_relations(sample, results["instances"])
        return meta

    def _pack(self, arrays: InstanceArrays, field: str) -> InstanceData:
        data = InstanceData(
            bboxes=torch.from_numpy(arrays.boxes), labels=torch.from_numpy(arrays.labels)
        )
        if self.mask_format == "tensor":
            data.masks = torch.from_numpy(arrays.masks).bool()
        else:
            # Imported here: it needs mmcv's operators, and only mmdet's heads need it.
            from mmdet.structures.mask import BitmapMasks

            data.masks = BitmapMasks(arrays.masks, *arrays.masks.shape[1:])
        data[field] = torch.from_numpy(arrays.numbers)
        return data


def _check_size(img: np.ndarray, index_map: np.ndarray) -> None:
    """Refuse samples of which a transform has moved the image alone."""
    if img.shape[:2] != index_map.shape:
        (height, width), (rows, columns) = img.shape[:2], index_map.shape
        raise ConfigError(
            f"a transform of the pipeline has left the annotation behind: the image has {height} x "
            f"{width} pixels (height x width), its annotation {rows} x {columns}; {ADVICE}"
        )


def _add_relations(sample: DetDataSample, instances: Sequence[Mapping[str, Any]]) -> None:
    """Add the ids of annotated instances and who lies in front of them."""
    ids = np.array([instance["id"] for instance in instances], np.int64)
    matrix = occluder_matrix(instances)
    for data in (sample.gt_instances, sample.ignored_instances):
        data.instance_id = torch.from_numpy(ids)[data.instance_index]
        if matrix is not None:
            data.occluders = torch.from_numpy(matrix)[data.instance_index]


def paint_labels(index_map: np.ndarray, segments_info: Sequence[SegmentInfo]) -> np.ndarray:
    """Derive the semantic map from the index map.

    Args:
        index_map (np.ndarray): ``(H, W)``, 0 = void, k = k-th segment.
        segments_info (Sequence[SegmentInfo]): With ``label``.

    Returns:
        np.ndarray: int64 ``(H, W)``, void is 255.
    """
    labels = np.array([IGNORE_LABEL, *(segment["label"] for segment in segments_info)], np.int64)
    if index_map.dtype == np.uint8 and labels.max() < 256:  # the usual case, and twice as fast
        return cv2.LUT(index_map, np.resize(labels, 256).astype(np.uint8)).astype(np.int64)
    return np.take(labels, index_map)


def _check_geometry(index_map: np.ndarray, results: dict[str, Any]) -> None:
    """Refuse samples whose instances were left behind by a transform that ignores them."""
    grid = results["source_grid"]
    same_size = (len(grid.rows), len(grid.columns)) == index_map.shape
    if not same_size or grid.flip_direction != results.get("flip_direction"):
        raise ValueError(
            "a transform of the pipeline has moved the index map but not the instances of the "
            f"instance file; {ADVICE}, or leave instances_file out"
        )
