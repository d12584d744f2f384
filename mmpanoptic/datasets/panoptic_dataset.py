"""Datasets in COCO-panoptic format."""

from __future__ import annotations

import copy
import logging
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset, Compose
from mmengine.fileio import join_path
from mmengine.logging import print_log
from mmengine.utils import is_abs

from mmpanoptic.registry import DATASETS, TRANSFORMS
from mmpanoptic.structures import (
    OVERLAP_FIELD,
    LabelTable,
    find_runs,
    lookup_sorted,
    segment_statistics,
)
from mmpanoptic.utils.archives import open_archive_of
from mmpanoptic.utils.coco_file import load_json_object
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError, format_error
from mmpanoptic.utils.panoptic_png import read_panoptic_png

from .data_errors import DataErrorCounter, explain_missing_folder
from .instance_json import read_instances
from .label_tables import merge_metainfo, table_from_categories, table_from_metainfo
from .packed_records import (
    Packed,
    PackedRecords,
    Record,
    complete,
    decode_record,
    load_categories,
    pack_records,
)
from .panoptic_cache import PanopticCache, open_cache
from .panoptic_json import PanopticJson, check_categories, find_empty
from .seeding import seed_sample
from .transforms.foreign import check_pipeline

ON_ERROR = ("stop", "skip")


