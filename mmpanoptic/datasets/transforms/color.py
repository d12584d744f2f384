"""Changes of colour that leave the geometry alone."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmpanoptic.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """Change brightness, contrast, saturation and hue at random (photometric distortion of SSD).

    Each change happens with the given probability; contrast comes before or after the changes of
    saturation and hue.

    Differences from the original: each step is an 8-bit look-up table, so results are rounded
    after each of the two stages and no channel order is shuffled.

    Args:
        brightness (float): Largest shift, in grey levels.
        contrast (tuple[float, float]): Range of the factor.
        saturation (tuple[float, float]): Range of the factor.
        hue (float): Largest shift, in degrees.
        prob (float): Probability of each of the four changes.
    """

    def __init__(
        self,
        brightness: float = 32.0,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: float = 18.0,
        prob: float = 0.5,
    ) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie in [0, 1], got {prob}")
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the colours.

        Args:
            results (dict): With ``img``, uint8 BGR.

        Returns:
            dict: ``results`` with another ``img``.
        """
        shift = self._draw(-self.brightness, self.brightness, 0.0)
        factor = self._draw(*self.contrast, 1.0)
        saturation = self._draw(*self.saturation, 1.0)
        hue = self._draw(-self.hue, self.hue, 0.0)
        contrast_first = np.random.rand() < 0.5
        img = _linear(results["img"], factor if contrast_first else 1.0, shift)
        img = _shift_hsv(img, saturation, hue)
        results["img"] = img if contrast_first else _linear(img, factor, 0.0)
        return results

    def _draw(self, low: float, high: float, neutral: float) -> float:
        # Both numbers are always drawn, so that one change does not influence the next one.
        chosen, value = np.random.rand() < self.prob, np.random.uniform(low, high)
        return value if chosen else neutral


@TRANSFORMS.register_module()
class StretchContrast(BaseTransform):
    """Stretch the grey levels of each image to 0 ... 255, as is usual for microscopes.

    All channels get the same straight line, so that hues stay; what lies beyond the two percentiles
    is clipped. An image of one grey level stays as it is.

    Differences from the original (mmsegmentation's ``Rerange``): percentiles in the place of the
    smallest and largest value, which one hot pixel decides; the result is 8-bit.

    Args:
        low (float): Percentile of the grey levels that becomes 0.
        high (float): Percentile that becomes 255.
    """

    def __init__(self, low: float = 0.1, high: float = 99.9) -> None:
        if not 0 <= low < high <= 100:
            raise ValueError(f"0 <= low < high <= 100 must hold, got {low} and {high}")
        self.low = low
        self.high = high

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Stretch the grey levels.

        Args:
            results (dict): With ``img``, uint8.

        Returns:
            dict: ``results`` with another ``img``.
        """
        img = results["img"]
        share = np.bincount(img.ravel(), minlength=256).cumsum() / img.size
        black = int(np.searchsorted(share, self.low / 100, side="right"))
        white = int(np.searchsorted(share, self.high / 100))
        if white > black:
            table = _table((np.arange(256) - black) * (255 / (white - black)))
            results["img"] = cv2.LUT(img, table)
        return results


def _linear(img: np.ndarray, factor: float, shift: float) -> np.ndarray:
    """Compute ``factor * (img + shift)`` in grey levels."""
    if factor == 1.0 and shift == 0.0:
        return img
    return cv2.LUT(img, _table(factor * (np.arange(256) + shift)))


def _shift_hsv(img: np.ndarray, saturation: float, hue: float) -> np.ndarray:
    """Scale the saturation and turn the hue (degrees)."""
    if saturation == 1.0 and hue == 0.0:
        return img
    hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV_FULL)
    levels = np.arange(256)
    turned = (np.rint(levels + hue * 256 / 360) % 256).astype(np.uint8)
    tables = np.stack([turned, _table(saturation * levels), _table(levels)], axis=-1)
    return cv2.cvtColor(cv2.LUT(hsv, tables[None]), cv2.COLOR_HSV2BGR_FULL)


def _table(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
