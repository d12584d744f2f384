import numpy as np
import pytest

from mmpanoptic.evaluation.panoptic_checks import ProblemLog, ground_truth_map, prediction_map
from mmpanoptic.evaluation.panoptic_errors import KINDS, MENDING, RIGHT, find_errors
from mmpanoptic.evaluation.panoptic_quality import (
    UNLISTED,
    Categories,
    accumulate,
    match_segments,
    summarize,
)
from mmpanoptic.structures.runs import flat_runs

CATEGORIES = Categories((1, 2, 9), ("cell", "dot", "ground"), (True, True, False))


def maps(truth, found, truth_classes, found_classes, crowds=()):
    """Both maps of one row; classes by segment id, as category ids."""
    log = ProblemLog()
    info = [
        {"id": k, "category_id": c, "iscrowd": int(k in crowds)} for k, c in truth_classes.items()
    ]
    gt = ground_truth_map(flat_runs(np.array([truth])), info, CATEGORIES, log)
    info = [{"id": k, "category_id": c} for k, c in found_classes.items()]
    pred = prediction_map(flat_runs(np.array([found])), info, CATEGORIES, log)
    assert not log.errors
    return gt, pred


def kinds(codes, ids):
    names = [*KINDS, "right"]
    return {int(key): names[code] for key, code in zip(ids, codes, strict=True) if key}


def mend(gt, pred, kind):
    """Sum of IoU, TP, FP, FN over all classes."""
    sums = accumulate([find_errors(gt, pred).mended[kind]], 3)
    return [round(float(part.sum()), 9) for part in (sums.iou, sums.tp, sums.fp, sums.fn)]


def repeat(*parts):
    return [value for value, times in parts for _ in range(times)]


