"""Forms in which models hand over panoptic maps, turned into what the evaluator works on.

Each form names its void explicitly, so that void can never be mistaken for a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from mmpanoptic.structures import FlatRuns, flat_runs
from mmpanoptic.structures.panoptic import MMDET_INSTANCE_OFFSET

from .panoptic_checks import ProblemLog
from .panoptic_quality import UNLISTED, Categories, SegmentMap


@dataclass(frozen=True, eq=False)
class Prediction:
    """A model's panoptic map.

    Attributes:
        segments (SegmentMap): The map; slot = id, 1..N without gaps.
        scores (list[float | None]): Confidence of slot 1, 2, ...
    """

    segments: SegmentMap
    scores: list[float | None]


def read_prediction(
    pred: BaseDataElement | Mapping[str, Any], categories: Categories, problems: ProblemLog
) -> Prediction | None:
    """Read ``pred_panoptic_seg`` of a data sample.

    Args:
        pred: Holds one of these maps, ``(H, W)`` or ``(1, H, W)``, on any device:

            - ``index_map`` with ``segments_info``: 0 = void, k = k-th entry;
            - ``id_map`` with ``segments_info``: 0 = void, otherwise the ``id`` of an entry;
            - ``sem_seg`` without ``segments_info`` (mmdet): ``label + 1000 * instance``, the
              label ``num_classes`` = void.

            Entries of ``segments_info`` have ``label`` (contiguous) or ``category_id`` and
            optionally ``score``.
        categories: Positions are the dataset's contiguous labels.
        problems: Takes the problems.

    Returns:
        Prediction | None: None if there are errors.

    Raises:
        ValueError: If no known map is present.
    """
    before = len(problems.errors)
    if "index_map" in pred:
        prediction = _from_index_map(pred, categories, problems)
    elif "id_map" in pred:
        prediction = _from_id_map(pred, categories, problems)
    elif "sem_seg" in pred:
        prediction = _from_mmdet(pred, categories, problems)
    else:
        raise ValueError(
            "pred_panoptic_seg holds none of index_map, id_map and sem_seg; use "
            f"mmpanoptic.structures.make_panoptic_data, got the keys {sorted(pred.keys())}"
        )
    return prediction if len(problems.errors) == before else None


def runs_of(values: torch.Tensor | np.ndarray) -> FlatRuns:
    """Cut a map into runs where it lies, so that only the runs leave an accelerator.

    Args:
        values: Integer map ``(H, W)`` or ``(1, H, W)``.

    Returns:
        FlatRuns: Of int64 values.
    """
    height, width = values.shape[-2:]
    if isinstance(values, np.ndarray) or values.device.type == "cpu":
        runs = flat_runs(np.asarray(values).reshape(height, width))
        return runs._replace(value=runs.value.astype(np.int64))
    return FlatRuns((height, width), *device_runs(values))


def device_runs(values: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Cut a map into runs with PyTorch, on the map's device.

    Args:
        values: Integer map.

    Returns:
        tuple: int64 starts ``(R,)`` and values ``(R,)``.
    """
    flat = values.reshape(-1)
    change = torch.ones(flat.numel(), dtype=torch.bool, device=flat.device)
    torch.ne(flat[1:], flat[:-1], out=change[1:])
    start = change.nonzero().squeeze(1)
    pair = torch.stack([start, flat[start].long()]).cpu().numpy()  # one transfer
    return pair[0], pair[1]


def _segments_info(pred: Any) -> Sequence[Mapping[str, Any]]:
    info = pred.get("segments_info")
    if info is None:
        raise ValueError(
            "pred_panoptic_seg has a map but no segments_info; use "
            "mmpanoptic.structures.make_panoptic_data"
        )
    return info


def _segment_map(flat: FlatRuns, slot: np.ndarray, category: Sequence[int]) -> SegmentMap:
    """Assemble the map of slots 0 (void), 1..N with the categories of 1..N."""
    num_slots = len(category) + 1
    return SegmentMap(
        shape=flat.shape,
        start=flat.start,
        slot=slot,
        ids=np.arange(num_slots),
        category=np.array([UNLISTED, *category], np.int32),
        area=np.bincount(slot, flat.length, num_slots),
        crowd=np.zeros(num_slots, bool),
        crowd_slots=np.zeros(0, np.int64),
    )


