"""Own data from label maps and instance maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mmpanoptic.utils.format_errors import FormatProblem, format_error
from mmpanoptic.utils.image_files import IMAGE_SUFFIXES, describe_mismatch, list_files, list_images
from mmpanoptic.utils.label_png import read_label_png

from .class_list import ClassList
from .label_items import Fate, ImageFinder, ImageLabels, LabelSet
from .maps import MaskEncoder
from .painting import Shape, combine_maps

_PNG = ".png"
_NO_INSTANCE = "pixels of thing classes without an instance (0 in the instance map)"


@dataclass(frozen=True)
class MapOptions:
    """Where the maps lie, how their names differ from the images', what they mean.

    The maps of ``<image folder>/a/b<image suffix>.jpg`` are ``<label folder>/a/b<label
    suffix>.png`` and ``<instance folder>/a/b<instance suffix>.png``. They may lie among the images.

    Attributes:
        labels (Path): Folder of the label maps, 8 or 16-bit grey or palette PNGs.
        instances (Path | None): Folder of the instance maps; None if there are none.
        image_suffix (str): End of the images' names before the extension.
        label_suffix (str): End of the label maps' names before the extension.
        instance_suffix (str): End of the instance maps' names before the extension.
        components (bool): Each connected region of a thing class is one instance.
        zero_is_crowd (bool): Thing pixels without an instance are crowd instead of void.
    """

    labels: Path
    instances: Path | None = None
    image_suffix: str = ""
    label_suffix: str = ""
    instance_suffix: str = ""
    components: bool = False
    zero_is_crowd: bool = False

    def to_info(self) -> dict[str, Any]:
        """Return the settings that decide the result."""
        return {"zero_is_crowd": self.zero_is_crowd, "components": self.components}


class _Maps:
    """The files of a folder of maps by relative path without extension."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
        self.folder = folder
        self.files: dict[str, list[Path]] = {}
        self.used: set[Path] = set()
        for path in list_files(folder, IMAGE_SUFFIXES):
            name = path.relative_to(folder).with_suffix("").as_posix()
            self.files.setdefault(name, []).append(path)

    def find(self, name: str, image: Path) -> Path | None:
        """Return the PNG of a name, whatever the case of its extension."""
        pngs = [path for path in self.files.get(name, ()) if path.suffix.lower() == _PNG]
        found = next((path for path in pngs if path != image), None)
        if found is not None:
            self.used.add(found)
        return found

    def orphans(self, suffix: str) -> list[Path]:
        """List the PNGs that no image has asked for, of those whose names end in a suffix."""
        pngs = (path for paths in self.files.values() for path in paths)
        return [
            path
            for path in pngs
            if path.suffix.lower() == _PNG and path.stem.endswith(suffix) and path not in self.used
        ]

    def problem(self, name: str, image: Path) -> FormatProblem:
        """Say why there is no map of a name."""
        others = [path for path in self.files.get(name, ()) if path != image]
        if others:
            detail = f"maps must be PNG files; only {others[0].name} is there for {image}"
            return FormatProblem("bad_label_png", detail, str(others[0]))
        detail = (
            f"there is no such map of {image}; see --label-suffix and --instance-suffix if names "
            "differ"
        )
        return FormatProblem("missing_file", detail, str(self.folder / f"{name}{_PNG}"))


def read_map_labels(finder: ImageFinder, classes: ClassList, options: MapOptions) -> LabelSet:
    """Find the maps of all images.

    Args:
        finder: Of the images; each must have its maps.
        classes: The classes.
        options: Where the maps are.

    Returns:
        LabelSet: Maps are read when they are drawn.

    Raises:
        ValueError: If there are things, but no instances; or two images of one name.
    """
    if not classes.has_values:
        raise ValueError(f"{classes.path}: label maps need a value for every class")
    if classes.table.num_things and options.instances is None and not options.components:
        raise ValueError(
            "the class list has things, so --instances must name the folder of the instance maps; "
            "--components takes every connected region of a thing class as one instance instead"
        )
    labels = _Maps(options.labels)
    instances = _Maps(options.instances) if options.instances and not options.components else None
    images: dict[Path, ImageLabels] = {}
    problems: list[FormatProblem] = []
    for key, image in find_images(finder.folder, options).items():
        name = f"{key}{options.label_suffix}"
        label_map, instance_map = labels.find(name, image), None
        if label_map is None:
            problems.append(labels.problem(name, image))
        if instances is not None:
            name = f"{key}{options.instance_suffix}"
            instance_map = instances.find(name, image)
            if instance_map is None:
                problems.append(instances.problem(name, image))
        if label_map is not None:
            files = [path for path in (label_map, instance_map) if path is not None]
            images[image] = ImageLabels(image, files=files, maps=(label_map, instance_map))
    orphans = labels.orphans(options.label_suffix)
    if instances is not None:
        orphans += instances.orphans(options.instance_suffix)
    photos = {path.resolve() for path in list_images(finder.folder)}  # maps may lie among them
    return LabelSet(images, problems, [path for path in orphans if path.resolve() not in photos])


