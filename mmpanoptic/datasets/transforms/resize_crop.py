"""Resizing and cropping in one step: only the window is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmpanoptic.registry import TRANSFORMS

from .geometry import RandomCrop, crop_sample
from .pillow_resize import resize_window
from .resize import ResizeScaleJitter, ResizeShortestEdge, resize_annotation, resize_sample


@TRANSFORMS.register_module()
class ResizeCrop(BaseTransform):
    """Resize and crop as two transforms in a row do, without resizing what the crop drops.

    The random choices and the pixels are those of the two transforms one after the other. A crop
    of 512 x 1024 out of a Cityscapes image at twice its size is an eighth of the work. With the
    backend "cv2" the whole image is resized: OpenCV offers no window.

    Args:
        resize (dict): Config of ``ResizeShortestEdge`` or ``ResizeScaleJitter``.
        crop (dict): Config of ``RandomCrop``.
    """

    def __init__(self, resize: dict[str, Any], crop: dict[str, Any]) -> None:
        self.resize = TRANSFORMS.build(resize)
        self.crop = TRANSFORMS.build(crop)
        if not isinstance(self.resize, ResizeShortestEdge | ResizeScaleJitter):
            raise ValueError(
                "ResizeCrop needs resize=dict(type='ResizeShortestEdge' or 'ResizeScaleJitter', "
                f"...), got {resize.get('type')!r}"
            )
        if not isinstance(self.crop, RandomCrop):
            raise ValueError(
                f"ResizeCrop needs crop=dict(type='RandomCrop', ...), got {crop.get('type')!r}"
            )

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize and crop the sample.

        Args:
            results (dict): With ``img``; ``gt_seg_map`` follows it if it is there.

        Returns:
            dict: ``results``, as the two transforms leave it.
        """
        source = results["img"]
        size = self.resize.choose_size(*source.shape[:2])
        if self.resize.backend != "pillow" or size == source.shape[:2]:
            resize_sample(results, size, self.resize.backend)
            return self.crop.transform(results)
        # A picture without memory of its own stands for the resized one until the window is known.
        results["img"] = np.broadcast_to(np.uint8(0), (*size, 3))
        resize_annotation(results, size, self.resize.backend, source.shape[:2])
        window = self.crop.choose_window(results)
        crop_sample(results, *window)
        results["img"] = resize_window(source, size, window)
        return results
