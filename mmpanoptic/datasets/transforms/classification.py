"""Augmentation and packing for image classification."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import BaseDataElement

from mmpanoptic.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomAreaCrop(BaseTransform):
    """Cut a window of random area and shape, and resize it (``RandomResizedCrop`` of torchvision).

    Args:
        size (int): Height and width of the result.
        area (tuple[float, float]): Range of the window's share of the image.
        ratio (tuple[float, float]): Range of width over height, drawn on a logarithmic scale.

    Raises:
        ValueError: If a range is not positive and rising.
    """

    MAX_TRIES = 10

    def __init__(
        self,
        size: int = 224,
        area: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        for name, (low, high) in (("area", area), ("ratio", ratio)):
            if not 0 < low <= high:
                raise ValueError(f"{name} must be a positive, rising range, got {(low, high)}")
        self.size, self.area, self.ratio = size, (area[0], area[1]), (ratio[0], ratio[1])

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cut and resize the image.

        Args:
            results (dict): With ``img``.

        Returns:
            dict: ``results`` with another ``img``.
        """
        top, left, height, width = self._choose(*results["img"].shape[:2])
        window = results["img"][top : top + height, left : left + width]
        size = (self.size, self.size)
        # Averaging where it shrinks: plain bilinear interpolation would alias.
        method = cv2.INTER_AREA if min(height, width) > self.size else cv2.INTER_LINEAR
        results["img"] = cv2.resize(window, size, interpolation=method)
        results["img_shape"] = size
        return results

    def _choose(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw top, left, height and width of the window."""
        for _ in range(self.MAX_TRIES):
            area = height * width * np.random.uniform(*self.area)
            ratio = math.exp(np.random.uniform(*np.log(self.ratio)))
            wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < high <= height:
                top = np.random.randint(height - high + 1)
                return top, np.random.randint(width - wide + 1), high, wide
        # Nothing fits a very long image: its middle, of the nearest allowed shape.
        wide = min(width, round(height * self.ratio[1]))
        high = min(height, round(width / self.ratio[0]))
        return (height - high) // 2, (width - wide) // 2, high, wide


@TRANSFORMS.register_module()
class ColorFactors(BaseTransform):
    """Change brightness, contrast and saturation by factors (``ColorJitter`` of torchvision).

    Args:
        strength (float): Factors lie within 1 - strength and 1 + strength; the order of the three
            changes is random.

    Raises:
        ValueError: If the strength is not within 0 and 1.
    """

    def __init__(self, strength: float = 0.4) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must lie in [0, 1], got {strength}")
        self.strength = strength

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the colours.

        Args:
            results (dict): With ``img``, uint8 BGR.

        Returns:
            dict: ``results`` with another ``img``.
        """
        factors = np.random.uniform(1 - self.strength, 1 + self.strength, 3)
        img = results["img"]
        for change in np.random.permutation(3):
            img = _blend(img, int(change), float(factors[change]))
        results["img"] = img
        return results


def _blend(img: np.ndarray, change: int, factor: float) -> np.ndarray:
    """Mix an image with black (0), its mean grey (1) or its grey version (2)."""
    if change == 0:
        return cv2.addWeighted(img, factor, img, 0.0, 0.0)
    grey = cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)
    if change == 1:
        return cv2.addWeighted(img, factor, img, 0.0, (1 - factor) * float(grey.mean()))
    return cv2.addWeighted(img, factor, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), 1 - factor, 0.0)


@TRANSFORMS.register_module()
class PackClassInputs(BaseTransform):
    """Pack image and class for an image classifier."""

    META_KEYS = ("img_id", "img_path", "sample_idx", "img_shape")

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack the sample.

        Args:
            results (dict): With ``img`` uint8 ``(H, W, 3)`` and ``gt_label``.

        Returns:
            dict: ``inputs`` uint8 BGR ``(3, H, W)`` and ``data_samples`` with ``gt_label``.
        """
        sample = BaseDataElement(metainfo={k: results[k] for k in self.META_KEYS if k in results})
        sample.gt_label = torch.tensor(results["gt_label"])
        img = np.ascontiguousarray(results["img"].transpose(2, 0, 1))
        return {"inputs": torch.from_numpy(img), "data_samples": sample}
