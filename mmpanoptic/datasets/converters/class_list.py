"""The class list of own data: names, values in the label maps, things and stuff."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmpanoptic.structures import LabelTable
from mmpanoptic.structures.label_table import is_color

HELP = """A class list is YAML or JSON:

  classes:
    - {name: road, value: 1, thing: false}
    - {name: car, value: 7, thing: true, color: [0, 0, 142]}   # colour (RGB) is optional
    - {name: animal, thing: true, labels: [cat, dog], supercategories: [animal]}
  ignore: [0, 255]     # values (label maps) or names (other labels) that are void

value is the number in the label maps and becomes the category_id; other labels need none. They are
matched by name, by one of labels, or (COCO) by the category's supercategory."""

_FIELDS = ("name", "value", "thing", "color", "labels", "supercategories")

IGNORED = -1
"""What :meth:`ClassList.find` returns for a label that is void on purpose."""


@dataclass(frozen=True)
class ClassList:
    """Classes of own data.

    Attributes:
        path (Path): The file.
        table (LabelTable): In the order of the file; ``dataset_id`` is the value in label maps.
        ignore (tuple): Values or names that are void on purpose.
        has_values (bool): Whether every class has a value.
        names (dict[str, int]): Contiguous label by the names that label files use.
        supercategories (dict[str, int]): Contiguous label by supercategory.
    """

    path: Path
    table: LabelTable
    ignore: tuple[Any, ...]
    has_values: bool
    names: dict[str, int]
    supercategories: dict[str, int]

    def find(self, name: str, supercategory: Any = None) -> int | None:
        """Look a label's class up.

        Args:
            name: As in a label file.
            supercategory: Of a COCO category.

        Returns:
            int | None: Contiguous label, :data:`IGNORED`, or None if there is no such class.
        """
        if name in self.names:
            return self.names[name]
        if name in self.ignore:
            return IGNORED
        if isinstance(supercategory, str):
            return self.supercategories.get(supercategory)
        return None

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
        content = yaml.safe_load(path.read_bytes())
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
    names = _index(entries, "labels", path, [label.name for label in table])
    values = [label.dataset_id for label in table if has_values]
    both = [value for value in (*values, *names) if value in ignore]
    if both:
        shown = ", ".join(map(str, both))
        raise ValueError(f"{path}: {shown}: classes and ignored at once")
    supercategories = _index(entries, "supercategories", path)
    return ClassList(path, table, tuple(ignore), has_values, names, supercategories)


def _index(
    entries: list[Any], field: str, path: Path, names: list[str] | None = None
) -> dict[str, int]:
    """Tabulate the contiguous label of every name in a field, after the classes' own names."""
    index = {name: label for label, name in enumerate(names or ())}
    for label, entry in enumerate(entries):
        what = f"{path}: classes[{label}] ({entry['name']})"
        values = entry.get(field, [])
        if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
            raise ValueError(f"{what}: {field} must be a list of names, got {values!r}")
        for value in values:
            if index.setdefault(value, label) != label:
                other = entries[index[value]]["name"]
                raise ValueError(f"{what}: {field} has {value!r}, which is of {other!r} already")
    return index


def _category(entry: Any, position: int, path: Path) -> dict[str, Any]:
    what = f"{path}: classes[{position}]"
    if not isinstance(entry, Mapping):
        raise ValueError(f"{what} must be an object with name, value and thing, got {entry!r}")
    unknown = sorted(map(str, set(entry) - set(_FIELDS)))
    if unknown:
        raise ValueError(f"{what} has unknown fields {unknown}; known: {', '.join(_FIELDS)}")
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
    if not is_color(color):
        raise ValueError(f"{what} ({name}): color must be three numbers 0..255, got {color!r}")
    return {**category, "color": color}
