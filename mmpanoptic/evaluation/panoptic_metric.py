"""Panoptic quality of a model's predictions, in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger

from mmpanoptic.registry import METRICS
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.archives import file_stamp
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, describe_problems
from mmpanoptic.utils.panoptic_png import read_panoptic_runs

from .indexed_metric import IndexedMetric
from .panoptic_checks import (
    ProblemLog,
    check_ground_truth_values,
    check_overlap,
    check_sizes,
    ground_truth_map,
    usable_segments,
)
from .panoptic_output import PanopticWriter
from .panoptic_quality import (
    Categories,
    ImageMatch,
    PanopticQuality,
    SegmentMap,
    accumulate,
    match_segments,
    summarize,
)
from .panoptic_tables import (
    METRIC_NAMES,
    class_table,
    describe_image,
    group_table,
    metric_values,
    write_per_image,
)
from .predictions import read_prediction
from .record_store import RecordStore


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Ground truth of one image and what its checks found; ``segments`` is None on errors."""

    segments: SegmentMap | None
    errors: list[FormatProblem]
    warnings: list[FormatProblem]


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """What the metric keeps of one image.

    Attributes:
        index (int): Position in the dataset.
        match (ImageMatch | None): None on errors, and if only files are written.
        annotation (dict | None): Entry for the JSON of predictions, if one is written.
        name (tuple | None): Id of the image and file name of its annotation, if a table of the
            images is written.
        errors (list[FormatProblem]): Why there is no match.
        warnings (list[FormatProblem]): What was odd.
    """

    index: int
    match: ImageMatch | None
    annotation: dict[str, Any] | None
    name: tuple[Any, str] | None
    errors: list[FormatProblem]
    warnings: list[FormatProblem]