# name: truth, prediction, classes of both; kinds of both; kind to mend and what it gives.
CASES = {
    "wrong class": (
        repeat((1, 10), (0, 2)), repeat((5, 8), (0, 4)), {1: 1}, {5: 2},
        {1: "wrong_class"}, {5: "wrong_class"}, "wrong_class", [0.8, 1, 0, 0],
    ),
    "split in two": (
        repeat((1, 10), (0, 2)), repeat((5, 4), (6, 4), (0, 4)), {1: 1}, {5: 1, 6: 1},
        {1: "split"}, {5: "split", 6: "split"}, "split", [0.8, 1, 0, 0],
    ),
    "a piece beside the match": (
        repeat((1, 10)), repeat((5, 6), (6, 3), (0, 1)), {1: 1}, {5: 1, 6: 1},
        {1: "right"}, {5: "right", 6: "split"}, "split", [0.9, 1, 0, 0],
    ),
    "two merged in one": (
        repeat((1, 6), (2, 6)), repeat((5, 12)), {1: 1, 2: 1}, {5: 1},
        {1: "merged", 2: "merged"}, {5: "merged"}, "merged", [2.0, 2, 0, 0],
    ),
    "swallowed by a match": (
        repeat((1, 10), (2, 4)), repeat((5, 14)), {1: 1, 2: 1}, {5: 1},
        {1: "right", 2: "merged"}, {5: "right"}, "merged", [2.0, 2, 0, 0],
    ),
    "the largest part keeps the rest": (
        repeat((1, 6), (2, 5), (3, 4)), repeat((5, 15)), {1: 1, 2: 1, 3: 2}, {5: 1},
        {1: "merged", 2: "merged", 3: "missed"}, {5: "merged"}, "merged", [1.6, 2, 0, 1],
    ),
    "poor boundary": (
        repeat((1, 10), (2, 10)), repeat((0, 5), (5, 7), (6, 8)), {1: 1, 2: 9}, {5: 1, 6: 9},
        {1: "boundary", 2: "right"}, {5: "boundary", 6: "right"}, "boundary", [1.8, 2, 0, 0],
    ),
    "left void": (
        repeat((1, 10)), repeat((0, 8), (5, 2)), {1: 1}, {5: 9},
        {1: "void"}, {5: "invented"}, "void", [0.8, 1, 1, 0],
    ),
    "missed": (
        repeat((1, 4), (2, 8)), repeat((5, 12)), {1: 1, 2: 9}, {5: 9},
        {1: "missed", 2: "right"}, {5: "right"}, "missed", [2.0, 2, 0, 0],
    ),
    "invented": (
        repeat((2, 12)), repeat((5, 9), (6, 3)), {2: 9}, {5: 9, 6: 1},
        {2: "right"}, {5: "right", 6: "invented"}, "invented", [0.75, 1, 0, 0],
    ),
    "imprecise": (
        repeat((1, 8), (2, 4)), repeat((5, 6), (0, 2), (6, 4)), {1: 1, 2: 9}, {5: 1, 6: 9},
        {1: "right", 2: "right"}, {5: "right", 6: "right"}, "imprecise", [2.0, 2, 0, 0],
    ),
    "IoU below 0.3 is no poor boundary": (
        repeat((1, 10), (2, 10)), repeat((0, 8), (5, 6), (0, 6)), {1: 1, 2: 9}, {5: 1},
        {1: "void", 2: "void"}, {5: "invented"}, "boundary", [0.0, 0, 1, 2],
    ),
    "void of the truth does not count": (
        repeat((0, 6), (1, 6)), repeat((5, 12)), {1: 1}, {5: 2},
        {1: "wrong_class"}, {5: "wrong_class"}, "wrong_class", [1.0, 1, 0, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kinds_and_what_mending_gives_by_hand(case):
    truth, found, truth_classes, found_classes, of_truth, of_found, kind, sums = case
    gt, pred = maps(truth, found, truth_classes, found_classes)
    errors = find_errors(gt, pred)
    assert kinds(errors.gt_kind, gt.ids) == of_truth
    assert kinds(errors.pred_kind, pred.ids) == of_found
    assert mend(gt, pred, kind) == sums


def test_crowds_and_excused_predictions_are_no_errors():
    gt, pred = maps(repeat((1, 10), (0, 5)), repeat((5, 10), (6, 5)), {1: 1}, {5: 1, 6: 2}, [1])
    errors = find_errors(gt, pred)
    assert (errors.gt_kind == RIGHT).all()
    assert (errors.pred_kind == RIGHT).all()


def test_every_kind_says_how_it_is_mended():
    assert set(MENDING) == set(KINDS)


def scene(seed):
    """Random maps of three classes with merged, split, shifted and lost segments."""
    random = np.random.default_rng(seed)
    truth = np.repeat(random.integers(0, 12, 14), random.integers(1, 12, 14))
    found = np.roll(truth, random.integers(0, 3))
    for _ in range(4):
        start = random.integers(0, len(found))
        found[start : start + random.integers(1, 10)] = random.integers(0, 14)
    present = [k for k in np.unique(truth).tolist() if k]
    truth_classes = {k: (1, 2, 9)[k % 3] for k in present}
    found_classes = {
        k: (1, 2, 9)[(k + int(random.random() < 0.2)) % 3] for k in np.unique(found).tolist() if k
    }
    return truth, found, truth_classes, found_classes


@pytest.mark.parametrize("seed", range(40))
def test_every_error_has_one_kind_and_shares_of_the_loss_add_up(seed):
    gt, pred = maps(*scene(seed))
    errors = find_errors(gt, pred)
    match = match_segments(gt, pred)
    for codes, side, expected in (
        (errors.gt_kind, gt, match.false_negative),
        (errors.pred_kind, pred, match.false_positive),
    ):
        wrong = side.category[codes != RIGHT]
        assert np.array_equal(np.sort(wrong), np.sort(expected))
        assert KINDS.index("imprecise") not in codes
    assert np.array_equal(errors.match.iou, match.iou)
    quality = summarize(accumulate([match], 3), CATEGORIES)
    for values, stats in zip(
        quality.per_class.values(),
        (quality.per_category_stats.get(c) for c in (1, 2, 9)),
        strict=True,
    ):
        if stats:
            weight = stats["tp"] + 0.5 * (stats["fp"] + stats["fn"])
            lost = stats["tp"] - stats["iou"] + 0.5 * (stats["fp"] + stats["fn"])
            assert values["pq"] + lost / weight == pytest.approx(1, abs=1e-12)


def repainted(truth, found, gt, pred, errors, kind):
    """Mend on the pixels, by other means than the code."""
    drawn = found.copy()
    classes = {int(k): int(c) for k, c in zip(pred.ids, pred.category, strict=True) if k}
    code = KINDS.index(kind)
    new = 100
    if kind == "invented":
        for key in pred.ids[errors.pred_kind == code]:
            drawn[found == key] = 0
    if kind == "wrong_class":
        for slot in np.flatnonzero(errors.pred_kind == code):
            classes[int(pred.ids[slot])] = int(gt.category[errors.partner[slot]])
    if kind in ("missed", "void"):
        for slot in np.flatnonzero(errors.gt_kind == code):
            mask = truth == gt.ids[slot]
            drawn[mask & (found == 0) if kind == "void" else mask] = new
            classes[new] = int(gt.category[slot])
            new += 1
    present = set(np.unique(drawn).tolist())
    return drawn, {k: CATEGORIES.ids[c] for k, c in classes.items() if k in present}


@pytest.mark.parametrize("kind", ["missed", "invented", "wrong_class", "void"])
def test_mending_is_the_same_as_painting_the_map_again(kind):
    mended = 0
    for seed in range(60):
        truth, found, truth_classes, found_classes = scene(seed)
        gt, pred = maps(truth, found, truth_classes, found_classes)
        errors = find_errors(gt, pred)
        if kind == "wrong_class" and (errors.pred_kind == RIGHT)[errors.partner >= 0].any():
            # An excused prediction may have been mended as well, which the codes do not show.
            void = [truth[found == key] for key in pred.ids]
            if any(len(v) and (v == 0).mean() >= 0.5 for v in void):
                continue
        drawn, classes = repainted(truth, found, gt, pred, errors, kind)
        _, again = maps(truth, drawn, truth_classes, classes)
        expected, got = match_segments(gt, again), errors.mended[kind]
        mended += got is not errors.match
        assert np.array_equal(expected.iou, got.iou)
        for part in ("category", "false_positive", "false_negative"):
            assert np.array_equal(np.sort(getattr(expected, part)), np.sort(getattr(got, part)))
    assert mended >= 3


def test_common_pixels_by_class_leave_out_void_of_the_truth():
    gt, pred = maps(repeat((1, 6), (0, 2), (2, 4)), repeat((5, 9), (0, 3)), {1: 1, 2: 9}, {5: 1})
    rows = sorted(zip(*(part.tolist() for part in find_errors(gt, pred).pixels), strict=True))
    assert rows == [(0, 0, 6), (2, UNLISTED, 3), (2, 0, 1)]
