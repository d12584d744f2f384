"""Panoptic results of models that predict instances alone, as their exported graphs form them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmpanoptic.runtime.model import describe
from mmpanoptic.runtime.multicut import measure_boxes

from .inferencer import ImageSource, PanopticInferencer
from .panoptic_result import PanopticResult


class StackingInferencer(PanopticInferencer):
    """Give each pixel to the best instance whose mask has it, where a model predicts no map.

    The rule of SOLOv2's exported graph, to compare it with PyTorch; models that predict a panoptic
    map give theirs.
    """

    def to_result(self, source: ImageSource, sample: Any) -> PanopticResult:
        """Make the result of an image; see :meth:`PanopticInferencer.to_result`."""
        if "pred_panoptic_seg" in sample or "pred_instances" not in sample:
            return super().to_result(source, sample)
        found = sample.pred_instances
        masks, scores = found.masks.cpu().numpy(), found.scores.cpu().numpy()
        owner = np.zeros(masks.shape[1:], np.int64)
        for number in range(len(masks), 0, -1):  # the best comes last, over all others
            owner[masks[number - 1]] = number
        seen = np.unique(owner[owner > 0])
        number_of = np.zeros(len(masks) + 1, np.int32)
        number_of[seen] = np.arange(1, len(seen) + 1)
        ids = number_of[owner]
        boxes, labels = measure_boxes(ids, len(seen)), found.labels.cpu().numpy()
        rows = np.column_stack([labels[seen - 1], scores[seen - 1], boxes])
        segments = describe(ids, rows, self.table)
        result = PanopticResult(source.name, ids, segments, self.table, source.path, source.image)
        return result.without_things_below(self.score_thr) if self.score_thr > 0 else result
