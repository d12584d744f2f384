"""Loading of images and panoptic annotations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from mmpanoptic.registry import TRANSFORMS
from mmpanoptic.structures import SegmentInfo, find_runs, lookup_sorted
from mmpanoptic.utils.archives import read_bytes
from mmpanoptic.utils.format_errors import PanopticFormatError, format_error
from mmpanoptic.utils.image_bytes import ImageDamageError, decode_image, read_size
from mmpanoptic.utils.image_files import describe_mismatch
from mmpanoptic.utils.panoptic_png import decode_panoptic_png
from mmpanoptic.utils.png_bytes import read_header, read_png

from ..map_problems import find_size_problem, unlisted_problem
from .foreign import reserve_fill
from .source_grid import SourceGrid

_UNLISTED = ("error", "warn", "ignore")


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image as uint8 BGR, from ``img_path`` or from an array under ``img``.

    The path may go through a zip archive (:mod:`mmpanoptic.utils.archives`).

    Grey images get three equal channels, an alpha channel is dropped, and the EXIF orientation is
    applied. What cannot be shown in 8 bits without a choice (16-bit and float images) is refused.

    Differences from the original (``mmcv.transforms.LoadImageFromFile``): arrays are accepted; a
    missing, damaged or undecodable file, or one whose size differs from the annotation's, raises
    an error that names it.

    Added keys: ``img``, ``img_shape``, ``ori_shape``, ``scale_factor``, ``flip``,
    ``flip_direction``; ``height`` and ``width`` where they are absent.

    Args:
        apply_orientation (bool): Turn the image as its EXIF data say.
    """

    def __init__(self, apply_orientation: bool = True) -> None:
        self.apply_orientation = apply_orientation

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the image.

        Args:
            results (dict): With ``img_path``, or ``img`` (uint8 ``(H, W)``, ``(H, W, 1)``,
                ``(H, W, 3)`` BGR or ``(H, W, 4)`` BGRA).

        Returns:
            dict: ``results`` with the added keys.

        Raises:
            PanopticFormatError: Of kind ``missing_file``, ``corrupt_image``, ``bad_image_mode``
                or ``size_mismatch``.
        """
        path, image_id = results.get("img_path"), results.get("img_id")
        if results.get("img") is not None:
            img = _to_bgr(np.asarray(results["img"]), path or "<array>", image_id)
        else:
            img = self._read(results, image_id)
        height, width = img.shape[:2]
        expected: tuple[Any, Any] = (
            results.setdefault("height", height),
            results.setdefault("width", width),
        )
        if expected != (height, width):
            detail = describe_mismatch(path or "", (height, width), expected, "the annotation")
            raise format_error("size_mismatch", detail, path or "<array>", image_id)
        results.update(img=img, img_shape=(height, width), ori_shape=(height, width))
        results.update(scale_factor=(1.0, 1.0), flip=False, flip_direction=None)
        return results

    def _read(self, results: dict[str, Any], image_id: Any) -> np.ndarray:
        path = results["img_path"]
        try:
            data = read_bytes(path)
        except OSError as error:
            kind = "missing_file" if isinstance(error, FileNotFoundError) else "corrupt_image"
            detail = f"cannot read the image: {error.strerror}"
            raise format_error(kind, detail, path, image_id) from error
        size, height, width = read_size(data), results.get("height"), results.get("width")
        # An image that is larger than annotated makes no room; orientation may exchange its sides.
        if size and height and width and sorted(size) != sorted((height, width)):
            detail = describe_mismatch(path, size, (height, width), "the annotation")
            raise format_error("size_mismatch", detail, path, image_id)
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
        if not self.apply_orientation:
            flags |= cv2.IMREAD_IGNORE_ORIENTATION
        try:
            return _to_bgr(decode_image(data, flags), path, image_id)
        except ImageDamageError as error:
            raise format_error("corrupt_image", str(error), path, image_id) from error


def _to_bgr(img: np.ndarray, path: str, image_id: Any) -> np.ndarray:
    """Bring an 8-bit image to three channels."""
    if img.dtype != np.uint8:
        detail = f"the image has the type {img.dtype}, expected 8 bits per channel"
        raise format_error("bad_image_mode", detail, path, image_id)
    if img.ndim == 2:
        img = img[..., None]
    if img.ndim != 3 or img.shape[2] not in (1, 3, 4) or not img.size:
        detail = f"the image has the shape {img.shape}, expected (H, W) or (H, W, 1, 3 or 4)"
        raise format_error("bad_image_mode", detail, path, image_id)
    if img.shape[2] == 1:
        return np.repeat(img, 3, axis=2)
    return np.ascontiguousarray(img[..., :3])


@TRANSFORMS.register_module()
class LoadPanopticAnnotations(BaseTransform):
    """Load the panoptic PNG as ONE index map: 0 is void, k is the k-th entry of segments_info.

    The geometry moves this map only; semantic labels, boxes and masks are derived when packing.

    Added keys: ``gt_seg_map`` (uint8, or uint16 from 255 segments on, ``(H, W)``), in which the
    number 255 is kept free, see :func:`.foreign.reserve_fill`; ``seg_fields``, by which the
    transforms of mmsegmentation know it; ``source_grid`` if the sample has ``instances``.

    Args:
        unlisted_ids (str): What to do with ids in the PNG that ``segments_info`` does not list:
            "error", "warn" or "ignore"; their pixels become void.
    """

    def __init__(self, unlisted_ids: str = "error") -> None:
        if unlisted_ids not in _UNLISTED:
            choices = ", ".join(_UNLISTED)
            raise ValueError(f"unlisted_ids must be one of {choices}, got {unlisted_ids!r}")
        self.unlisted_ids = unlisted_ids

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the annotation.

        Args:
            results (dict): With ``seg_map_path``, ``segments_info``, ``height`` and ``width``;
                and ``panoptic_cache``, if the dataset has one.

        Returns:
            dict: ``results`` with the added keys.

        Raises:
            PanopticFormatError: Of a kind of :func:`read_panoptic_png`, or ``size_mismatch`` or
                ``png_id_not_in_json``.
        """
        path = results["seg_map_path"]
        cache, segments = results.pop("panoptic_cache", None), results["segments_info"]
        index_map = cache.get(path, [s["id"] for s in segments]) if cache is not None else None
        if index_map is None:
            index_map = self._decode(path, results)
        results["gt_seg_map"] = reserve_fill(index_map)
        results["seg_fields"] = ["gt_seg_map"]
        if results.get("instances") is not None:
            results["source_grid"] = SourceGrid.identity(*index_map.shape)
        return results

    def _decode(self, path: str, results: dict[str, Any]) -> np.ndarray:
        image_id = results.get("img_id")
        data = read_png(path)
        header = read_header(data, path)
        # Before decoding: a PNG that is larger than annotated makes no room.
        problem = find_size_problem((header.height, header.width), results, path)
        if problem is not None:
            raise PanopticFormatError([problem])
        ids = decode_panoptic_png(data, path)
        index_map, unlisted = index_segments(ids, results["segments_info"])
        if len(unlisted) and self.unlisted_ids != "ignore":
            problem = unlisted_problem(unlisted.tolist(), path, image_id)
            if self.unlisted_ids == "error":
                raise PanopticFormatError([problem])
            print_log(str(problem), "current", logging.WARNING)
        return index_map


def index_segments(
    ids: np.ndarray, segments_info: Sequence[SegmentInfo]
) -> tuple[np.ndarray, np.ndarray]:
    """Replace segment ids by positions in a list; one pass over the pixels.

    Args:
        ids (np.ndarray): Segment ids ``(H, W)``.
        segments_info (Sequence[SegmentInfo]): The listed segments.

    Returns:
        tuple[np.ndarray, np.ndarray]: The index map ``(H, W)`` (0 = void or not listed, k = k-th
        segment), uint8 if that suffices, else uint16; and the ids, ascending, that are neither 0
        nor listed.
    """
    listed = np.array([segment["id"] for segment in segments_info], np.int64)
    order = np.argsort(listed)
    runs = find_runs(ids)
    position = lookup_sorted(listed[order], runs.value)
    index = np.append(order + 1, 0)[position]  # position -1 reads the appended 0
    unlisted = np.unique(runs.value[(position < 0) & (runs.value != 0)])
    dtype = np.uint8 if len(listed) < 256 else np.uint16
    return runs.expand(index.astype(dtype)), unlisted