def find_images(folder: Path, options: MapOptions) -> dict[str, Path]:
    """Find the images below a folder.

    Args:
        folder: Searched with sub-folders. A file that is the map of another one is no image.
        options: The suffixes, and where the maps are.

    Returns:
        dict[str, Path]: By relative path without suffix and extension, sorted.

    Raises:
        ValueError: If there are none, or two of one name.
    """
    suffix = options.image_suffix
    paths = [path for path in list_images(folder) if path.stem.endswith(suffix)]
    keys = {path: _key(path, folder, suffix) for path in paths}
    maps = _maps_among(keys, options)
    found: dict[str, Path] = {}
    for path, key in keys.items():
        if path in maps:
            continue
        if key in found:
            raise ValueError(
                f"{found[key]} and {path} differ in the extension only, so their labels cannot be "
                "told apart; put them into different folders"
            )
        found[key] = path
    if not found:
        raise ValueError(f"{folder} holds no images whose names end in {suffix!r}")
    return found


def _key(path: Path, folder: Path, suffix: str) -> str:
    name = path.stem[: len(path.stem) - len(suffix)]
    return (path.relative_to(folder).parent / name).as_posix()


def _maps_among(keys: dict[Path, str], options: MapOptions) -> set[Path]:
    """Find the files that are the map of another one."""
    places = [(options.labels, options.label_suffix)]
    if options.instances is not None:
        places.append((options.instances, options.instance_suffix))
    real = {path.resolve(): path for path in keys if path.suffix.lower() == _PNG}
    found = set()
    for image, key in keys.items():
        for folder, suffix in places:
            twin = real.get((folder / f"{key}{suffix}{_PNG}").resolve())
            if twin is not None and twin != image:
                found.add(twin)
    return found


class ReadMaps(NamedTuple):
    """What the maps of an image hold.

    Attributes:
        ids (np.ndarray): int32 ``(H, W)``.
        segments (list[dict]): ``segments_info``.
        fates (list[Fate]): Of all instances and stuff regions.
        void (dict[str, int]): Pixels that are void by reason, except on purpose.
    """

    ids: np.ndarray
    segments: list[dict[str, Any]]
    fates: list[Fate]
    void: dict[str, int]


def read_maps(
    labels: ImageLabels, size: tuple[int, int], classes: ClassList, options: MapOptions
) -> ReadMaps:
    """Read the maps of an image.

    Args:
        labels: With ``maps``.
        size: ``(H, W)`` of the image.
        classes: The classes.
        options: What the maps mean.

    Raises:
        PanopticFormatError: If a file is broken or the sizes differ.
    """
    label_file, instance_file = labels.maps  # type: ignore[misc]
    values = read_label_png(label_file)
    _check_size(values, size, label_file, labels.path, "the label map")
    table, unknown = classes.lookup(65536 if values.dtype == np.uint16 else 256)
    contiguous = table[values]
    if instance_file is not None:
        instances = read_label_png(instance_file)
        _check_size(instances, size, instance_file, labels.path, "the instance map")
    elif options.components:
        instances = _connected(contiguous, classes)
    else:
        instances = np.zeros(size, np.uint8)
    ids, segments = combine_maps(contiguous, instances, classes.table, options.zero_is_crowd)
    void = _count_unknown(values, unknown)
    things = np.array([*classes.table.isthing, False])[contiguous]
    alone = 0 if options.zero_is_crowd else int((things & (instances == 0)).sum())
    if alone:
        void[_NO_INSTANCE] = alone
    fates = [_fate(segment, classes) for segment in segments]
    if instance_file is not None:
        fates += _without_class(instances, things)
    return ReadMaps(ids, segments, fates, void)


def _check_size(
    values: np.ndarray, size: tuple[int, int], path: Path, image: Path, whose: str
) -> None:
    if values.shape != size:
        detail = describe_mismatch(image, size, values.shape[:2], whose)
        raise format_error("size_mismatch", detail, path)


def _connected(labels: np.ndarray, classes: ClassList) -> np.ndarray:
    """Number the connected regions of each thing class, diagonal neighbours included."""
    instances = np.zeros(labels.shape, np.int32)
    for label in classes.table.thing_labels:
        mask = (labels == label).astype(np.uint8)
        if mask.any():
            instances += cv2.connectedComponents(mask, connectivity=8)[1]
    return instances


def _count_unknown(values: np.ndarray, unknown: np.ndarray) -> dict[str, int]:
    counts = np.bincount(values.ravel(), minlength=len(unknown))
    return {
        f"value {value} is in no class and not ignored": int(counts[value])
        for value in np.flatnonzero((counts > 0) & unknown[: len(counts)]).tolist()
    }


def _fate(segment: dict[str, Any], classes: ClassList) -> Fate:
    thing = classes.table.by_dataset_id(segment["category_id"]).isthing
    name = f"segment {segment['id']}"
    return ("things" if thing else "stuff", "crowd" if segment["iscrowd"] else "kept", name)


def _without_class(instances: np.ndarray, things: np.ndarray) -> list[Fate]:
    """Find the instances that lie on no thing pixel: their class is not known."""
    numbers = np.setdiff1d(instances, instances[things])
    return [
        ("things", "no_class", f"instance {number}") for number in numbers.tolist() if number != 0
    ]


def shapes_of_map(read: ReadMaps, classes: ClassList) -> list[Shape]:
    """Turn the segments of a map into shapes, to paint them together with other labels."""
    encoder = MaskEncoder(read.ids)
    return [
        Shape(
            encoder.encode(segment["id"]),
            classes.table.by_dataset_id(segment["category_id"]).index,
            segment["iscrowd"],
            name=f"segment {segment['id']} of the maps",
        )
        for segment in read.segments
    ]
