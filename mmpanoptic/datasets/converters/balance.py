"""The balance of a conversion: what came in, what is kept, what became of the rest.

Every converter that can lose something counts it here; nothing vanishes without a line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FATES = {
    "kept": "kept",
    "crowd": "kept as crowd",
    "covered": "covered wholly by others",
    "tiny": "below one pixel",
    "outside": "outside the image",
    "ignored": "class ignored",
    "no_crowd": "crowd, left out",
    "no_class": "on no pixel of a thing class",
}
"""What becomes of an annotation, in the order of the table."""

LOST = ("covered", "tiny", "outside", "no_class")
"""Fates that nobody asked for."""

GROUPS = ("things", "stuff", "others")
MAX_LOSS = 0.01
"""A greater share of lost annotations is a warning."""

_EXAMPLES = 3


@dataclass
class Balance:
    """Counts over a set of images.

    Attributes:
        images (int): Images that came in.
        fates (Counter): By (group, fate); groups are :data:`GROUPS`, fates :data:`FATES`.
        examples (dict): First names by (group, fate), except of what is kept.
        empty (list[str]): Images without a segment.
        void (dict): Pixels and images that became void by reason.
        notes (Counter): Images by oddity.
        crowd_only (list[str]): Thing classes all of whose annotations are crowd.
    """

    images: int = 0
    fates: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    void: dict[str, list[int]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    crowd_only: list[str] = field(default_factory=list)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add the balance of one image; see :func:`image_balance`."""
        self.images += 1
        for text, count in entry.get("fates", {}).items():
            group, fate = text.split()
            self.fates[group, fate] += count
        for text, names in entry.get("examples", {}).items():
            known = self.examples.setdefault(tuple(text.split()), [])
            known += names[: _EXAMPLES - len(known)]
        for reason, pixels in entry.get("void", {}).items():
            total = self.void.setdefault(reason, [0, 0])
            total[0] += pixels
            total[1] += 1
        self.notes.update(entry.get("notes", ()))

    def count(self, group: str) -> int:
        """Count the annotations of a group that came in."""
        return sum(self.fates[group, fate] for fate in FATES)

    def lost(self, group: str) -> int:
        """Count the annotations of a group that are lost though nobody asked for it."""
        return sum(self.fates[group, fate] for fate in LOST)

    def lines(self) -> list[str]:
        """Write the balance as text: a table, the first examples, notes and warnings."""
        images = f"  images: {self.images} in, {self.images - len(self.empty)} out"
        if self.empty:
            images += f", {len(self.empty)} without a segment left out ({_first(self.empty)})"
        lines = [images, *(self._table() if self.fates else ())]
        for (group, fate), names in self.examples.items():
            shown = _first(names, self.fates[group, fate])
            lines.append(f"  {group}, {FATES[fate]}: {shown}")
        for reason, (pixels, images_of) in self.void.items():
            where = "1 image" if images_of == 1 else f"{images_of} images"
            lines.append(f"  note: {reason}; {pixels} pixels in {where} are void")
        for text, count in self.notes.items():
            lines.append(f"  note: {text}, in {'1 image' if count == 1 else f'{count} images'}")
        return lines + [f"  warning: {text}" for text in self.warnings()]

    def _table(self) -> list[str]:
        groups = [group for group in GROUPS if group != "others" or self.count(group)]
        rows = [("in", [self.count(group) for group in groups])]
        rows += [(words, [self.fates[g, fate] for g in groups]) for fate, words in FATES.items()]
        lines = [f"  {'':<30}" + "".join(f"{group:>9}" for group in groups)]
        return lines + [f"  {words:<30}" + "".join(f"{n:>9}" for n in row) for words, row in rows]

    def warnings(self) -> list[str]:
        """Say what is likely to be wrong with the whole conversion."""
        texts = []
        if self.images and len(self.empty) == self.images:
            texts.append("no image has a segment; check.py and training refuse such a set")
        for group in GROUPS:
            total, lost = self.count(group), self.lost(group)
            if total and lost > MAX_LOSS * total:
                texts.append(
                    f"{lost} of {total} {group} ({100 * lost / total:.1f} %) are lost; the lines "
                    "above say how and name the first ones"
                )
        for name in self.crowd_only:
            texts.append(
                f"all annotations of the thing class {name} are crowd, so no instance of it is "
                "left to learn; if they are instances (CVAT writes masks of its brush as "
                "crowds), convert with --crowds instances"
            )
        return texts


def _first(names: Sequence[str], count: int = 0) -> str:
    count = max(count, len(names))
    shown = ", ".join(names[:_EXAMPLES])
    return f"{shown}, ..." if shown and count > _EXAMPLES else shown


def image_balance(
    fates: Iterable[tuple[str, str, str]],
    image: str,
    void: Mapping[str, int] | None = None,
    notes: Iterable[str] = (),
) -> dict[str, Any]:
    """Write the balance of one image as plain values, which a record keeps.

    Args:
        fates: Group, fate and name of every annotation.
        image: Name of the image, for the examples.
        void: Pixels that became void by reason.
        notes: Oddities.

    Returns:
        dict: For :meth:`Balance.add`.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for group, fate, name in fates:
        key = f"{group} {fate}"
        counts[key] += 1
        if fate not in ("kept", "crowd") and counts[key] <= _EXAMPLES:
            examples.setdefault(key, []).append(f"{name} of {image}")
    content: dict[str, Any] = {"fates": dict(counts)} if counts else {}
    if examples:
        content["examples"] = examples
    if void:
        content["void"] = dict(void)
    if notes:
        content["notes"] = list(dict.fromkeys(notes))
    return content


def crowd_only_classes(content: Mapping[str, Any]) -> list[str]:
    """List the thing classes of a panoptic JSON that have segments, but crowds alone."""
    single: set[int] = set()
    crowd: set[int] = set()
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            (crowd if segment["iscrowd"] else single).add(segment["category_id"])
    return [
        category["name"]
        for category in content["categories"]
        if category["isthing"] and category["id"] in crowd - single
    ]
