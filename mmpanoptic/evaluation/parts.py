"""Evaluation in parts: what some images contribute, as a file; the files add up to the whole.

A part holds what each image contributes, not sums: floating-point sums depend on their order, and
merging adds the images in the order of the ground truth, whatever the split was.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpanoptic.utils import read_json, write_json

from .matching_files import name_some

FORMAT = "mmpanoptic evaluation part 1"
KINDS = ("panoptic", "miou", "coco_ap")
"""What a part may be of: the commands ``eval_panoptic``, ``eval_miou`` and ``eval_coco_ap``."""


@dataclass(frozen=True)
class ImageChoice:
    """Some of the images of a ground truth.

    Attributes:
        text (str): As on the command line.
        number (int): K of ``K/N``, from 1; 0 where the images are listed.
        count (int): N of ``K/N``.
        ids (tuple[str, ...]): Of the listed images.
    """

    text: str
    number: int = 0
    count: int = 0
    ids: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ImageChoice:
        """Read ``K/N``, the K-th of N stretches of equal length, or the name of a file of ids.

        Args:
            text (str): ``2/8``, or a text file with one image id per line.

        Raises:
            ValueError: If it is neither.
        """
        number, slash, count = text.partition("/")
        if slash and number.isdecimal() and count.isdecimal():
            if not 1 <= int(number) <= int(count):
                raise ValueError(f"part {text}: K/N needs 1 <= K <= N")
            return cls(text, int(number), int(count))
        if not Path(text).is_file():
            raise ValueError(
                f"part {text}: give K/N, such as 2/8, or a text file with one image id per line"
            )
        lines = Path(text).read_text(encoding="utf-8-sig").splitlines()
        ids = tuple(line.strip() for line in lines if line.strip())
        twice = [key for key, count in Counter(ids).items() if count > 1]
        if not ids or twice:
            problem = f"lists {', '.join(twice[:5])} twice" if twice else "names no image"
            raise ValueError(f"{text} {problem}; it needs one image id per line")
        return cls(text, ids=ids)

    def positions(self, image_ids: Sequence[Any]) -> list[int]:
        """Choose.

        Args:
            image_ids (Sequence): Of all images, in the order of the ground truth.

        Returns:
            list[int]: Ascending positions of the chosen images.

        Raises:
            ValueError: If a listed image is not there.
        """
        total = len(image_ids)
        if self.count:
            start, stop = ((self.number - 1 + i) * total // self.count for i in (0, 1))
            return list(range(start, stop))
        wanted = set(self.ids)
        found = [i for i, image_id in enumerate(image_ids) if str(image_id) in wanted]
        lacking = wanted - {str(image_ids[i]) for i in found}
        if lacking:
            raise ValueError(
                f"{self.text} lists {name_some(sorted(lacking))}, which the ground truth lacks"
            )
        return found


@dataclass(frozen=True)
class EvaluationPart:
    """What some images contribute to an evaluation.

    Attributes:
        kind (str): One of :data:`KINDS`.
        whole (dict): What parts of one evaluation have in common: fingerprint of the ground truth,
            classes, settings.
        total (int): Images of the whole ground truth.
        images (list[tuple[int, Any]]): Position in the ground truth and name of each image.
        content (Any): What they contribute; plain values for JSON.
    """

    kind: str
    whole: dict[str, Any]
    total: int
    images: list[tuple[int, Any]]
    content: Any

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the part, atomically."""
        write_json(path, {"format": FORMAT, **vars(self)})


def fingerprint(content: bytes | Iterable[str]) -> str:
    """Compute the SHA-256 of a file's bytes, or of names in order."""
    data = content if isinstance(content, bytes) else "\0".join(content).encode()
    return hashlib.sha256(data).hexdigest()


def read_part(path: str | os.PathLike[str]) -> EvaluationPart:
    """Read a file of :meth:`EvaluationPart.write`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no part of an evaluation; eval_panoptic, eval_miou and eval_coco_ap write "
            "them with --save-part"
        )
    lacking = [name for name in EvaluationPart.__dataclass_fields__ if name not in content]
    if lacking or content["kind"] not in KINDS:
        wrong = f"lacks {', '.join(lacking)}" if lacking else f"is of kind {content['kind']!r}"
        raise ValueError(f"{path} {wrong}; make the part again")
    images = [(position, name) for position, name in content["images"]]
    return EvaluationPart(
        content["kind"], content["whole"], content["total"], images, content["content"]
    )


def check_parts(
    parts: Mapping[str, EvaluationPart], incomplete: bool = False
) -> list[EvaluationPart]:
    """Check that parts are of one evaluation, and together the whole.

    Args:
        parts (Mapping[str, EvaluationPart]): By file.
        incomplete (bool): Images may be absent.

    Returns:
        list[EvaluationPart]: The parts.

    Raises:
        ValueError: Naming the files that differ, an image that is in two of them, or the images
            that are in none.
    """
    (first_file, first), *others = parts.items()
    for file, part in others:
        for name in ("kind", "total"):
            if getattr(part, name) != getattr(first, name):
                raise ValueError(
                    f"{file} is no part of the same evaluation as {first_file}: {name} "
                    f"{getattr(part, name)!r}, there {getattr(first, name)!r}"
                )
        differing = [key for key in first.whole if part.whole.get(key) != first.whole[key]]
        if differing:
            raise ValueError(
                f"{file} is no part of the same evaluation as {first_file}: they differ in "
                f"{', '.join(differing)}"
            )
    seen: dict[int, str] = {}
    for file, part in parts.items():
        for position, name in part.images:
            if position in seen:
                raise ValueError(
                    f"image {name!r} is in {seen[position]} and in {file}; it would count twice"
                )
            seen[position] = file
    absent = first.total - len(seen)
    if absent and not incomplete:
        places = [str(i + 1) for i in range(first.total) if i not in seen]
        raise ValueError(
            f"{absent} of {first.total} images are in no part, by their place in the ground "
            f"truth: {name_some(places)}; give the other parts, or take --incomplete"
        )
    return list(parts.values())


def in_order(
    parts: Sequence[EvaluationPart], rows: Callable[[EvaluationPart], Sequence[Any]]
) -> list[tuple[int, Any]]:
    """Bring the rows of all images into the order of the ground truth.

    Args:
        parts (Sequence[EvaluationPart]): From :func:`check_parts`.
        rows (Callable): Gives the rows of a part, one per image.

    Returns:
        list[tuple[int, Any]]: Position and row.
    """
    joined = [
        (position, row)
        for part in parts
        for (position, _), row in zip(part.images, rows(part), strict=True)
    ]
    return sorted(joined, key=lambda pair: pair[0])


def first_seen(parts: Sequence[EvaluationPart], key: str) -> list[Hashable]:
    """Order what several parts met, by the image that shows it first.

    Args:
        parts (Sequence[EvaluationPart]): Parts whose content has ``key``: pairs of a value and the
            position of its first image.
        key (str): Of the content.
    """
    found: dict[Any, int] = {}
    for part in sorted(parts, key=lambda part: min((i for i, _ in part.images), default=0)):
        for value, position in part.content[key]:
            found[value] = min(position, found.get(value, position))
    return sorted(found, key=lambda value: found[value])
