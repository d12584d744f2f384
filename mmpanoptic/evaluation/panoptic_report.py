"""Everything that is worth knowing about the errors of panoptic predictions, as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .panoptic_errors import KINDS, MENDING, RIGHT, ImageErrors, find_errors
from .panoptic_files import FileEvaluation, PathLike, evaluate_files
from .panoptic_quality import UNLISTED, Categories, ImageMatch, SegmentMap, accumulate, summarize
from .resampling import GROUPS, MEASURES, class_counts, interval, quality_of_counts, resample
from .score_analysis import ScoredSegments, best_threshold, calibrate

_NOTHING = "(nothing)"
SURE = 0.8
"""Scores from here on make a wrong prediction a suspicion against the ground truth."""


@dataclass(frozen=True, eq=False)
class Segments:
    """The listed segments of one side of one image, ``(K,)`` each, without void.

    Attributes:
        ids (np.ndarray): int64, of the JSON.
        category (np.ndarray): int32, position in the categories.
        area (np.ndarray): float64, pixels.
        kind (np.ndarray): int8, position in :data:`KINDS` or :data:`RIGHT`.
        score (np.ndarray): float64, nan without.
        iou (np.ndarray): float64, of predictions with the best segment of any class.
        partner (np.ndarray): int64, id of what a prediction is matched with or was mistaken for,
            0 without.
        counted (np.ndarray): bool, matched or an error (no crowd, not excused).
    """

    ids: np.ndarray
    category: np.ndarray
    area: np.ndarray
    kind: np.ndarray
    score: np.ndarray
    iou: np.ndarray
    partner: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True, eq=False)
class ImageReport:
    """What the report keeps of one image.

    Attributes:
        errors (ImageErrors): Kinds and mended counts.
        truth (Segments): Of the ground truth.
        found (Segments): Of the prediction.
        files (tuple[str, str]): Names of both PNGs.
    """

    errors: ImageErrors
    truth: Segments
    found: Segments
    files: tuple[str, str]


def look_at_image(
    annotation: Mapping[str, Any], prediction: Mapping[str, Any], gt: SegmentMap, pred: SegmentMap
) -> ImageReport:
    """Keep what the report needs of one image; arguments as :data:`.panoptic_files.Look`."""
    errors = find_errors(gt, pred)
    scores = {s["id"]: s.get("score") for s in prediction["segments_info"]}
    matched = np.zeros(len(gt.ids), bool)
    partner = np.where(errors.partner >= 0, gt.ids[errors.partner], 0)
    is_match = (errors.partner >= 0) & (errors.pred_kind == RIGHT)
    is_match &= pred.category == gt.category[errors.partner]
    is_match &= errors.iou > 0.5
    matched[errors.partner[is_match]] = True
    rows = np.flatnonzero(gt.category != UNLISTED)
    nothing = np.zeros(len(rows))
    truth = Segments(
        gt.ids[rows],
        gt.category[rows],
        gt.area[rows],
        errors.gt_kind[rows],
        nothing + np.nan,
        nothing,
        nothing.astype(np.int64),
        (matched | (errors.gt_kind != RIGHT))[rows],
    )
    rows = np.flatnonzero(pred.category != UNLISTED)
    given = [scores.get(key) for key in pred.ids[rows].tolist()]
    found = Segments(
        pred.ids[rows],
        pred.category[rows],
        pred.area[rows],
        errors.pred_kind[rows],
        np.array([np.nan if s is None else float(s) for s in given], float),
        errors.iou[rows],
        partner[rows],
        (is_match | (errors.pred_kind != RIGHT))[rows],
    )
    return ImageReport(errors, truth, found, (annotation["file_name"], prediction["file_name"]))


def report_files(
    gt_json: PathLike,
    pred_json: PathLike,
    gt_folder: PathLike | None = None,
    pred_folder: PathLike | None = None,
    workers: int | None = None,
) -> PanopticReport:
    """Evaluate files and look for the reasons; arguments as :func:`.evaluate_files`.

    Returns:
        PanopticReport: The analysis.

    Raises:
        PanopticFormatError: As there.
        ValueError: If there are no images.
    """
    result = evaluate_files(
        gt_json, pred_json, gt_folder, pred_folder, workers, fill_missing=True, look=look_at_image
    )
    if not result.images:
        raise ValueError(f"{gt_json} lists no annotations: there is nothing to report")
    return PanopticReport(result)


class PanopticReport:
    """Answers the questions of the report.

    Args:
        result (FileEvaluation): With an :class:`ImageReport` of each image.
    """

    def __init__(self, result: FileEvaluation) -> None:
        self.result = result
        self.images: list[ImageReport] = result.seen
        self.categories: Categories = result.categories
        self.number = self.categories.num_listed
        self.isthing = self.categories.isthing

    @cached_property
    def counts(self) -> np.ndarray:
        """Sums by image and class, float64 ``(I, C, 4)``."""
        return class_counts([match for _, _, match in self.result.images], self.number)

    def to_dict(self, samples: int = 1000, bins: int = 4) -> dict[str, Any]:
        """Return all figures as plain values; qualities are fractions.

        Args:
            samples (int): Draws of the bootstrap.
            bins (int): Quantiles of segment sizes and of crowding.
        """
        return {
            "images": len(self.images),
            "quality": self.quality(samples),
            "errors": self.errors(),
            "size": self.by_size(bins, samples),
            "crowding": self.by_crowding(bins, samples),
            "confusion": self.confusion(),
            "calibration": calibrate(self.scored),
            "threshold": best_threshold(self.scored, self.counts, self.isthing),
            "suspects": self.suspects(),
            "loss": self.loss.tolist(),
        }

    def quality(self, samples: int) -> dict[str, Any]:
        """Give PQ, SQ and RQ of groups and classes, with intervals."""
        drawn = resample(self.counts, self.isthing, samples)
        averages = self.result.quality.averages
        groups = {
            name: {
                **{m: _finite(averages[name][m]) for m in MEASURES},
                "n": int(averages[name]["n"]),
                "intervals": _intervals(drawn.groups[:, k]),
            }
            for k, name in enumerate(GROUPS)
        }
        sums = self.counts.sum(0)
        values = quality_of_counts(sums, self.isthing)[0]
        classes = []
        for c in range(self.number):
            measures = dict(zip(MEASURES, map(_finite, values[c].tolist()), strict=True))
            tally = dict(zip(("tp", "fp", "fn"), sums[c, 1:].astype(int).tolist(), strict=True))
            drawn_of_class = _intervals(drawn.classes[:, c])
            classes.append({**self._name(c), **measures, **tally, "intervals": drawn_of_class})
        return {"groups": groups, "classes": classes, "samples": samples}

    def _name(self, c: int) -> dict[str, Any]:
        ids, names = self.categories.ids, self.categories.names
        return {"id": ids[c], "name": names[c], "isthing": bool(self.isthing[c])}

    def errors(self) -> dict[str, Any]:
        """Divide what PQ lacks among the kinds of errors, and mend each alone."""
        sums = self.counts.sum(0)
        weight = sums[:, 1] + 0.5 * sums[:, 2] + 0.5 * sums[:, 3]
        tally = np.zeros((len(KINDS), self.number, 2), np.int64)  # FP, FN
        for image in self.images:
            for side, segments in enumerate((image.found, image.truth)):
                wrong = (segments.kind != RIGHT) & (segments.category < self.number)
                np.add.at(tally[..., side], (segments.kind[wrong], segments.category[wrong]), 1)
        lost = 0.5 * tally.sum(2)
        lost[0] = sums[:, 1] - sums[:, 0]
        share = np.divide(lost, weight, out=np.zeros_like(lost), where=weight > 0)
        present = weight > 0
        members = [np.ones(self.number, bool), np.array(self.isthing), ~np.array(self.isthing)]
        kinds = {}
        for k, kind in enumerate(KINDS):
            mended = self._mended(kind)
            kinds[kind] = {
                "mending": MENDING[kind],
                "fp": int(tally[k, :, 0].sum()),
                "fn": int(tally[k, :, 1].sum()),
                "lost": {
                    name: float(share[k, m & present].mean()) if (m & present).any() else None
                    for name, m in zip(GROUPS, members, strict=True)
                },
                "mended": {name: _finite(mended.averages[name]["pq"]) for name in GROUPS},
                "classes": [
                    {
                        "fp": int(tally[k, c, 0]),
                        "fn": int(tally[k, c, 1]),
                        "lost": float(share[k, c]) if present[c] else None,
                        "mended": mended.per_class[self.categories.ids[c]]["pq"],
                    }
                    for c in range(self.number)
                ],
            }
        return {
            "rule": "shares of lost PQ add up to 1 - PQ; values after mending do not add up",
            "kinds": kinds,
        }

    def _mended(self, kind: str) -> Any:
        matches = (image.errors.mended[kind] for image in self.images)
        return summarize(accumulate(matches, len(self.categories.ids)), self.categories)

    @cached_property
    def loss(self) -> np.ndarray:
        """Share of each image in what PQ lacks to 1; the shares add up, float64 ``(I,)``."""
        sums = self.counts.sum(0)
        weight = sums[:, 1] + 0.5 * sums[:, 2] + 0.5 * sums[:, 3]
        present = weight > 0
        iou, tp, fp, fn = np.moveaxis(self.counts[:, present], -1, 0)
        lost: np.ndarray = ((tp - iou + 0.5 * fp + 0.5 * fn) / weight[present]).sum(1)
        return lost / max(1, present.sum())

    def size_edges(self, bins: int) -> np.ndarray:
        """Quantiles of the areas of the ground truth, without repeated ones."""
        areas = np.concatenate([image.truth.area[image.truth.counted] for image in self.images])
        if not len(areas):
            return np.array([0.0, 1.0])
        edges: np.ndarray = np.unique(np.quantile(areas, np.linspace(0, 1, bins + 1)))
        return edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1])

    def by_size(self, bins: int, samples: int) -> list[dict[str, Any]]:
        """Evaluate segments by their size.

        Matches and missed segments count by the area of the ground truth, false positives by
        their own.
        """
        edges = self.size_edges(bins)
        rows = []
        inner = edges[1:-1]
        parts = [self._split_by_size(i, inner, len(edges) - 1) for i in range(len(self.images))]
        for k in range(len(edges) - 1):
            counts = class_counts([part[k] for part in parts], self.number)
            span = {"low": float(edges[k]), "high": float(edges[k + 1])}
            rows.append({**span, **self._summary(counts, samples)})
        return rows

    def _split_by_size(self, i: int, inner: np.ndarray, bins: int) -> list[ImageMatch]:
        image, match = self.images[i], self.result.images[i][2]
        truth, found = image.truth, image.found
        place_of_truth = np.searchsorted(inner, truth.area, "right")
        place_of_found = np.searchsorted(inner, found.area, "right")
        # Matches are listed by ascending slot, as the segments are.
        matched = place_of_truth[truth.counted & (truth.kind == RIGHT)]
        false, missed = found.kind != RIGHT, truth.kind != RIGHT
        return [
            ImageMatch(
                match.category[matched == k],
                match.iou[matched == k],
                found.category[false & (place_of_found == k)],
                truth.category[missed & (place_of_truth == k)],
            )
            for k in range(bins)
        ]

    def by_crowding(self, bins: int, samples: int) -> list[dict[str, Any]]:
        """Evaluate images by how many things their ground truth has."""
        things = np.array([*self.isthing, *[False] * (len(self.categories.ids) - self.number)])
        number = np.array([int(things[i.truth.category].sum()) for i in self.images])
        edges = np.unique(np.quantile(number, np.linspace(0, 1, bins + 1)).round().astype(int))
        place = np.searchsorted(edges[1:-1], number, "right") if len(edges) > 2 else 0 * number
        rows = []
        for k in np.unique(place).tolist():
            inside = place == k
            span = {"low": int(number[inside].min()), "high": int(number[inside].max())}
            images = {"images": int(inside.sum())}
            rows.append({**span, **images, **self._summary(self.counts[inside], samples)})
        return rows

    def _summary(self, counts: np.ndarray, samples: int) -> dict[str, Any]:
        sums = counts.sum(0)
        _, groups, number = quality_of_counts(sums, self.isthing)
        drawn = resample(counts, self.isthing, samples)
        tally = sums[:, 1:].sum(0).astype(int).tolist()
        return {
            **dict(zip(("tp", "fp", "fn"), tally, strict=True)),
            "groups": {
                name: {
                    **dict(zip(MEASURES, map(_finite, groups[k].tolist()), strict=True)),
                    "n": int(number[k]),
                    "intervals": _intervals(drawn.groups[:, k]),
                }
                for k, name in enumerate(GROUPS)
            },
        }

    def confusion(self) -> dict[str, Any]:
        """Count who is taken for whom.

        Pixels: all that have a class in the ground truth. Segments: a true one stands with the
        prediction that it is matched with or that has the right mask and a wrong class, else with
        nothing; false positives without a partner stand in the row of nothing.
        """
        size = self.number + 1
        pixels, segments = np.zeros((2, size, size), np.int64)
        for image in self.images:
            g, p, n = (
                np.where((part == UNLISTED) | (part >= self.number), self.number, part)
                if position < 2
                else part
                for position, part in enumerate(image.errors.pixels)
            )
            known = g < self.number
            np.add.at(pixels, (g[known], p[known]), n[known])
            self._confuse_segments(image, segments)
        names = [*self.categories.names[: self.number], _NOTHING]
        return {"names": names, "pixels": pixels.tolist(), "segments": segments.tolist()}

    def _confuse_segments(self, image: ImageReport, table: np.ndarray) -> None:
        truth, found = image.truth, image.found
        wrong_class = KINDS.index("wrong_class")
        of_id = dict(zip(truth.ids.tolist(), truth.category.tolist(), strict=True))
        paired = set()
        for k in np.flatnonzero(found.counted).tolist():
            partner = int(found.partner[k])
            if found.kind[k] in (RIGHT, wrong_class) and partner:
                paired.add(partner)
                row = of_id[partner]
            else:
                row = self.number
            if row <= self.number:
                table[row, found.category[k]] += 1
        for key, category, counted in zip(
            truth.ids.tolist(), truth.category.tolist(), truth.counted.tolist(), strict=True
        ):
            if counted and key not in paired and category < self.number:
                table[category, self.number] += 1

    @cached_property
    def scored(self) -> ScoredSegments:
        """Predicted things that have a score and count."""
        columns: list[list[np.ndarray]] = [[], [], [], []]
        things = np.array(self.isthing, bool)
        for i, image in enumerate(self.images):
            found = image.found
            use = found.counted & ~np.isnan(found.score)
            use &= things[found.category]
            matched = (found.kind == RIGHT)[use]
            values = (
                np.full(int(use.sum()), i),
                found.category[use].astype(np.int64),
                found.score[use],
                np.where(matched, found.iou[use], 0.0),
            )
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        return ScoredSegments(*(np.concatenate(column) for column in columns))

    def suspects(self, sure: float = SURE) -> list[dict[str, Any]]:
        """List confident predictions that the ground truth contradicts, the most confident first.

        Either of a class that the ground truth names otherwise, or where it has nothing.
        """
        names = self.categories.names
        reasons = {"wrong_class": "another class", "invented": "not annotated"}
        rows = []
        for i, image in enumerate(self.images):
            of_id = dict(zip(image.truth.ids.tolist(), image.truth.category.tolist(), strict=True))
            found = image.found
            for k in np.flatnonzero(found.score >= sure).tolist():
                kind = KINDS[found.kind[k]] if found.kind[k] != RIGHT else ""
                if kind not in reasons:
                    continue
                truth = of_id.get(int(found.partner[k])) if kind == "wrong_class" else None
                rows.append(
                    {
                        "image_id": self.result.images[i][0],
                        "image": i,
                        "segment_id": int(found.ids[k]),
                        "predicted": names[found.category[k]],
                        "annotated": None if truth is None else names[truth],
                        "annotated_id": int(found.partner[k]) if truth is not None else None,
                        "score": float(found.score[k]),
                        "area": int(found.area[k]),
                        "reason": reasons[kind],
                    }
                )
        return sorted(rows, key=lambda row: -float(str(row["score"])))


def compare(one: PanopticReport, two: PanopticReport, samples: int = 1000) -> dict[str, Any]:
    """Compare a second run with a first one on the same images.

    Args:
        one (PanopticReport): The first run.
        two (PanopticReport): The second run.
        samples (int): Draws of the bootstrap, of the same images for both.

    Returns:
        dict: ``groups`` and ``classes``: PQ of both, the difference (second minus first) and its
        paired ``interval``.

    Raises:
        ValueError: If the images or the classes differ.
    """
    keys = [[image_id for image_id, _, _ in report.result.images] for report in (one, two)]
    if keys[0] != keys[1] or one.categories.ids != two.categories.ids:
        raise ValueError("two runs are compared on the same images and classes; theirs differ")
    drawn = [resample(report.counts, report.isthing, samples) for report in (one, two)]
    values = [quality_of_counts(report.counts.sum(0), report.isthing) for report in (one, two)]

    def row(first: float, second: float, draws: np.ndarray) -> dict[str, Any]:
        return {
            "first": _finite(first),
            "second": _finite(second),
            "difference": _finite(second - first),
            "interval": interval(draws),
        }

    difference = drawn[1].groups[..., 0] - drawn[0].groups[..., 0]
    by_class = drawn[1].classes[..., 0] - drawn[0].classes[..., 0]
    return {
        "groups": {
            name: row(values[0][1][k, 0], values[1][1][k, 0], difference[:, k])
            for k, name in enumerate(GROUPS)
        },
        "classes": [
            {**one._name(c), **row(values[0][0][c, 0], values[1][0][c, 0], by_class[:, c])}
            for c in range(one.number)
        ],
        "samples": samples,
    }


def _intervals(draws: np.ndarray) -> dict[str, list[float | None]]:
    return {m: interval(draws[:, k]) for k, m in enumerate(MEASURES)}


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
