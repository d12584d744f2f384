"""A set of classified masks, one of each query, becomes one panoptic map (mask transformers)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmpanoptic.structures import SegmentInfo

from .resized_logits import ResizedLogits, most_likely_class
from .segments import (
    block_elements,
    count_values,
    list_segments,
    segment_rows,
    segment_statistics,
)


class MaskSetRules(NamedTuple):
    """What decides which queries become segments.

    Attributes:
        score_thr (float): A query takes part if its best class is not "no object" and has a larger
            probability.
        mask_thr (float): A pixel is inside of a mask from this probability on.
        overlap_thr (float): A query is dropped if the pixels it wins, inside of its mask or not,
            are less than this share of the pixels inside of its mask.
        fill (bool): Paint all pixels that a query wins (MaskFormer), not only those inside of its
            mask; the others are void.
    """

    score_thr: float = 0.8
    mask_thr: float = 0.5
    overlap_thr: float = 0.8
    fill: bool = False


class MaskContest(NamedTuple):
    """Who wins the pixels.

    Attributes:
        owner (Tensor): int32 ``(H, W)``, query from 1 that paints each pixel, 0 for none.
        won (Tensor): int64 ``(K,)``, pixels that each query wins.
        inside (Tensor): int64 ``(K,)``, pixels inside of its mask.
        painted (Tensor): int64 ``(K,)``, pixels that it paints.
    """

    owner: Tensor
    won: Tensor
    inside: Tensor
    painted: Tensor


def fuse_mask_sets(
    class_logits: Tensor,
    mask_logits: Tensor,
    stride: int,
    metas: Sequence[Mapping[str, Any]],
    thing_labels: Sequence[int],
    rules: MaskSetRules,
) -> list[tuple[Tensor, list[SegmentInfo]]]:
    """Turn the queries of a batch into panoptic maps.

    The rules of MaskFormer (arXiv:2107.06278, section 3.4), Mask2Former and EoMT: the queries with
    a sure class compete by score times probability for every pixel of the original image, those
    that lose much of their mask are dropped, stuff of one class is one segment.

    Differences from the original: queries are dropped before their masks are enlarged, and masks
    are enlarged in bands of rows and in one step, so that no mask of the full size is ever stored.
    Maps agree but for rounding.

    Args:
        class_logits (Tensor): ``(N, Q, C + 1)``; the last class is "no object".
        mask_logits (Tensor): ``(N, Q, h, w)``, of the padded images.
        stride (int): Pixels per cell of the masks.
        metas (Sequence[Mapping]): ``img_shape`` (height and width without padding) and
            ``ori_shape`` (size of the result, ``img_shape`` if absent) of each image.
        thing_labels (Sequence[int]): Contiguous labels of the things.
        rules (MaskSetRules): The thresholds.

    Returns:
        list[tuple]: Of each image the int32 map ``(H, W)``, 0 for void, and its segments, numbered
        from 1 in the order of their first query. Stuff has the score of its surest query.
    """
    num_classes = class_logits.shape[-1] - 1
    score, label = class_logits.float().softmax(-1).max(-1)
    kept = (label < num_classes) & (score > rules.score_thr)
    isthing = torch.zeros(num_classes, dtype=torch.bool)
    isthing[list(thing_labels)] = True
    isthing = isthing.to(label.device, non_blocking=True)
    maps, rows = [], []
    for number, queries in enumerate(_indices(kept)):
        logits = ResizedLogits.of_image(mask_logits[number][queries], stride, metas[number])
        index_map, facts = _fuse(
            logits, score[number][queries], label[number][queries], isthing, rules
        )
        maps.append(index_map)
        rows.append(facts)
    return list(zip(maps, list_segments(rows, frozenset(thing_labels)), strict=True))


def _indices(kept: Tensor) -> list[Tensor]:
    """Find the queries that take part, of each image; the host waits for a GPU once."""
    found = kept.cpu()
    return [one.nonzero()[:, 0].to(kept.device, non_blocking=True) for one in found]


def _fuse(
    logits: ResizedLogits, score: Tensor, label: Tensor, isthing: Tensor, rules: MaskSetRules
) -> tuple[Tensor, Tensor]:
    """Form the map of one image and the rows of its segments."""
    if not len(score):
        empty = torch.zeros(logits.out_shape, dtype=torch.int32, device=score.device)
        return empty, score.new_zeros(0, 8, dtype=torch.float64)
    contest = compete(logits, score, rules)
    valid = contest.won >= rules.overlap_thr * contest.inside.double()
    valid &= (contest.painted > 0) & (contest.inside > 0)
    number, first = number_queries(label, valid, isthing)
    table = torch.cat([number.new_zeros(1), number])
    index_map = table.index_select(0, contest.owner.flatten()).view(logits.out_shape)
    statistics = segment_statistics(index_map, len(score)).of(number)
    best = ((first[:, None] == first) * (score * valid)).amax(1)
    leads = valid & (first == torch.arange(len(first), device=first.device))
    listed = torch.where(leads, number, 0)
    return index_map, segment_rows(listed, label, best, statistics.area, statistics.box)


def compete(logits: ResizedLogits, score: Tensor, rules: MaskSetRules) -> MaskContest:
    """Let queries compete for the pixels by score times probability, band by band.

    Args:
        logits (ResizedLogits): Masks ``(K, H, W)``, at least one.
        score (Tensor): ``(K,)``.
        rules (MaskSetRules): The thresholds.

    Returns:
        MaskContest: Of equal queries the first wins.
    """
    count, (height, width) = len(score), logits.out_shape
    owner = torch.empty(height, width, dtype=torch.int32, device=score.device)
    won = torch.zeros(count, dtype=torch.int64, device=score.device)
    inside = torch.zeros_like(won)
    size = max(block_elements(score.device) // (count * width), 1)
    for top in range(0, height, size):
        bottom = min(top + size, height)
        probability = logits.rows(top, bottom).sigmoid_()
        within = probability >= rules.mask_thr
        inside += within.sum((1, 2))
        best = most_likely_class(probability.mul_(score[:, None, None]))
        won += count_values(best.flatten(), count)
        band = best + 1
        if not rules.fill:
            band *= within.gather(0, best[None])[0]
        owner[top:bottom] = band
    painted = count_values(owner.flatten(), count + 1)[1:]
    return MaskContest(owner, won, inside, painted)


def number_queries(label: Tensor, valid: Tensor, isthing: Tensor) -> tuple[Tensor, Tensor]:
    """Number the segments of queries from 1, in their order; stuff of one class is one segment.

    Args:
        label (Tensor): int64 ``(K,)``, class of each query.
        valid (Tensor): bool ``(K,)``, queries that are not dropped.
        isthing (Tensor): bool ``(C,)``.

    Returns:
        tuple: int32 ``(K,)``, the segment's number, 0 of a dropped query, and int64 ``(K,)``, the
        first query of the segment.
    """
    place = torch.arange(len(label), device=label.device)
    same = (label[:, None] == label) & valid & ~isthing[label]
    first = torch.where(valid & ~isthing[label], same.int().argmax(1), place)
    running = (valid & (first == place)).cumsum(0, dtype=torch.int32)
    return torch.where(valid, running[first], 0).to(torch.int32), first
