"""Reading the predictions in a data sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

INSTANCE_SOURCES = ("pred_instances", "pred_panoptic_seg")
"""Where instances can come from: masks of their own, or the things of the panoptic map."""


def prediction_field(sample: Mapping[str, Any], field: str, part: str, metric: str) -> Any:
    """Read a field of a prediction.

    Args:
        sample (Mapping): Fields of the data sample.
        field (str): Such as ``pred_sem_seg``.
        part (str): Such as ``sem_seg``.
        metric (str): Name for the message.

    Returns:
        Any: The tensor.

    Raises:
        ValueError: If the model predicted no such thing.
    """
    value = sample.get(field)
    if value is None or part not in value:
        raise ValueError(
            f"{metric} needs {field}.{part} of every image, but the prediction for "
            f"{sample.get('img_path')!r} has none; make the model return it or remove the metric"
        )
    return value[part]


def predicted_instances(
    sample: Mapping[str, Any], parts: Sequence[str], num_classes: int, metric: str
) -> list[Any]:
    """Read fields of ``pred_instances``.

    Args:
        sample (Mapping): Fields of the data sample.
        parts (Sequence[str]): Such as ``labels``, which must be the first, and ``scores``.
        num_classes (int): Of the dataset's table.
        metric (str): Name for the message.

    Returns:
        list: The tensors on the CPU, in the order of ``parts``.

    Raises:
        ValueError: If one is absent, their lengths differ, or a label is not in the table.
    """
    values = [prediction_field(sample, "pred_instances", part, metric).cpu() for part in parts]
    lengths = {part: len(value) for part, value in zip(parts, values, strict=True)}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"{metric}: the fields of pred_instances of {sample.get('img_path')!r} differ in "
            f"length: {lengths}"
        )
    _check_labels(values[0].tolist(), num_classes, sample, metric)
    return values


@dataclass(frozen=True, eq=False)
class PanopticThings:
    """The thing segments of a panoptic prediction.

    Attributes:
        index_map (np.ndarray): int32 ``(H, W)``.
        numbers (list[int]): P values of the map.
        labels (list[int]): P contiguous labels.
        scores (list[float]): P scores.
    """

    index_map: np.ndarray
    numbers: list[int]
    labels: list[int]
    scores: list[float]


def panoptic_things(sample: Mapping[str, Any], num_classes: int, metric: str) -> PanopticThings:
    """Read ``pred_panoptic_seg`` as instances.

    Args:
        sample (Mapping): Fields of the data sample.
        num_classes (int): Of the dataset's table.
        metric (str): Name for the message.

    Returns:
        PanopticThings: In the order of ``segments_info``.

    Raises:
        ValueError: If there is no such prediction, a thing has no score, or a label is not in
            the table.
    """
    index_map = prediction_field(sample, "pred_panoptic_seg", "index_map", metric)
    segments = prediction_field(sample, "pred_panoptic_seg", "segments_info", metric)
    things = [(k, segment) for k, segment in enumerate(segments, 1) if segment["isthing"]]
    without = [k for k, segment in things if segment.get("score") is None]
    if without:
        raise ValueError(
            f"{metric}: segment {without[0]} of pred_panoptic_seg of {sample.get('img_path')!r} "
            "has no score, which AP needs"
        )
    labels = [int(segment["label"]) for _, segment in things]
    _check_labels(labels, num_classes, sample, metric)
    return PanopticThings(
        index_map.cpu().numpy().reshape(index_map.shape[-2:]),
        [k for k, _ in things],
        labels,
        [float(segment["score"]) for _, segment in things],
    )


def check_source(source: str) -> str:
    """Refuse unknown sources of instances.

    Raises:
        ValueError: If ``source`` is not one of :data:`INSTANCE_SOURCES`.
    """
    if source not in INSTANCE_SOURCES:
        raise ValueError(f"source must be one of {', '.join(INSTANCE_SOURCES)}, got {source!r}")
    return source


def _check_labels(
    labels: Sequence[int], num_classes: int, sample: Mapping[str, Any], metric: str
) -> None:
    if labels and (min(labels) < 0 or max(labels) >= num_classes):
        raise ValueError(
            f"{metric}: the instances of {sample.get('img_path')!r} have labels from "
            f"{min(labels)} to {max(labels)}, but the dataset's contiguous labels go from 0 to "
            f"{num_classes - 1}"
        )
