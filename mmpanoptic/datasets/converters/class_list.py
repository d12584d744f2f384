"""The class list of own data: names, values in the label maps, things and stuff."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmpanoptic.structures import LabelTable

HELP = """A class list is YAML or JSON:

  classes:
    - {name: road, value: 1, thing: false}
    - {name: car, value: 7, thing: true, color: [0, 0, 142]}   # colour (RGB) is optional
  ignore: [0, 255]     # values (label maps) or names (polygons) that are void

value is the number in the label maps and becomes the category_id; polygon files need none."""


@dataclass(frozen=True)
class ClassList:
    """Classes of own data.

    Attributes:
        path (Path): The file.
        table (LabelTable): In the order of the file; ``dataset_id`` is the value in label maps.
        ignore (tuple): Values or names that are void on purpose.
        has_values (bool): Whether every class has a value.
    """

    path: Path
    table: LabelTable
    ignore: tuple[Any, ...]
    has_values: bool

    def lookup(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Tabulate labels by value.

        Args:
            size: Number of possible values, 256 or 65536.

        Returns:
            tuple[np.ndarray, np.ndarray]: int32 contiguous labels ``(size,)``, -1 for void; and
            bool ``(size,)``, true for values that are neither a class nor ignored.
        """
        labels, unknown = np.full(size, -1, np.int32), np.ones(size, bool)
        for label in self.table:
            if 0 <= label.dataset_id < size:
                labels[label.dataset_id] = label.index
        unknown[labels >= 0] = False
        unknown[[value for value in self.ignore if type(value) is int and 0 <= value < size]] = (
            False
        )
        return labels, unknown


def read_class_list(path: Path) -> ClassList:
    """Read a class list; see :data:`HELP`.

    Args:
        path: YAML or JSON.

    Returns:
        ClassList: The classes.

    Raises:
        ValueError: Naming file, class and field of what is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is neither YAML nor JSON: {error}") from error
    if isinstance(content, list):
        content = {"classes": content}
    if not isinstance(content, Mapping) or not isinstance(content.get("classes"), list):
        raise ValueError(f"{path} has no list 'classes'. {HELP}")
    if not content["classes"]:
        raise ValueError(f"{path}: the list 'classes' is empty. {HELP}")
    entries = content["classes"]
    categories = [_category(entry, position, path) for position, entry in enumerate(entries)]
    has_values = all("value" in entry for entry in entries)
    if not has_values and any("value" in entry for entry in entries):
        raise ValueError(f"{path}: either every class has a value or none")
    ignore = content.get("ignore", [])
    if not isinstance(ignore, list) or not all(isinstance(v, int | str) for v in ignore):
        raise ValueError(f"{path}: ignore must be a list of values or names, got {ignore!r}")
    try:
        table = LabelTable.from_categories(categories)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    both = [label.dataset_id for label in table if has_values and label.dataset_id in ignore]
    if both:
        raise ValueError(f"{path}: the values {both} are classes and ignored at once")
    return ClassList(path, table, tuple(ignore), has_values)


def _category(entry: Any, position: int, path: Path) -> dict[str, Any]:
    what = f"{path}: classes[{position}]"
    if not isinstance(entry, Mapping):
        raise ValueError(f"{what} must be an object with name, value and thing, got {entry!r}")
    unknown = sorted(set(entry) - {"name", "value", "thing", "color"})
    if unknown:
        raise ValueError(f"{what} has unknown fields {unknown}; known: name, value, thing, color")
    name, thing, value = entry.get("name"), entry.get("thing"), entry.get("value", position + 1)
    if not isinstance(name, str) or not name:
        raise ValueError(f"{what}: name must be text (quote it), got {name!r}")
    if thing not in (0, 1):
        raise ValueError(f"{what} ({name}): thing must be true or false, got {thing!r}")
    if type(value) is not int or not 0 <= value <= 65535:
        raise ValueError(f"{what} ({name}): value must be 0..65535, got {value!r}")
    category = {"id": value, "name": name, "supercategory": name, "isthing": int(thing)}
    if "color" not in entry:
        return category
    color = entry["color"]
    if (
        not isinstance(color, list)
        or len(color) != 3
        or not all(type(c) is int and 0 <= c <= 255 for c in color)
    ):
        raise ValueError(f"{what} ({name}): color must be three numbers 0..255, got {color!r}")
    return {**category, "color": color}
