"""IDD, the Indian Driving Dataset, to COCO panoptic at level 3 of its hierarchy of classes.

Assumed after the public code of AutoNUE; no file of the set was seen::

    ROOT/leftImg8bit/{train,val}/DRIVE/IMAGE_leftImg8bit.png    or .jpg (part II)
    ROOT/gtFine/{train,val}/DRIVE/IMAGE_gtFine_polygons.json    later polygons lie on top
    ROOT/gtFine/{train,val}/DRIVE/IMAGE_gtFine_instancelevel3Ids.png    made by that code

A value of the last file is the class, or ``class * 1000 + number`` of an instance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mmpanoptic.utils.coco_file import load_json_object
from mmpanoptic.utils.format_errors import format_error
from mmpanoptic.utils.label_png import read_label_png

from .balance import image_balance
from .incremental import Job, PanopticFormat, Record, Summary, convert_to_json
from .maps import describe_segments
from .painting import raise_listed, write_record
from .polygon_file import Points, PolygonFile, count_problem
from .resized_pairs import Size, check_same_size, resize_ids, write_resized_image

SPLITS = ("train", "val")
VOID = 255
FACTOR = 1000
_POLYGONS, _LABEL_MAP = "_gtFine_polygons.json", "_gtFine_instancelevel3Ids.png"

# level3Id, thing or stuff, RGB, and the labels of the class, the first of which names it. Those
# with a star are left out of the published evaluation.
_CLASSES = """
0 stuff 804080 road
1 stuff faaaa0 parking, drivable fallback
2 stuff f423e8 sidewalk
3 stuff e6968c rail track, non-drivable fallback
4 thing dc143c person, animal*
5 thing ff0000 rider
6 thing 0000e6 motorcycle
7 thing 770b20 bicycle
8 thing ffcc36 autorickshaw
9 thing 00008e car
10 thing 000046 truck
11 thing 003c64 bus
12 thing 888f99 vehicle fallback, caravan*, trailer*, train*
13 stuff dcbe28 curb
14 stuff 66669c wall
15 stuff be9999 fence
16 stuff b4a5b4 guard rail
17 stuff ae4043 billboard
18 stuff dcdc00 traffic sign
19 stuff faaa1e traffic light
20 stuff 999999 pole, polegroup
21 stuff a9bbd6 obs-str-bar-fallback
22 stuff 464646 building
23 stuff 966464 bridge, tunnel
24 stuff 6b8e23 vegetation
25 stuff 4682b4 sky, fallback background
"""
_VOID_LABELS = ("unlabeled", "ego vehicle", "rectification border", "out of roi", "license plate")


class IddLabel(NamedTuple):
    """A label of the polygons.

    Attributes:
        level3_id (int): Class, or 255 for void.
        isthing (bool): Whether it has instances.
        ignored (bool): Whether the published evaluation leaves it out.
    """

    level3_id: int
    isthing: bool = False
    ignored: bool = False


def _read_classes() -> tuple[list[dict[str, Any]], dict[str, IddLabel]]:
    categories, labels = [], {name: IddLabel(VOID) for name in _VOID_LABELS}
    for line in _CLASSES.strip().splitlines():
        number, kind, color, names = line.split(maxsplit=3)
        isthing = kind == "thing"
        for name in names.split(", "):
            labels[name.rstrip("*")] = IddLabel(int(number), isthing, name.endswith("*"))
        rgb = [int(color[i : i + 2], 16) for i in (0, 2, 4)]
        category = {"id": int(number), "name": names.split(",")[0], "isthing": int(isthing)}
        categories.append({**category, "color": rgb})
    return categories, labels


CATEGORIES, LABELS = _read_classes()
_THINGS = {category["id"] for category in CATEGORIES if category["isthing"]}


class IddSettings(NamedTuple):
    """How an annotation is made.

    Attributes:
        size (tuple[int, int] | None): Height and width of image and annotation; None keeps them.
        label_maps (bool): Read the published code's label maps, not the polygons.
        drop_ignored (bool): Make void what the published evaluation leaves out: animals, caravans,
            trailers, trains. The published label maps count them as person or vehicle fallback.
    """

    size: Size | None = None
    label_maps: bool = False
    drop_ignored: bool = False


def convert_idd(
    root: Path, split: str, out: Path, settings: IddSettings, nproc: int = 1
) -> Summary:
    """Write ``<split>_panoptic.json`` and its PNGs, and with a size the images, too.

    Names and ids are those of the published code, so that its files and ours are about the same
    images. Segment ids are the values of the label map, plus 1: class 0 is road, and id 0 void.

    Differences from the original (AutoNUE's public code): instances are numbered per class, not
    per label, so that an animal and a person cannot become one segment; the size is kept unless
    ``settings.size`` is given, and then image and annotation change alike, by nearest neighbour.

    Args:
        root: Folder of the dataset.
        split: ``train`` or ``val``.
        out: Receives ``<split>_panoptic/`` and its JSON, and resized images in ``images/<split>/``.
        settings: How.
        nproc: Number of processes.

    Returns:
        Summary: What was done.

    Raises:
        PanopticFormatError: If an image is missing, sizes differ, or a label is unknown.
        ValueError: If the split has no annotation.
    """
    suffix = _LABEL_MAP if settings.label_maps else _POLYGONS
    sources = sorted((root / "gtFine" / split).glob(f"*/*{suffix}"))
    if not sources:
        other = "leave out --label-maps" if settings.label_maps else "or use --label-maps"
        raise ValueError(
            f"{root / 'gtFine' / split}/<drive>/ holds no *{suffix}; unpack the annotation there, "
            f"{other}"
        )
    images = _find_images(root, split, [path.name[: -len(suffix)] for path in sources], sources)
    target = out / f"{split}_panoptic"
    jobs = []
    for source, image in zip(sources, images, strict=True):
        key = f"{source.parent.name}_{source.name[: -len(suffix)]}{_LABEL_MAP}"
        copy = out / "images" / split / image.parent.name / f"{image.stem}.png"
        outputs = (target / key, *((copy,) if settings.size else ()))
        jobs.append(Job(key, (source, image), outputs, settings))
    info = {"description": "IDD panoptic", "converter": "mmpanoptic", "version": 1}
    form = PanopticFormat(CATEGORIES)
    path = out / f"{split}_panoptic.json"
    return convert_to_json(_convert, jobs, path, form, info | settings._asdict(), nproc)


def _find_images(root: Path, split: str, stems: list[str], sources: list[Path]) -> list[Path]:
    """Find the images of annotations, in part I (.png) and part II (.jpg) of the set."""
    found, missing = [], []
    for stem, source in zip(stems, sources, strict=True):
        folder = root / "leftImg8bit" / split / source.parent.name
        candidates = [folder / f"{stem}_leftImg8bit{kind}" for kind in (".png", ".jpg")]
        there = [path for path in candidates if path.is_file()]
        found += there[:1]
        missing += [] if there else candidates[:1]
    raise_listed("missing_file", "an annotation has no image of this name (or .jpg)", missing)
    return found


def _convert(job: Job) -> Record:
    source, image = job.sources
    settings: IddSettings = job.data
    notes: list[str] = []
    if settings.label_maps:
        values = read_label_png(source).astype(np.int32)
    else:
        content = load_json_object(source)
        values = draw_values(content, source, settings.drop_ignored, notes)
    if settings.size:
        values = resize_ids(values, settings.size)
        write_resized_image(image, job.outputs[1], settings.size)
    else:
        check_same_size(image, values, source)
    ids, segments = describe_values(values, source)
    height, width = ids.shape
    name = job.outputs[1].name if settings.size else image.name
    file_name = f"{image.parent.name}/{name}"
    entry = {"id": job.key, "file_name": file_name, "height": height, "width": width}
    balance = image_balance((), file_name, notes=notes)
    return write_record(job, entry, ids, segments, balance=balance)


def describe_values(values: np.ndarray, path: Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Describe the segments of a label map.

    Args:
        values (np.ndarray): Integer ``(H, W)``: class, ``class * 1000 + number``, or 255 for void.
        path: Named in messages.

    Returns:
        tuple[np.ndarray, list[dict]]: int32 ids ``(H, W)``, each a value plus 1, 0 for void; and
        ``segments_info``, where a thing class without a number is a crowd.

    Raises:
        PanopticFormatError: If a value names no class, or numbers instances of stuff.
    """
    ids = np.where(values == VOID, 0, values + 1).astype(np.int32)
    segments = []
    for segment in describe_segments(ids):
        value = segment["id"] - 1
        number = value if value < FACTOR else value // FACTOR
        if number >= len(CATEGORIES) or (value >= FACTOR and number not in _THINGS):
            detail = f"the value {value} is no class of level 3 and no instance of a thing"
            raise format_error("unknown_category", detail, path)
        crowd = int(value < FACTOR and number in _THINGS)
        segments.append({"id": segment["id"], "category_id": number, "iscrowd": crowd, **segment})
    return ids, segments


def draw_values(
    content: Mapping[str, Any], path: Path, drop_ignored: bool, notes: list[str]
) -> np.ndarray:
    """Draw the polygons of a file in order, later ones over earlier ones.

    Args:
        content: Of the file: ``imgHeight``, ``imgWidth``, ``objects``.
        path: Named in messages.
        drop_ignored: See :class:`IddSettings`.
        notes: Extended by what was left out.

    Returns:
        np.ndarray: int32 ``(H, W)``, see :func:`describe_values`; without a polygon void.

    Raises:
        PanopticFormatError: If a field is missing, a label unknown or a polygon broken.
    """
    reader = PolygonFile(content, path)
    canvas = Image.new("I", reader.size(), VOID)
    shapes = list(_shapes(reader, drop_ignored, notes))
    reader.raise_problems()
    pen = ImageDraw.Draw(canvas)
    for value, points in shapes:
        pen.polygon(points, fill=value)
    return np.array(canvas).astype(np.int32)


def _shapes(
    reader: PolygonFile, drop_ignored: bool, notes: list[str]
) -> Iterator[tuple[int, Points]]:
    """Yield value and polygon of everything that is drawn."""
    numbers: Counter[int] = Counter()
    for place, name, points in reader.objects():
        group = name not in LABELS and name.endswith("group")
        label = LABELS.get(name.removesuffix("group") if group else name)
        if label is None:
            reader.add("unknown_category", f"{place}: unknown label {name!r}")
            continue
        if len(points) < 3:
            notes.append(f"polygons with fewer than three points were left out ({name})")
            continue
        value = label.level3_id
        if drop_ignored and label.ignored:
            value = VOID
        elif label.isthing and not group:
            value = value * FACTOR + numbers[value]
            numbers[label.level3_id] += 1
        yield value, points
    for number, count in numbers.items():
        if count > FACTOR:
            reader.add(*count_problem(CATEGORIES[number]["name"], count, FACTOR, number))
