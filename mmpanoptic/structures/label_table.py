"""One table of labels per dataset; every conversion of class numbers goes through it."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

IGNORE_LABEL = 255
"""Semantic label of void pixels."""


@dataclass(frozen=True)
class Label:
    """One class of a dataset.

    Attributes:
        index (int): Contiguous label that models use, 0-based.
        name (str): Class name.
        dataset_id (int): ``category_id`` in the dataset's JSON; may be sparse or start at 0.
        isthing (bool): Countable (thing) or not (stuff).
        color (tuple[int, int, int]): RGB, for drawing only.
    """

    index: int
    name: str
    dataset_id: int
    isthing: bool
    color: tuple[int, int, int]


class LabelTable(Sequence[Label]):
    """The classes of a dataset in contiguous order.

    Things need not come first, ids need not be sorted: nothing may be read off a position
    except through this table.

    Args:
        labels (Sequence[Label]): In contiguous order.

    Raises:
        ValueError: If indices are not 0..N-1, or names or dataset ids repeat.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.labels = tuple(labels)
        if [label.index for label in self.labels] != list(range(len(self.labels))):
            raise ValueError("labels must be numbered 0..N-1 in order")
        for field in ("dataset_id", "name"):
            values = [getattr(label, field) for label in self.labels]
            double = sorted({str(v) for v in values if values.count(v) > 1})
            if double:
                raise ValueError(f"categories repeat the {field} {', '.join(double)}")
        self._by_id = {label.dataset_id: label for label in self.labels}
        self._by_name = {label.name: label for label in self.labels}

    @classmethod
    def from_categories(cls, categories: Sequence[Mapping[str, Any]]) -> LabelTable:
        """Build the table from the ``categories`` of a COCO-panoptic JSON, in their order.

        Args:
            categories (Sequence[Mapping]): Each with ``id``, ``name``, ``isthing`` and
                optionally ``color`` (RGB); missing colours are chosen.

        Returns:
            LabelTable: Contiguous label = position in ``categories``.

        Raises:
            ValueError: If a field is missing or wrong; the message names the category.
        """
        labels = []
        for index, category in enumerate(categories):
            missing = [key for key in ("id", "name", "isthing") if key not in category]
            if missing:
                raise ValueError(
                    f"categories[{index}] ({dict(category)}) lacks {', '.join(missing)}; every "
                    "category needs id (int), name and isthing (1 for things, 0 for stuff)"
                )
            wrong = find_category_problem(category)
            if wrong is not None:
                name = category["name"]
                raise ValueError(f"categories[{index}] ({name}): {wrong[0]} {wrong[1]}")
            red, green, blue = category.get("color") or distinct_color(index)
            labels.append(
                Label(
                    index,
                    category["name"],
                    category["id"],
                    bool(category["isthing"]),
                    (int(red), int(green), int(blue)),
                )
            )
        return cls(labels)

    @classmethod
    def from_metainfo(cls, metainfo: Mapping[str, Any]) -> LabelTable:
        """Build the table from a dataset's ``metainfo``; the inverse of :meth:`to_metainfo`.

        Args:
            metainfo (Mapping): ``classes``, ``dataset_ids``, ``isthing`` and ``palette``, each
                with one entry per contiguous label; ``palette`` may be left out.

        Returns:
            LabelTable: The same classes.

        Raises:
            ValueError: If a field is missing or lengths differ.
        """
        missing = [key for key in ("classes", "dataset_ids", "isthing") if key not in metainfo]
        if missing:
            raise ValueError(
                f"metainfo lacks {', '.join(missing)}; it needs classes, dataset_ids and isthing, "
                "one entry per contiguous label (palette is optional)"
            )
        names, ids, things = (metainfo[key] for key in ("classes", "dataset_ids", "isthing"))
        palette = metainfo.get("palette") or [distinct_color(i) for i in range(len(names))]
        lengths = {
            "classes": len(names),
            "dataset_ids": len(ids),
            "isthing": len(things),
            "palette": len(palette),
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(f"metainfo fields differ in length: {lengths}")
        return cls.from_categories(
            [
                {"id": int(i), "name": name, "isthing": int(thing), "color": color}
                for i, name, thing, color in zip(ids, names, things, palette, strict=True)
            ]
        )

    def to_metainfo(self) -> dict[str, Any]:
        """Return the table as plain ``metainfo`` (lists and tuples, safe to store)."""
        return {
            "classes": tuple(label.name for label in self),
            "dataset_ids": [label.dataset_id for label in self],
            "isthing": [int(label.isthing) for label in self],
            "palette": [label.color for label in self],
            "thing_classes": tuple(label.name for label in self if label.isthing),
            "stuff_classes": tuple(label.name for label in self if not label.isthing),
        }

    def to_categories(self) -> list[dict[str, Any]]:
        """Return the table as the ``categories`` of a COCO-panoptic JSON."""
        return [
            {
                "id": label.dataset_id,
                "name": label.name,
                "supercategory": label.name,
                "isthing": int(label.isthing),
                "color": list(label.color),
            }
            for label in self
        ]

    def __getitem__(self, index: Any) -> Any:
        return self.labels[index]

    def __len__(self) -> int:
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelTable) and self.labels == other.labels

    def __hash__(self) -> int:
        return hash(self.labels)

    def __repr__(self) -> str:
        return f"LabelTable({self.num_things} things, {self.num_stuff} stuff)"

    def by_dataset_id(self, dataset_id: int) -> Label:
        """Look a class up by its ``category_id``.

        Raises:
            KeyError: If the table has no such id.
        """
        try:
            return self._by_id[dataset_id]
        except KeyError:
            known = ", ".join(map(str, sorted(self._by_id)))
            raise KeyError(f"unknown category_id {dataset_id!r}; known: {known}") from None

    def by_name(self, name: str) -> Label:
        """Look a class up by its name.

        Raises:
            KeyError: If the table has no such name.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise KeyError(f"unknown class {name!r}; known: {', '.join(self._by_name)}") from None

    def has_dataset_id(self, dataset_id: object) -> bool:
        """Tell whether ``dataset_id`` is one of the table's ids (an int, not its text)."""
        return type(dataset_id) is int and dataset_id in self._by_id

    def difference(self, other: LabelTable) -> str:
        """Say which classes differ in name or isthing; ids and order do not count.

        Args:
            other (LabelTable): Another table.

        Returns:
            str: Empty if there is no difference.
        """
        own, others = ({label.name: label.isthing for label in table} for table in (self, other))
        kinds = {
            "only here": [name for name in own if name not in others],
            "only there": [name for name in others if name not in own],
            "thing in one and stuff in the other": [
                name for name in own if name in others and own[name] != others[name]
            ],
        }
        shown = (
            f"{kind}: {', '.join(names[:5])}" + (f" and {len(names) - 5} more" * (len(names) > 5))
            for kind, names in kinds.items()
            if names
        )
        return "; ".join(shown)

    def is_ordered_as(self, other: LabelTable) -> bool:
        """Tell whether both tables have the same names in the same order."""
        return [label.name for label in self] == [label.name for label in other]

    def ordered_as(self, other: LabelTable) -> LabelTable:
        """Put the classes into the order that another table of the same classes has.

        Args:
            other (LabelTable): See :meth:`difference`.

        Returns:
            LabelTable: Ids and colours of this table.

        Raises:
            KeyError: If a class of ``other`` is not in this table.
        """
        return LabelTable([replace(self.by_name(it.name), index=it.index) for it in other])

    @property
    def num_things(self) -> int:
        """Number of thing classes."""
        return sum(label.isthing for label in self)

    @property
    def num_stuff(self) -> int:
        """Number of stuff classes."""
        return len(self) - self.num_things

    @property
    def thing_labels(self) -> list[int]:
        """Contiguous labels of the things, ascending."""
        return [label.index for label in self if label.isthing]

    @property
    def stuff_labels(self) -> list[int]:
        """Contiguous labels of the stuff classes, ascending."""
        return [label.index for label in self if not label.isthing]

    @property
    def isthing(self) -> np.ndarray:
        """Bool ``(N,)``, by contiguous label."""
        return np.array([label.isthing for label in self], bool)

    @property
    def dataset_ids(self) -> np.ndarray:
        """int64 ``(N,)``, ``category_id`` by contiguous label."""
        return np.array([label.dataset_id for label in self], np.int64)

    @property
    def palette(self) -> np.ndarray:
        """uint8 ``(N, 3)`` RGB, by contiguous label."""
        return np.array([label.color for label in self], np.uint8).reshape(-1, 3)


