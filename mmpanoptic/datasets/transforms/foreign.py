"""Transforms of mmcv, mmdet and mmsegmentation in panoptic pipelines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mmpanoptic.registry import ConfigError

FILL = 255
"""Void in the conventions of semantic segmentation: what foreign transforms fill new pixels with.

No segment of ``gt_seg_map`` has this number, so that such pixels are void here, too."""

MOVING = {
    "mmcv": "RandomFlip Resize RandomResize RandomChoiceResize Pad CenterCrop",
    "mmdet": """Resize FixScaleResize FixShapeResize ResizeShortestEdge RandomFlip RandomCrop Pad
        Expand Rotate ShearX ShearY TranslateX TranslateY RandomErasing""",
    "mmseg": """RandomRotate RandomCrop Resize ResizeToMultiple ResizeShortestEdge RandomFlip
        RandomCutOut""",
}
"""Transforms that move image and annotation together; a test looks at each.

mmsegmentation's RandomRotFlip is not among them: it interpolates between the numbers of the map."""

STILL = {
    "mmcv": "LoadImageFromFile Normalize RandomGrayscale",
    "mmdet": """CutOut PhotoMetricDistortion YOLOXHSVRandomAug ColorTransform AutoContrast Color
        Brightness Contrast Equalize Invert Posterize Sharpness Solarize SolarizeAdd Corrupt""",
    "mmseg": "AdjustGamma CLAHE PhotoMetricDistortion RGB2Gray Rerange GenerateEdge",
}
"""Transforms that leave every pixel where it is."""

WRAPPERS = {
    "mmcv": "Compose RandomApply RandomChoice TestTimeAug MultiScaleFlipAug",
    "mmdet": "AutoAugment RandAugment RandomOrder",
}
"""Transforms that apply others, all of which are looked at."""

ADVICE = (
    "use transforms of mmpanoptic (ResizeShortestEdge, ResizeScaleJitter, RandomCrop, ResizeCrop, "
    "PanopticRandomFlip, PanopticPad, ColorJitter)"
)


def check_pipeline(steps: Iterable[Any], has_instances: bool) -> None:
    """Refuse a pipeline in which a transform would leave the annotation behind.

    Transforms of other packages than mmcv, mmdet and mmsegmentation are not known and not refused.

    Args:
        steps (Iterable): The built transforms.
        has_instances (bool): Whether the samples have instances of an instance file, which only
            transforms of mmpanoptic move.

    Raises:
        ConfigError: Naming the transform.
    """
    for step in _flat(steps):
        package, name = type(step).__module__.partition(".")[0], type(step).__name__
        if package not in MOVING or name in STILL[package].split():
            continue
        if name not in MOVING[package].split():
            raise ConfigError(
                f"{package}.{name} is not known to move the panoptic annotation with the image; "
                f"{ADVICE}, or of {package} one of {', '.join(MOVING[package].split())}"
            )
        if has_instances:
            raise ConfigError(
                f"{package}.{name} would leave the instances of the instances_file behind; "
                f"{ADVICE}, or leave instances_file out"
            )
        fill = getattr(step, "seg_fill_in", None)
        if fill not in (None, 0, FILL):
            raise ConfigError(
                f"{package}.{name}: seg_fill_in={fill} is the number of a segment; use {FILL}, void"
            )


def _flat(steps: Iterable[Any]) -> Iterator[Any]:
    """Walk through wrappers; those that only apply others are left out."""
    for step in steps:
        inner = getattr(step, "transforms", None) or getattr(step, "subroutines", None) or ()
        package, name = type(step).__module__.partition(".")[0], type(step).__name__
        if not (package == "mmengine" or name in WRAPPERS.get(package, "").split()):
            yield step
        yield from _flat(inner if isinstance(inner, Iterable) else [inner])


def reserve_fill(index_map: np.ndarray) -> np.ndarray:
    """Keep the number :data:`FILL` free in an index map.

    Args:
        index_map (np.ndarray): ``(H, W)``, 0 = void, k = k-th segment.

    Returns:
        np.ndarray: The same for less than 255 segments; else uint16, where the numbers from 255 on
        are one greater.
    """
    if index_map.dtype == np.uint8 and index_map.max(initial=0) < FILL:
        return index_map
    return index_map.astype(np.uint16) + (index_map >= FILL)


def without_fill(index_map: np.ndarray) -> np.ndarray:
    """Undo :func:`reserve_fill`; pixels that transforms have filled in become void.

    Args:
        index_map (np.ndarray): ``(H, W)`` after augmentation.

    Returns:
        np.ndarray: 0 = void, k = k-th segment.
    """
    if index_map.max(initial=0) < FILL:
        return index_map
    numbers = index_map - (index_map > FILL)
    numbers[index_map == FILL] = 0
    return numbers