@DATASETS.register_module()
class PanopticDataset(BaseDataset):
    """Images with panoptic annotation: one JSON, and one PNG per image whose colour is the id.

    Own data need no code: classes come from the JSON's ``categories``. Where the classes are
    given (``METAINFO`` of a subclass or ``metainfo``), they are compared with the JSON's
    categories by id, name and isthing; a category of the JSON that is not among them is an error.

    Items are seeded by (``seed``, epoch, index), see :mod:`mmpanoptic.datasets.seeding`.

    Args:
        ann_file (str): COCO-panoptic JSON. In test mode ``annotations`` may be absent (images of a
            test server).
        data_root (str): Folder in front of ``ann_file``, ``instances_file`` and ``data_prefix``
            where these are relative.
        data_prefix (Mapping | None): Folders ``img`` and ``seg``, in which ``images[].file_name``
            and ``annotations[].file_name`` lie; zip archives, too, such as ``train2017.zip`` or
            ``train.zip/images/``, which are read without unpacking.
        metainfo (Mapping | None): ``classes``, ``dataset_ids``, ``isthing`` and optionally
            ``palette`` and ``name``; or ``classes`` alone, which stand in place of those of the
            class and put the JSON's classes into another order.
        instances_file (str | None): COCO instance JSON of the same images, for masks that
            overlap. Its instances replace those of the panoptic map in ``gt_instances``.
        pipeline (Sequence): Transforms.
        filter_empty_gt (bool): Leave out images without a thing segment (crowds, and boxes of a
            single row or column, do not count), which models of instances alone cannot learn
            from. Not applied in test mode.
        filter_unrelated (bool): Leave out images in which nothing lies in front of anything (see
            ``instances_file``), which relation heads cannot learn from. Not applied in test mode.
        on_error (str): What to do in training with an image or PNG that is missing, broken or of
            the wrong size, and with an image without segments: "stop" with one clear error, or
            "skip", i.e. draw another sample, count and log. Test mode always stops.
        fill_missing (bool): Accept segments without ``iscrowd`` (taken as 0) and without ``area``
            (computed from the PNG when the JSON is read, which takes time).
        use_cache (bool): Read the panoptic PNGs from the run-length cache beside their folder
            (``tools/dataset_converters/cache_panoptic.py`` makes it) where it is up to date, and
            keep the checked records of large annotation files below ``MMPANOPTIC_HOME``.
        seed (int): Seed of the run.
        indices (int | Sequence[int] | None): Keep the first (or, if negative, last) so many
            images, or those at the given places.
        serialize_data (bool): Keep annotations as bytes, which worker processes share.
        test_mode (bool): Evaluate: nothing is filtered or skipped.
        lazy_init (bool): Do not read the annotations yet; call ``full_init`` later.
        max_refetch (int): Samples to try before giving up when some are skipped.

    Raises:
        PanopticFormatError: A ``ValueError`` that lists every problem of the annotation file.
        ConfigError: If a foreign transform would leave the annotation behind.
    """

    METAINFO: dict = {}
    ANN_FILE_HINT = "tools/dataset_converters/own_data.py makes it from label maps or polygons"
    """Where the annotation file comes from, for the message if it is missing."""

    def __init__(
        self,
        ann_file: str,
        *,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        metainfo: Mapping[str, Any] | None = None,
        instances_file: str | None = None,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        filter_empty_gt: bool = False,
        filter_unrelated: bool = False,
        on_error: str = "stop",
        fill_missing: bool = False,
        use_cache: bool = True,
        seed: int = 0,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 100,
    ) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
        prefix = {"img": "", "seg": "", **(data_prefix or {})}
        if set(prefix) != {"img", "seg"}:
            raise ValueError(f"data_prefix has the keys img and seg, got {sorted(prefix)}")
        self.filter_empty_gt = filter_empty_gt
        self.filter_unrelated = filter_unrelated
        self.on_error = on_error
        self.fill_missing = fill_missing
        self.use_cache = use_cache
        self.cache: PanopticCache | None = None
        self.seed = seed
        self.errors: DataErrorCounter | None = None
        self._label_table: LabelTable | None = None
        self.first_position = 0
        """Position of the first image among those of all datasets that are evaluated together."""
        self.num_annotated = 0
        self._is_packed = False
        if instances_file and data_root and not is_abs(instances_file):
            instances_file = join_path(data_root, instances_file)
        self.instances_file = instances_file
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=prefix,
            indices=indices,
            serialize_data=serialize_data,
            test_mode=test_mode,
            lazy_init=True,
            max_refetch=max_refetch,
        )
        # Built here, not by mmengine, so that names are found without a default scope, too.
        self.pipeline = Compose([_build_transform(step) for step in pipeline])
        check_pipeline(self.pipeline.transforms, has_instances=bool(instances_file))
        if not lazy_init:
            self.full_init()

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Merge class and argument; unlike mmengine, never take a value for a file name."""
        return merge_metainfo(cls, metainfo)

    @property
    def label_table(self) -> LabelTable:
        """The classes; read from the annotation file if nothing else tells them."""
        if self._label_table is None:
            table = table_from_metainfo(self._metainfo)
            if table is None:
                content = load_categories(self.ann_file, self.ANN_FILE_HINT)
                table = self._table_of_file(content)
            self._label_table = table
        return self._label_table

    @property
    def metainfo(self) -> dict[str, Any]:
        """The label table as plain values, the dataset's ``name``, and extras of the config."""
        name = self._metainfo.get("name", type(self).__name__)
        return {**copy.deepcopy(self._metainfo), **self.label_table.to_metainfo(), "name": name}

    def load_data_list(self) -> Sequence[dict[str, Any]]:
        """Read and check the annotation file.

        Returns:
            Sequence[dict]: One entry per annotation, in the JSON's order: ``img_id``, ``img_path``,
            ``seg_map_path``, ``png_name`` (of a prediction), ``height``, ``width``,
            ``annotation_index``, ``segments_info``, and ``instances`` if there is an instance file.
        """
        packed = None if self._needs_whole_file() else pack_records(self.ann_file, self.use_cache)
        if packed is not None and self._packed_fits(packed):
            return self._open_packed(packed)
        content = load_json_object(self.ann_file, self.ANN_FILE_HINT)
        self._check_archives()
        annotated = "annotations" in content or not self.test_mode
        self._check_table(content, annotated)
        parsed = PanopticJson(content, self.ann_file, self.label_table, self.fill_missing)
        records = parsed.records() if annotated else parsed.test_records()
        instances = self._load_instances(records)
        for record in records:
            files = (record.pop("img_file"), record.pop("seg_file"))
            record.update(self._paths(*files, record["img_id"]))
            if instances is not None:
                record["instances"] = instances.get(record["img_id"], [])
            if self.fill_missing:
                _fill_areas(record)
        self._check_empty(records)
        self._open_caches(records, annotated)
        return records

    def _needs_whole_file(self) -> bool:
        """Tell whether records depend on other files, or are to be kept as objects."""
        return bool(self.fill_missing or self.instances_file or not self.serialize_data)

    def _packed_fits(self, packed: Packed) -> bool:
        """Settle the label table as :meth:`_check_table` does; tell whether it has all classes."""
        if not packed.categories and table_from_metainfo(self._metainfo) is None:
            return False
        self._check_archives()
        self._check_table(packed.categories, annotated=True)
        return all(map(self.label_table.has_dataset_id, packed.used))

    def _open_packed(self, packed: Packed) -> PackedRecords:
        records = PackedRecords(packed.data, packed.end, self._finish)
        if not packed.segments.all():
            self._check_empty(records.take(np.flatnonzero(packed.segments == 0).tolist()))
        self._open_caches(records, annotated=True)
        return records

    def _finish(self, record: Record) -> dict[str, Any]:
        return {
            "img_id": record.img_id,
            "height": record.height,
            "width": record.width,
            "annotation_index": record.position,
            "segments_info": complete(record, self.label_table),
            **self._paths(record.img_file, record.seg_file, record.img_id),
        }

    def _paths(self, image_file: str, seg_file: str | None, img_id: int | str) -> dict[str, Any]:
        image_path = self.image_file(image_file, img_id)
        return {
            "img_path": join_path(self.data_prefix["img"], image_path),
            "seg_map_path": seg_file and join_path(self.data_prefix["seg"], seg_file),
            # With its folders, so that predictions of equal names stay apart.
            "png_name": f"{posixpath.splitext(seg_file or image_file)[0]}.png",
        }

    def _open_caches(self, records: Sequence[Mapping[str, Any]], annotated: bool) -> None:
        self.num_annotated = len(records)
        if not self.test_mode:
            self._warn_of_one_class(records)
        if self.use_cache and annotated:
            self.cache = open_cache(self.data_prefix["seg"], records)
        if self.on_error == "skip" and not self.test_mode:
            self.errors = DataErrorCounter(len(records))

    def image_file(self, file_name: str, img_id: int | str) -> str:
        """Find an image below the image folder; a hook for datasets with other conventions.

        Args:
            file_name (str): ``images[].file_name``.
            img_id (int | str): ``images[].id``.

        Returns:
            str: Relative path.
        """
        return file_name

    def number_classes(self, table: LabelTable, categories: Any) -> LabelTable:
        """Adapt the given classes to the ids of the JSON; a hook for datasets with several.

        Args:
            table (LabelTable): The classes of the metainfo.
            categories (list[dict]): Of the JSON, unchecked.

        Returns:
            LabelTable: The same classes in the same order.
        """
        return table

    def filter_data(self) -> Sequence[dict[str, Any]]:
        """Leave out what ``filter_empty_gt`` and ``filter_unrelated`` say; not in test mode.

        Returns:
            Sequence[dict]: The remaining entries, in order.
        """
        kept: Sequence[dict[str, Any]] = self.data_list
        if self.filter_empty_gt and not self.test_mode:
            kept = _select(kept, _has_things)
            if not kept:
                raise ValueError(
                    f"filter_empty_gt leaves nothing of {self.ann_file}: no image has a thing "
                    "segment that is not a crowd and larger than a line; look at isthing of the "
                    "categories or switch the filter off"
                )
        if self.filter_unrelated and not self.test_mode:
            kept = _select(kept, _has_relations)
            if not kept:
                raise ValueError(
                    f"filter_unrelated leaves nothing of {self.ann_file}: no instance has a filled "
                    f"field {OVERLAP_FIELD!r}; tools/dataset_converters/coco_relations.py adds it "
                    "to the instances_file"
                )
        return kept

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        packed: Any = self.data_list
        if not isinstance(packed, PackedRecords):
            return super()._serialize_data()
        self.data_list: list[dict[str, Any]] = []
        self._is_packed = True
        return packed.data, packed.end

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the annotation of an image.

        Args:
            idx (int): Position in this dataset.

        Returns:
            dict: See :meth:`load_data_list`; ``sample_idx`` is the position in the annotation
            file, also in a subset of the dataset, behind ``first_position``.
        """
        if self._is_packed:
            stop = self.data_address[idx]
            start = self.data_address[idx - 1] if idx % len(self) else 0
            info = self._finish(decode_record(self.data_bytes[start:stop].data))
        else:
            info = super().get_data_info(idx)
        info["sample_idx"] = self.first_position + info.pop("annotation_index")
        return info

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the contiguous labels in an image (asked for by ``ClassBalancedDataset``).

        Args:
            idx (int): Position in this dataset.
        """
        return sorted({segment["label"] for segment in self.get_data_info(idx)["segments_info"]})

    def image_path(self, sample_idx: int) -> str:
        """Find the image of a sample by its position in the annotation file, for messages.

        Args:
            sample_idx (int): Position in the annotation file.
        """
        # Filters and subsets usually move samples to the front, if at all.
        candidates = (sample_idx, *range(len(self)))
        for position in candidates:
            info = self.get_data_info(min(position, len(self) - 1))
            if info["sample_idx"] == sample_idx:
                return info["img_path"]
        raise IndexError(f"the dataset has no sample {sample_idx} of {self.ann_file}")

    def __getitem__(self, idx: int) -> Any:
        if not self._fully_initialized:
            self.full_init()
        position = idx if idx >= 0 else len(self) + idx
        drawn = getattr(idx, "drawn", position)
        with seed_sample(self.seed, getattr(idx, "epoch", 0), drawn):
            for _ in range(self.max_refetch + 1):
                data = self.prepare_data(position)
                if data is not None:
                    return data
                position = self._rand_another()
        raise RuntimeError(
            f"{self.max_refetch + 1} samples of {self.ann_file} in a row could not be used; look "
            "at the log for the reasons, and check data_root and data_prefix"
        )

    def pipeline_input(self, idx: int) -> dict[str, Any]:
        """Return the annotation of an image with what the pipeline needs to read it.

        Args:
            idx (int): Position in this dataset.

        Returns:
            dict: See :meth:`get_data_info`; ``panoptic_cache`` where there is one.
        """
        info = self.get_data_info(idx)
        if self.cache is not None:
            info["panoptic_cache"] = self.cache
        return info

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on an image.

        Args:
            idx (int): Position in this dataset.

        Returns:
            Any: What the pipeline returns; None if another sample has to be drawn.

        Raises:
            PanopticFormatError: If the sample cannot be loaded and the policy is to stop.
        """
        info = self.pipeline_input(idx)
        sample_idx = info["sample_idx"]
        try:
            if not self.test_mode and not info["segments_info"]:
                raise PanopticFormatError(find_empty([info], self.ann_file))
            data = self.pipeline(info)
        except PanopticFormatError as error:
            if self.errors is None:
                explain_missing_folder(error, self.data_prefix["seg"], self.ANN_FILE_HINT)
                raise
            if self.errors.record(sample_idx, error.kind):
                text = f"skipping sample {sample_idx} of {self.ann_file}: {error.problems[0]}"
                print_log(text, "current", logging.WARNING)
            return None
        if data is None and self.test_mode:
            raise RuntimeError(f"the test pipeline returned nothing for {info['img_path']}")
        return data

    def _check_archives(self) -> None:
        """Open zip archives in front of the worker processes, which take them over."""
        for folder in self.data_prefix.values():
            try:
                open_archive_of(folder)
            except OSError as error:
                raise format_error("missing_file", str(error.strerror), folder) from error

    def _table_of_file(self, content: Mapping[str, Any]) -> LabelTable:
        return table_from_categories(content.get("categories"), self.ann_file, self._metainfo)

    def _check_table(self, content: Mapping[str, Any], annotated: bool) -> None:
        """Settle the label table, and compare a given one with the JSON's categories.

        Files of test images have categories of other tasks, such as COCO's 80 things.
        """
        if table_from_metainfo(self._metainfo) is None:
            self._label_table = self._table_of_file(content)
        elif "categories" in content and annotated:
            self._label_table = self.number_classes(self.label_table, content["categories"])
            unused = check_categories(self.label_table, content["categories"], self.ann_file)
            if unused:
                text = f"{self.ann_file} has no category for: {', '.join(unused)}"
                print_log(text, "current", logging.WARNING)

    def _load_instances(
        self, records: Sequence[Mapping[str, Any]]
    ) -> dict[Any, list[dict[str, Any]]] | None:
        """Read the instance file, if there is one; it must be about the same images."""
        if not self.instances_file:
            return None
        content = load_json_object(self.instances_file)
        instances = read_instances(content, self.instances_file, self.label_table)
        if instances and not any(record["img_id"] in instances for record in records):
            detail = (
                f"no image of {self.ann_file} has instances here: image ids are like "
                f"{records[0]['img_id']!r} there and like {next(iter(instances))!r} here"
            )
            raise PanopticFormatError([FormatProblem("missing_image", detail, self.instances_file)])
        return instances

    def _warn_of_one_class(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Say that a single class leaves the semantic branch nothing to learn."""
        if len(self.label_table) != 1:
            return
        sized = [r for r in records if all("area" in s for s in r["segments_info"])]
        pixels = sum(record["height"] * record["width"] for record in sized)
        labelled = sum(segment["area"] for r in sized for segment in r["segments_info"])
        void = f", and void covers {1 - labelled / pixels:.0%}" if pixels else ""
        text = (
            f"{self.ann_file} has only one class ({self.label_table[0].name}){void}: a semantic "
            "head cannot learn where the class is not, and every pixel becomes part of it. Add a "
            "stuff class for the background"
        )
        print_log(text, "current", logging.WARNING)

    def _check_empty(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Report images without segments at the start instead of after hours of training."""
        if self.test_mode or self.on_error == "skip" or self.filter_empty_gt:
            return
        problems = find_empty(records, self.ann_file)
        if problems:
            raise PanopticFormatError(problems)


def _build_transform(step: Mapping[str, Any] | Callable) -> Callable:
    return TRANSFORMS.build(step) if isinstance(step, Mapping) else step


def _select(
    records: Sequence[dict[str, Any]], wanted: Callable[[Mapping[str, Any]], bool]
) -> Sequence[dict[str, Any]]:
    """Keep some records, packed ones packed."""
    if isinstance(records, PackedRecords):
        return records.take([i for i, record in enumerate(records) if wanted(record)])
    return [record for record in records if wanted(record)]


def _has_relations(record: Mapping[str, Any]) -> bool:
    return any(instance.get(OVERLAP_FIELD) for instance in record.get("instances", ()))


def _has_things(record: Mapping[str, Any]) -> bool:
    return any(
        segment["isthing"]
        and not segment["iscrowd"]
        and ("bbox" not in segment or min(segment["bbox"][2:]) > 1)
        for segment in record["segments_info"]
    )


def _fill_areas(record: Mapping[str, Any]) -> None:
    """Compute missing areas and boxes of an image from its PNG."""
    segments = record["segments_info"]
    if all("area" in segment for segment in segments):
        return
    runs = find_runs(read_panoptic_png(record["seg_map_path"]))
    order = sorted(range(len(segments)), key=lambda position: segments[position]["id"])
    keys = np.array([segments[position]["id"] for position in order])
    areas, boxes = segment_statistics(lookup_sorted(keys, runs.value), runs, len(segments))
    for position, area, box in zip(order, areas.tolist(), boxes.tolist(), strict=True):
        segments[position].setdefault("area", area)
        segments[position].setdefault("bbox", box)
