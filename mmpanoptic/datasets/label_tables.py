"""Finding the label table of a dataset, with or without building it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.fileio import join_path
from mmengine.utils import is_abs

from mmpanoptic.registry import DATASETS
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.format_errors import FormatProblem, PanopticFormatError

from .packed_records import load_categories
from .panoptic_json import read_categories
from .shard_store import fetch_annotations, is_address

_PER_CLASS = ("dataset_ids", "isthing", "palette", "thing_classes", "stuff_classes")


def merge_metainfo(cls: Any, metainfo: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge the metainfo of a dataset's class with that of the config.

    Args:
        cls (type): The class, whose ``METAINFO`` counts.
        metainfo (Mapping | None): Of the config. ``classes`` alone stand in place of those of the
            class: ids and isthing then come from the annotation file.

    Returns:
        dict: A copy.
    """
    own = copy.deepcopy(dict(getattr(cls, "METAINFO", {})))
    given = copy.deepcopy(dict(metainfo or {}))
    if "classes" in given and not {"dataset_ids", "isthing"} <= given.keys():
        own = {name: value for name, value in own.items() if name not in _PER_CLASS}
    return {**own, **given}


def table_from_metainfo(metainfo: Mapping[str, Any]) -> LabelTable | None:
    """Build the table from metainfo alone.

    Args:
        metainfo (Mapping): The dataset's merged metainfo.

    Returns:
        LabelTable | None: None if the annotation file has to be asked, because ``dataset_ids``
        or ``isthing`` are left out.
    """
    if "classes" in metainfo and "dataset_ids" in metainfo and "isthing" in metainfo:
        return LabelTable.from_metainfo(metainfo)
    return None


def table_from_categories(categories: Any, file: str, metainfo: Mapping[str, Any]) -> LabelTable:
    """Build the table from the categories of the annotation file.

    Args:
        categories (list[dict]): From the JSON.
        file (str): The JSON's path, for messages.
        metainfo (Mapping): May name the ``classes`` in another order; nothing else is read.

    Returns:
        LabelTable: In the order of ``classes``, else in that of the JSON.

    Raises:
        PanopticFormatError: If a category is wrong, or ``classes`` are not the JSON's names.
    """
    table = read_categories(categories, file, drop_colors=True)
    if "classes" not in metainfo:
        return table
    wanted = list(metainfo["classes"])
    names = [label.name for label in table]
    if sorted(wanted) != sorted(names):
        unknown = [name for name in wanted if name not in names]
        left_out = [name for name in names if name not in wanted]
        detail = (
            "metainfo['classes'] and the JSON's categories differ: not in the JSON: "
            f"{unknown or 'none'}; not in the metainfo: {left_out or 'none'}"
        )
        raise PanopticFormatError([FormatProblem("category_mismatch", detail, file)])
    entries = {entry["name"]: entry for entry in table.to_categories()}
    return LabelTable.from_categories([entries[name] for name in wanted])


def annotation_file(dataset_cfg: Mapping[str, Any]) -> str | None:
    """Return where the annotation file of a dataset config is; that of a server is fetched.

    Args:
        dataset_cfg (Mapping): With ``ann_file`` and perhaps ``data_root``.

    Returns:
        str | None: Its path; None if the config names none.
    """
    file, root = dataset_cfg.get("ann_file"), dataset_cfg.get("data_root")
    if not file or is_abs(file) or not root:
        return file or None
    if is_address(root):
        return str(fetch_annotations(root, dataset_cfg.get("cache_dir"), file))
    return join_path(root, file)


def read_label_table(dataset_cfg: Mapping[str, Any]) -> LabelTable:
    """Read the label table of a dataset config without building the dataset.

    Args:
        dataset_cfg (Mapping): Config of a :class:`PanopticDataset` (or a subclass), or of a
            wrapper (``RepeatDataset``, ``ConcatDataset``, ``ClassBalancedDataset``) around one.

    Returns:
        LabelTable: From its metainfo, else from the categories of its ``ann_file``.

    Raises:
        ValueError: If the config names no classes: neither metainfo nor an annotation file.
    """
    inner = dataset_cfg.get("dataset") or dataset_cfg.get("datasets")
    if inner:
        return read_label_table(inner[0] if isinstance(inner, list | tuple) else inner)
    kind = dataset_cfg.get("type")
    cls: Any = DATASETS.get(kind) if isinstance(kind, str) else kind
    if hasattr(cls, "read_table"):
        return cls.read_table(dataset_cfg)
    metainfo = merge_metainfo(cls, dataset_cfg.get("metainfo"))
    table = table_from_metainfo(metainfo)
    if table is not None:
        return table
    path = annotation_file(dataset_cfg)
    if path is None:
        raise ValueError(
            f"the dataset config of type {kind!r} tells no classes: give it metainfo with classes, "
            "dataset_ids and isthing, or an ann_file whose categories can be read"
        )
    content = load_categories(path, getattr(cls, "ANN_FILE_HINT", ""))
    return table_from_categories(content.get("categories"), path, metainfo)
