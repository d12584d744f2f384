"""Fusion head of COPS: an asymmetric multiway cut of the costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor

from mmpanoptic.models.multicut.grid_edges import map_edges
from mmpanoptic.models.multicut.layer import Cut, CutProblem, MulticutModule
from mmpanoptic.models.multicut.scores import (
    NearestGrid,
    affinity_scores,
    class_scores,
    class_scores_of_result,
)
from mmpanoptic.models.postprocess.segments import list_segments, segment_rows
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import make_panoptic_data

SCORE_MODES = ("network", "published")


@dataclass(frozen=True)
class _Kept:
    """Segments of an image that reach the result.

    Attributes:
        index (Tensor): int64 ``(h, w)``, number of each cell's segment from 1, 0 for none.
        label (Tensor): int64 ``(M,)``.
        area (Tensor): int64 ``(M,)``, pixels of the result.
        box (Tensor): int64 ``(M, 4)``, x0, y0, x1, y1 in the result, ends exclusive.
    """

    index: Tensor
    label: Tensor
    area: Tensor
    box: Tensor


@MODELS.register_module()
class MulticutHead(MulticutModule):
    """Solve the asymmetric multiway cut of each image and list its segments.

    COPS (arXiv:2106.03188), sections 3 and 6. The images of a batch are solved in parallel.

    Differences from the original: one integer map is resized, no stack of masks; areas and boxes
    are counted on cells; an image without segments is all void. Scores are taken in the space of
    the network; the published rule (``score_mode="published"``) compares the mask at the size of
    the result with edges at the size of the network, which do not fit where images are resized.

    Args:
        *args: See :class:`MulticutModule`: ``num_classes``, ``thing_labels``, ``distances``.
        stride (int): Pixels per cell of the heads' outputs.
        stuff_area (int): Stuff classes with fewer pixels of the network's input become void.
        instance_area (int): Things with fewer pixels of the network's input become void.
        score_mode (str): Score of things, the mean logit of their class and a small term of their
            edges: in the space of the "network", or as "published".
        keep_outputs (bool): Also return ``pred_heads``: costs and cuts at the size of the grid.
        **kwargs: See :class:`MulticutModule`: ``intervals``, ``ignore_area``, ``solver``,
            ``num_threads``.

    Raises:
        ValueError: If an option is not among the allowed values.
    """

    NEEDS = {"edge costs": "an AffinityHead"}

    def __init__(
        self,
        *args: Any,
        stride: int = 4,
        stuff_area: int = 2048,
        instance_area: int = 200,
        score_mode: str = "network",
        keep_outputs: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if score_mode not in SCORE_MODES:
            raise ValueError(
                f"MulticutHead: score_mode must be one of {', '.join(SCORE_MODES)}, "
                f"got {score_mode!r}"
            )
        self.stride = stride
        self.stuff_area = stuff_area
        self.instance_area = instance_area
        self.score_mode = score_mode
        self.keep_outputs = keep_outputs

    @torch.no_grad()
    def predict(
        self, sem_outputs: Tensor, ins_outputs: Any, batch_img_metas: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Form the results of a batch.

        Args:
            sem_outputs (Tensor): Logits ``(N, C, h, w)`` at ``stride``.
            ins_outputs (AffinityOutputs): Edge logits, and the costs of classes and edges.
            batch_img_metas (Sequence[Mapping]): ``img_shape`` (height and width without padding)
                and ``ori_shape`` (size of the result, ``img_shape`` if absent) of each image.

        Returns:
            list[dict]: Fields of each data sample: ``pred_panoptic_seg``, ``pred_sem_seg`` and,
            with ``keep_outputs``, ``pred_heads`` of the cells without padding: ``class_cost``
            ``(C, h, w)``, ``component`` ``(1, h, w)``, and ``cost_{d}`` and ``cut_{d}``
            ``(2, h, w)`` of each distance without sampling.
        """
        with torch.autocast(sem_outputs.device.type, enabled=False):
            problems = [
                CutProblem(node, [costs[number] for costs in ins_outputs.edge_costs])
                for number, node in enumerate(ins_outputs.node_costs)
            ]
            cuts = self.solve_asymmetric(problems)
            results = []
            for number, (cut, meta) in enumerate(zip(cuts, batch_img_metas, strict=True)):
                logits = [part[number] for part in ins_outputs.logits]
                results.append(self.predict_single(cut, sem_outputs[number], logits, meta))
                if self.keep_outputs:
                    results[-1]["pred_heads"] = self._outputs(problems[number], cut, meta)
        return results

    def predict_single(
        self, cut: Cut, class_logits: Tensor, edge_logits: Sequence[Tensor], meta: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Form the result of one image from its cut.

        Args:
            cut (Cut): Labels and components ``(h, w)``.
            class_logits (Tensor): ``(C, h, w)``, for the scores.
            edge_logits (Sequence[Tensor]): ``(2, h', w')`` of each distance, for the scores.
            meta (Mapping): See :meth:`predict`.

        Returns:
            dict: See :meth:`predict`.
        """
        img_shape = tuple(meta["img_shape"][:2])
        out_shape = tuple(meta.get("ori_shape", img_shape)[:2])
        size = (cut.labels.shape[0], cut.labels.shape[1])
        grid = NearestGrid(size, self.stride, img_shape, out_shape, cut.labels.device)
        kept = self._keep(cut, grid)
        index_map = grid.enlarge(kept.index.int())
        pred_sem_seg = PixelData()
        pred_sem_seg.sem_seg = grid.enlarge(cut.labels)[None]
        score = self._scores(kept, index_map, class_logits, edge_logits, grid)
        number = torch.arange(1, len(score) + 1, device=score.device)
        rows = segment_rows(number, kept.label, score, kept.area, kept.box)
        (segments,) = list_segments([rows], self.thing_labels)
        return {
            "pred_sem_seg": pred_sem_seg,
            "pred_panoptic_seg": make_panoptic_data(index_map, segments),
        }

    def _keep(self, cut: Cut, grid: NearestGrid) -> _Kept:
        """Drop segments that are too small or lie outside the result."""
        segments = self.segments(cut)
        isthing = self.isthing.index_select(0, segments.label)
        limit = torch.where(isthing, self.instance_area, self.stuff_area)
        area, box = grid.measure(segments.index + 1, len(segments.label))
        kept = (segments.cells * self.stride**2 >= limit) & (area > 0)
        number = torch.where(kept, kept.cumsum(0), 0)
        table = torch.cat([number.new_zeros(1), number])
        return _Kept(table[segments.index + 1], segments.label[kept], area[kept], box[kept])

    def _scores(
        self,
        kept: _Kept,
        index_map: Tensor,
        class_logits: Tensor,
        edge_logits: Sequence[Tensor],
        grid: NearestGrid,
    ) -> Tensor:
        """Score the segments ``(M,)``; stuff is not scored by the published system and gets 1."""
        isthing = self.isthing.index_select(0, kept.label)
        if self.score_mode == "published":
            score = class_scores_of_result(class_logits, index_map, kept.label, grid)
            index = grid.subsample(index_map)
        else:
            index = grid.cells_of_image(kept.index)
            score = class_scores(class_logits, index, kept.label, self.stride)
        score = score + affinity_scores(
            index, edge_logits, self.distances, self.intervals, len(kept.label)
        )
        return torch.where(isthing, score, 1.0)

    def _outputs(self, problem: CutProblem, cut: Cut, meta: Mapping[str, Any]) -> PixelData:
        """Collect costs and cuts of the cells of the image, without padding."""
        height, width = (-(-side // self.stride) for side in meta["img_shape"][:2])
        data = PixelData()

        def keep(name: str, value: Tensor) -> None:
            setattr(data, name, value[:, :height, :width])

        keep("class_cost", problem.node)
        keep("component", cut.components[None])
        parts = zip(self.distances, self.intervals, problem.edges, strict=True)
        for distance, interval, costs in parts:
            if interval == 1:
                keep(f"cost_{distance}", costs)
                keep(f"cut_{distance}", map_edges(cut.components, distance, torch.ne))
        return data