def find_category_problem(category: Mapping[str, Any]) -> tuple[str, str] | None:
    """Check the values of a category that has id, name and isthing.

    Args:
        category (Mapping): Entry of ``categories``.

    Returns:
        tuple[str, str] | None: The first wrong field, and what it should hold and holds.
    """
    number, color = category["id"], category.get("color")
    if type(number) is not int:
        return "id", f"must be an integer (whole number), got {number!r}"
    if not isinstance(category["name"], str) or not category["name"]:
        return "name", f"must be text, got {category['name']!r}"
    if category["isthing"] not in (0, 1):
        return "isthing", f"must be 0 or 1, got {category['isthing']!r}"
    if color is None or is_color(color):
        return None
    return "color", f"must be three whole numbers 0..255 (RGB), got {color!r}"


def is_color(value: Any) -> bool:
    """Tell whether a value is an RGB colour: three whole numbers from 0 to 255."""
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != 3:
        return False
    return all(
        isinstance(part, int | np.integer) and not isinstance(part, bool) and 0 <= part <= 255
        for part in value
    )


def distinct_color(index: int) -> tuple[int, int, int]:
    """Choose the ``index``-th of an endless row of well separated RGB colours."""
    golden_ratio = 0.618033988749895
    hue = (0.11 + index * golden_ratio) % 1.0
    saturation = (0.85, 0.6, 0.7)[index % 3]
    value = (0.95, 0.8, 0.65)[(index // 3) % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