class GroundTruthCache:
    """Ground truths by file, as run lengths, up to a total size.

    An entry counts as long as the file keeps its size and time of change. When the cache is full
    it keeps what it has: epochs visit all images in turn, so evicting would only cause misses.

    Args:
        max_bytes (int): Limit of the arrays' memory.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._entries: dict[str, tuple[tuple[int, int], GroundTruth]] = {}
        self._store = RecordStore()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, path: str, make: Callable[[], GroundTruth]) -> GroundTruth:
        """Return the ground truth of a file, calling ``make`` if it is new or has changed."""
        try:
            stamp = file_stamp(path)
        except OSError:
            return make()
        known = self._entries.get(path)
        if known is not None and known[0] == stamp:
            return self._store.unpack(known[1])
        self._entries.pop(path, None)  # its memory is free when all is forgotten
        truth = make()
        if self.used_bytes + _nbytes(truth) <= self.max_bytes:
            self._entries[path] = (stamp, self._store.pack(truth))
            self.used_bytes += _nbytes(truth)
        return truth

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._store.clear()
        self.used_bytes = 0


@METRICS.register_module()
class PanopticQualityMetric(IndexedMetric):
    """Panoptic quality of ``pred_panoptic_seg``, with the bits of the published evaluator.

    No file is written unless asked for. The ground truth comes from ``seg_map_path`` and
    ``segments_info`` of each sample's meta information; it is decoded once and kept as run
    lengths. The result does not depend on the number of workers or processes, on the order of the
    images, or on images that a sampler repeats.

    Results, in percent and unrounded: ``PQ``, ``SQ``, ``RQ``, and the same over things (``_th``)
    and stuff (``_st``); nan where a group has no class that occurs.

    Paper: Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4.

    Differences from the original: see :mod:`mmpanoptic.evaluation.panoptic_quality`. The last bit
    of the averages follows the order of the dataset's label table.

    Args:
        strict (bool): Treat annotations that give meaningless numbers as errors; False follows
            the published evaluator and warns. Problems of all images are raised together, by
            :meth:`evaluate`.
        classwise (bool): Log a table of all classes.
        class_metrics (bool): Return the PQ of each class as well, as ``PQ/<name>``.
        cache_mb (float): Memory for ground truths, in MiB per process. All of COCO's 5 000 take
            about 100.
        per_image (str | None): Write one row per image here; ``.csv`` or ``.json`` by the name.
        format_only (bool): Write files for a test server and compute nothing.
        outfile_prefix (str | None): ``a/b`` writes ``a/b.panoptic/*.png`` and
            ``a/b.panoptic.json``.
        **options: Arguments of :class:`IndexedMetric`.

    Raises:
        ValueError: If ``per_image`` has another suffix, or ``format_only`` leaves nothing for it.

    Attributes:
        quality (PanopticQuality | None): The last result, on the first process.
    """

    default_prefix = "coco_panoptic"

    def __init__(
        self,
        strict: bool = True,
        classwise: bool = True,
        class_metrics: bool = False,
        cache_mb: float = 512,
        per_image: str | os.PathLike[str] | None = None,
        format_only: bool = False,
        outfile_prefix: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(format_only, outfile_prefix, **options)
        self.strict = strict
        self.classwise = classwise
        self.class_metrics = class_metrics
        self.per_image = None if per_image is None else Path(per_image)
        if self.per_image and (format_only or self.per_image.suffix not in (".csv", ".json")):
            raise ValueError(
                f"per_image is a file that ends in .csv or .json, got {str(per_image)!r}, and "
                "format_only=True computes nothing to put into it"
            )
        self.quality: PanopticQuality | None = None
        self.cache = GroundTruthCache(int(cache_mb * 2**20))
        self._writer = None if outfile_prefix is None else PanopticWriter(outfile_prefix)
        self._tables: tuple[LabelTable, Categories] | None = None
        self._size = 0

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the dataset; changing it forgets what depends on it."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        self._dataset_meta = dataset_meta
        self._tables = None
        self.cache.clear()

    @property
    def result_names(self) -> list[str]:
        """Names of the results without prefix, known before there are any."""
        names = METRIC_NAMES
        if self.class_metrics:
            names = [*names, *(f"PQ/{name}" for name in self._label_tables()[1].names)]
        return names

    def make_record(self, sample: Mapping[str, Any]) -> ImageRecord:
        """Match one prediction with its ground truth, and write it if asked.

        Args:
            sample (Mapping): Fields of the data sample: ``pred_panoptic_seg`` (see
                :func:`~mmpanoptic.evaluation.predictions.read_prediction`), ``img_id``,
                ``sample_idx``, ``seg_map_path`` and ``segments_info``.

        Returns:
            ImageRecord: A few numbers per segment.

        Raises:
            ValueError: If the sample has no prediction or no ground truth.
        """
        table, categories = self._label_tables()
        if sample.get("pred_panoptic_seg") is None:
            raise ValueError(
                f"the prediction for {sample.get('img_path')!r} has no pred_panoptic_seg; "
                "PanopticQualityMetric needs a panoptic model"
            )
        image_id = sample.get("img_id")
        problems = ProblemLog(self.strict, sample.get("img_path"), image_id)
        prediction = read_prediction(sample["pred_panoptic_seg"], categories, problems)
        annotation, match = None, None
        path = Path(sample.get("seg_map_path") or sample.get("img_path") or "")
        if prediction is not None and self._writer is not None:
            name = sample.get("png_name") or f"{path.stem}.png"
            annotation = self._writer.add(prediction, image_id, name, table)
        if not self.format_only:
            segments = None if prediction is None else prediction.segments
            match = self._match(segments, self._ground_truth(sample, categories), problems)
        file = sample.get("png_name") or path.name  # the latter lacks its folder
        return ImageRecord(
            int(sample["sample_idx"]),
            match,
            annotation,
            (image_id, file) if self.per_image else None,
            problems.errors,
            problems.warnings,
        )

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute the metrics over all processes.

        Args:
            size (int): Number of images of the dataset.

        Returns:
            dict[str, float]: The same on every process.

        Raises:
            PanopticFormatError: With the problems of all images, on the first process.
        """
        self._size = size
        if self._writer is not None:
            self._writer.finish()
        return super().evaluate(size)

    def write_files(self, records: list[ImageRecord]) -> None:
        """Write the JSON of the predictions; their PNGs are on the disk already."""
        self._raise_errors(records)
        entries = [record.annotation for record in records if record.annotation is not None]
        if self._writer is not None:
            self._writer.write_json(entries, self._label_tables()[0])

    def summarize(self, records: list[ImageRecord]) -> dict[str, float]:
        """Compute the metrics from the records of all images, in the order of the dataset."""
        self._raise_errors(records)
        warnings = [problem for record in records for problem in record.warnings]
        if warnings:
            MMLogger.get_current_instance().warning(describe_problems(warnings))
        categories = self._label_tables()[1]
        matches = [record.match for record in records if record.match is not None]
        self.quality = summarize(accumulate(matches, len(categories.ids)), categories)
        if self.per_image:
            rows = [
                describe_image(record.match, categories, *record.name)
                for record in records
                if record.match is not None and record.name is not None
            ]
            write_per_image(self.per_image, rows)
        return self._report(self.quality, categories)

    def _raise_errors(self, records: list[ImageRecord]) -> None:
        errors = [problem for record in records for problem in record.errors]
        errors += self._missing(records)
        if errors:
            raise PanopticFormatError(errors)

    def _report(self, quality: PanopticQuality, categories: Categories) -> dict[str, float]:
        self.log_table(group_table(quality))
        if self.classwise:
            self.log_table(class_table(quality, categories))
        metrics = metric_values(quality)
        if self.class_metrics:
            named = zip(categories.names, quality.per_class.values(), strict=True)
            metrics.update({f"PQ/{name}": 100 * values["pq"] for name, values in named})
        return metrics

    def _label_tables(self) -> tuple[LabelTable, Categories]:
        if self._tables is None:
            table = self.label_table
            self._tables = (table, Categories.from_label_table(table))
        return self._tables

    def _missing(self, records: list[ImageRecord]) -> list[FormatProblem]:
        if len(records) >= self._size:
            return []
        present = {record.index for record in records}
        absent = [index for index in range(self._size) if index not in present]
        shown = ", ".join(map(str, absent[:10])) + (", ..." if len(absent) > 10 else "")
        detail = (
            f"{self._size - len(records)} of the dataset's {self._size} images have no prediction "
            f"(positions {shown})"
        )
        return [FormatProblem("missing_prediction", detail)]

    def _match(
        self, segments: SegmentMap | None, truth: GroundTruth, problems: ProblemLog
    ) -> ImageMatch | None:
        problems.errors += truth.errors
        problems.warnings += truth.warnings
        if segments is None or truth.segments is None:
            return None
        if not check_sizes(truth.segments.shape, segments.shape, problems):
            return None
        match = match_segments(truth.segments, segments)
        check_overlap(match, problems)
        return match

    def _ground_truth(self, sample: Mapping[str, Any], categories: Categories) -> GroundTruth:
        path, info = sample.get("seg_map_path"), sample.get("segments_info")
        if path is None or info is None:
            raise ValueError(
                f"the data sample of {sample.get('img_path')!r} has no seg_map_path or no "
                "segments_info; add both to meta_keys of the packing transform, or set "
                "format_only=True for images without annotation"
            )

        def make() -> GroundTruth:
            problems = ProblemLog(self.strict, os.fspath(path), sample.get("img_id"))
            segments = _read_ground_truth(path, info, categories, problems)
            return GroundTruth(segments, problems.errors, problems.warnings)

        return self.cache.get(os.fspath(path), make)


def _nbytes(truth: GroundTruth) -> int:
    return 0 if truth.segments is None else truth.segments.nbytes


def _read_ground_truth(
    path: str, info: Any, categories: Categories, problems: ProblemLog
) -> SegmentMap | None:
    if not usable_segments(info, ("id", "category_id", "area", "iscrowd"), problems):
        return None
    if not check_ground_truth_values(info, problems):
        return None
    unknown = [s["id"] for s in info if s["category_id"] not in categories.position]
    if unknown:
        problems.error("unknown_category", "the dataset's table lacks category ids", unknown)
        return None
    try:
        runs = read_panoptic_runs(path)
    except PanopticFormatError as error:
        problems.adopt(error)
        return None
    segments = ground_truth_map(runs, info, categories, problems)
    return None if problems.errors else segments