def _categories_of(
    segments_info: Sequence[Mapping[str, Any]], categories: Categories, problems: ProblemLog
) -> list[int]:
    positions = []
    for number, segment in enumerate(segments_info, 1):
        position = UNLISTED
        if "label" in segment:
            label, text = segment["label"], f"label {segment['label']!r}"
            if isinstance(label, int | np.integer) and 0 <= label < categories.num_listed:
                position = int(label)
        elif "category_id" in segment:
            text = f"category_id {segment['category_id']!r}"
            position = categories.position.get(segment["category_id"], UNLISTED)
        else:
            problems.error("missing_field", "a predicted segment has neither label nor category_id")
            text = "none"
        if position == UNLISTED:
            problems.error("unknown_category", f"the dataset has no {text}", [number])
        positions.append(position)
    return positions


def _finish(
    flat: FlatRuns,
    slot: np.ndarray,
    segments_info: Sequence[Mapping[str, Any]],
    categories: Categories,
    problems: ProblemLog,
) -> Prediction:
    segments = _segment_map(flat, slot, _categories_of(segments_info, categories, problems))
    empty = np.flatnonzero(segments.area[1:] == 0).tolist()
    if empty:
        names = [segments_info[k].get("id", k + 1) for k in empty]
        problems.error("json_id_not_in_png", "predicted segments have no pixels", names)
    scores = [segment.get("score") for segment in segments_info]
    return Prediction(segments, [None if score is None else float(score) for score in scores])


def _from_index_map(pred: Any, categories: Categories, problems: ProblemLog) -> Prediction | None:
    flat = runs_of(pred.get("index_map"))
    info = _segments_info(pred)
    wrong = np.unique(flat.value[(flat.value < 0) | (flat.value > len(info))]).tolist()
    if wrong:
        detail = f"index_map has values outside of 0..{len(info)}, the number of segments_info"
        problems.error("png_id_not_in_json", detail, wrong)
        return None
    return _finish(flat, flat.value, info, categories, problems)


def _from_id_map(pred: Any, categories: Categories, problems: ProblemLog) -> Prediction | None:
    flat = runs_of(pred.get("id_map"))
    info = _segments_info(pred)
    ids = [segment["id"] for segment in info]
    if 0 in ids:
        problems.error("zero_id", "id 0, which is void, is listed as a segment", [0])
    if len(set(ids)) < len(ids):
        problems.error("duplicate_segment_id", "ids are listed more than once", ids)
    slot_of = {0: 0, **{key: k for k, key in enumerate(ids, 1)}}
    present, inverse = np.unique(flat.value, return_inverse=True)
    wrong = [key for key in present.tolist() if key not in slot_of]
    if wrong:
        problems.error(
            "png_id_not_in_json", "id_map has ids that segments_info does not list", wrong
        )
        return None
    slot = np.array([slot_of[key] for key in present.tolist()], np.int64)[inverse]
    return _finish(flat, slot, info, categories, problems)


def _from_mmdet(pred: Any, categories: Categories, problems: ProblemLog) -> Prediction | None:
    flat = runs_of(pred.get("sem_seg"))
    present, inverse = np.unique(flat.value, return_inverse=True)
    label, instance = present % MMDET_INSTANCE_OFFSET, present // MMDET_INSTANCE_OFFSET
    wrong = present[(label > categories.num_listed) | (present < 0)].tolist()
    if wrong:
        detail = f"sem_seg has labels beyond {categories.num_listed}, mmdet's void label"
        problems.error("unknown_category", detail, wrong)
        return None
    segments = np.flatnonzero(label != categories.num_listed)
    segments = segments[np.lexsort((instance[segments], label[segments]))]
    slot = np.zeros(len(present), np.int64)
    slot[segments] = np.arange(1, len(segments) + 1)
    info = [{"label": value} for value in label[segments].tolist()]
    return _finish(flat, slot[inverse], info, categories, problems)
