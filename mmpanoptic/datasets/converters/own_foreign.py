"""Own data in formats that other libraries read: YOLO, VOC, CVAT, Label Studio.

``supervision`` (``pip install 'mmpanoptic[formats]'``) reads YOLO and VOC here. ``datumaro`` (CVAT)
and ``label-studio-converter`` run as programs of environments of their own: the first one asks for
another OpenCV and another Pillow, the second one for pandas and nltk.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from mmpanoptic.utils.coco_file import load_json
from mmpanoptic.utils.format_errors import FormatProblem, format_error
from mmpanoptic.utils.image_files import IMAGE_SUFFIXES, list_files, list_images

from .class_list import IGNORED, ClassList
from .label_items import (
    ClassMatcher,
    CocoMask,
    GivenSize,
    ImageFinder,
    ImageLabels,
    LabelItem,
    LabelSet,
)
from .own_coco import CocoOptions, read_coco_labels

_PROGRAMS = {
    "datum": "pipx install 'datumaro[cli]'",
    "label-studio-converter": "pipx install label-studio-converter",
}
_BOX_NUMBERS = 5
"""A line of YOLO with so many numbers is a class and a box, without a mask."""


def read_yolo_labels(names: Path, finder: ImageFinder, classes: ClassList) -> LabelSet:
    """Read YOLO segmentation labels (one polygon a line) through ``supervision``.

    The labels of ``.../images/.../NAME.jpg`` are ``.../labels/.../NAME.txt``, as Ultralytics has
    it; without a folder ``images`` in the path they lie beside the image.

    Args:
        names: The data set's YAML, which names the classes.
        finder: Of the images.
        classes: The class list.

    Returns:
        LabelSet: Masks are drawn already.

    Raises:
        ImportError: If supervision is absent.
        ValueError: If no image has labels.
    """
    pairs = [(image, _yolo_file(image, finder.folder)) for image in list_images(finder.folder)]

    def load(folder: Path) -> Any:
        paths = (folder / "images", folder / "labels", names)
        return _supervision().DetectionDataset.from_yolo(*map(str, paths), force_masks=True)

    def refuse(path: Path) -> str | None:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
            if 0 < len(line.split()) <= _BOX_NUMBERS:
                return f"line {number} is a box, without a polygon: {line[:60]!r}"
        return None

    return _read_each(pairs, load, refuse, classes, "labels/*.txt of the images")


def _yolo_file(image: Path, root: Path) -> Path:
    """Find the label file of an image: the last folder ``images`` becomes ``labels``."""
    parts = [root.name, *image.relative_to(root).parts]
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return (root.parent / Path(*parts)).with_suffix(".txt")


def read_voc_labels(folders: Sequence[Path], finder: ImageFinder, classes: ClassList) -> LabelSet:
    """Read XML files in the format of Pascal VOC, with polygons, through ``supervision``.

    VOC's own masks (SegmentationClass and SegmentationObject) are label and instance maps.

    Args:
        folders: Of the ``*.xml``, searched with sub-folders; named as their images.
        finder: Of the images.
        classes: The class list.

    Returns:
        LabelSet: Masks are drawn already.

    Raises:
        ImportError: If supervision is absent.
        ValueError: If no image has labels.
    """
    pairs = []
    problems: list[FormatProblem] = []
    for folder in folders:
        for path in list_files(folder, frozenset({".xml"})):
            image = _image_of(path.relative_to(folder).with_suffix(""), finder)
            if image is None:
                detail = f"there is no image of this name in {finder.folder}"
                problems.append(FormatProblem("missing_file", detail, str(path)))
            else:
                pairs.append((image, path))

    def load(folder: Path) -> Any:
        paths = (folder / "images", folder / "labels")
        return _supervision().DetectionDataset.from_pascal_voc(*map(str, paths))

    def refuse(path: Path) -> str | None:
        text = path.read_bytes()
        objects, polygons = text.count(b"<object>"), text.count(b"<polygon>")
        if objects > polygons:
            return f"{objects - polygons} of {objects} objects are boxes, without a polygon"
        return None

    where = ", ".join(map(str, folders))
    if problems and not pairs:
        return LabelSet({}, problems)
    found = _read_each(pairs, load, refuse, classes, f"XML files in {where}")
    return LabelSet(found.images, problems + found.problems)


def _image_of(name: Path, finder: ImageFinder) -> Path | None:
    """Find the image of a label file by its relative path, else by its name alone."""
    for suffix in sorted(IMAGE_SUFFIXES):
        for ending in (suffix, suffix.upper()):
            found = finder.find(f"{name.as_posix()}{ending}")
            if found is not None:
                return found
    return None


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise ImportError(
            f"YOLO and VOC files are read by supervision, which is absent ({error}); run: "
            "pip install 'mmpanoptic[formats]'"
        ) from error
    return supervision


def _read_each(
    pairs: Sequence[tuple[Path, Path]],
    load: Callable[[Path], Any],
    refuse: Callable[[Path], str | None],
    classes: ClassList,
    where: str,
) -> LabelSet:
    """Read images one by one, so that the masks of one alone are in memory.

    Args:
        pairs: Image and label file; images without one are left out.
        load: Makes supervision's data set from a folder with ``images`` and ``labels``.
        refuse: Says what is wrong with a label file before it is read.
        classes: The class list.
        where: Named if there is none.
    """
    matcher = ClassMatcher(classes)
    images: dict[Path, ImageLabels] = {}
    problems: list[FormatProblem] = []
    for image, path in pairs:
        if not path.is_file():
            continue
        found = images.setdefault(image, ImageLabels(image))
        found.files.append(path)
        wrong = refuse(path)
        if wrong is not None:
            problems.append(FormatProblem("bad_segmentation", wrong, str(path)))
            continue
        try:
            with _single(image, path) as folder:
                dataset = load(folder)
                (_, _, detections) = next(iter(dataset))
                names = dataset.classes
        except (ValueError, IndexError, KeyError, SyntaxError) as error:
            problems.append(FormatProblem("bad_field", f"supervision: {error}", str(path)))
            continue
        _add_detections(found, detections, names, path, matcher)
    if not images:
        raise ValueError(f"there are no {where}")
    return LabelSet(images, problems + matcher.problems())


@contextmanager
def _single(image: Path, label: Path) -> Iterator[Path]:
    """Make a data set of one image, which supervision reads by folders."""
    with tempfile.TemporaryDirectory(prefix="mmpanoptic-") as name:
        folder = Path(name)
        for kind, path in (("images", image), ("labels", label)):
            (folder / kind).mkdir()
            target = folder / kind / f"image{path.suffix.lower()}"
            try:
                target.symlink_to(path.resolve())
            except OSError:  # Windows without the right to make links
                shutil.copyfile(path, target)
        yield folder


def _add_detections(
    found: ImageLabels, detections: Any, names: Sequence[str], path: Path, matcher: ClassMatcher
) -> None:
    from pycocotools import mask as coco_mask

    masks = detections.mask if detections.mask is not None else ()
    for number, (mask, kind) in enumerate(zip(masks, detections.class_id, strict=True), 1):
        place = f"object {number}"
        label = matcher.find(str(names[int(kind)]), place, str(path))
        if label == IGNORED:
            found.dropped.append(("others", "ignored", place))
        elif label is not None:
            code = coco_mask.encode(mask.astype("uint8", order="F"))
            code = {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}
            found.items.append(LabelItem(label, (CocoMask(code),), place, place, str(path)))


# ---- programs of other environments -----------------------------------------------------------


def read_cvat_labels(path: Path, finder: ImageFinder, classes: ClassList) -> LabelSet:
    """Read "CVAT for images 1.1" XML (polygons, and masks of the brush) through ``datumaro``.

    Args:
        path: The XML.
        finder: Of the images, which lie as the XML names them.
        classes: The class list.

    Returns:
        LabelSet: As from COCO; masks of the brush are instances.

    Raises:
        FileNotFoundError: If the program ``datum`` is not there.
        PanopticFormatError: If it cannot read the file.
    """
    with tempfile.TemporaryDirectory(prefix="mmpanoptic-") as name:
        source, out = Path(name, "in"), Path(name, "out")
        source.mkdir()
        shutil.copyfile(path, source / "annotations.xml")
        (source / "images").symlink_to(finder.folder.resolve(), target_is_directory=True)
        command = ["convert", "-i", str(source), "-if", "cvat", "-o", str(out)]
        _run("datum", [*command, "-f", "coco_instances"], path)
        files = sorted((out / "annotations").glob("instances_*.json"))
        found = read_coco_labels(files, finder, classes, CocoOptions("instances"))
    return _of_file(found, path)


def read_label_studio_labels(path: Path, finder: ImageFinder, classes: ClassList) -> LabelSet:
    """Read polygons of a Label Studio JSON through ``label-studio-converter``.

    Args:
        path: The export ("JSON").
        finder: Of the images, with or without the eight characters that uploads get.
        classes: The class list.

    Returns:
        LabelSet: As from COCO.

    Raises:
        FileNotFoundError: If the program is not there.
        PanopticFormatError: If it cannot read the file, or the file has results that it drops.
    """
    config = _label_config(load_json(path), path)
    with tempfile.TemporaryDirectory(prefix="mmpanoptic-") as name:
        folder = Path(name)
        (folder / "config.xml").write_text(config, encoding="utf-8")
        arguments = ["export", "-i", str(path), "-c", str(folder / "config.xml")]
        _run("label-studio-converter", [*arguments, "-o", name, "-f", "COCO"], path)
        result = folder / "result.json"
        content = load_json(result)
        for image in content["images"]:
            image["file_name"] = _uploaded_name(image["file_name"], finder)
        result.write_text(json.dumps(content), encoding="utf-8")
        found = read_coco_labels([result], finder, classes, CocoOptions())
    return _of_file(found, path)


def _label_config(content: Any, path: Path) -> str:
    """Write the labelling interface that the results of a Label Studio JSON come from."""
    controls: dict[tuple[str, str], dict[str, None]] = {}
    others: dict[str, int] = {}
    data_key = "image"
    for task in content if isinstance(content, list) else []:
        if not isinstance(task, Mapping):
            raise format_error("bad_field", "every task must be an object", path)
        data_key = next(iter(task.get("data") or {"image": None}))
        for annotation in task.get("annotations") or ():
            for result in annotation.get("result") or ():
                kind = result.get("type")
                if kind != "polygonlabels":
                    others[str(kind)] = others.get(str(kind), 0) + 1
                    continue
                names = controls.setdefault((result["from_name"], result["to_name"]), {})
                names.update(dict.fromkeys(result.get("value", {}).get(kind) or ()))
    if others:
        shown = ", ".join(f"{count} of the type {kind}" for kind, count in others.items())
        detail = (
            f"the file has results without a polygon ({shown}); export masks of the brush as PNG, "
            "and convert them with --masks"
        )
        raise format_error("bad_segmentation", detail, path)
    if not controls:
        raise format_error("empty_annotation", "the file has no results", path)
    parts: list[str] = []
    for (name, image), labels in controls.items():
        items = "".join(f"<Label value={quoteattr(label)}/>" for label in labels)
        head = f"<Image name={quoteattr(image)} value={quoteattr(f'${data_key}')}/>"
        opening = f"<PolygonLabels name={quoteattr(name)} toName={quoteattr(image)}>"
        parts.append(f"{head if not parts else ''}{opening}{items}</PolygonLabels>")
    return f"<View>{''.join(parts)}</View>"


def _uploaded_name(name: str, finder: ImageFinder) -> str:
    """Find an image by its name, or by it without the prefix that Label Studio adds."""
    plain = name.replace("\\", "/").rpartition("/")[2]
    prefix, dash, rest = plain.partition("-")
    bare = rest if dash and len(prefix) == 8 else plain
    for candidate in (plain, bare):
        if finder.find(candidate) is not None:
            return candidate
    return bare


def _run(program: str, arguments: Sequence[str], path: Path) -> None:
    """Run a program of another environment.

    Raises:
        FileNotFoundError: If it is not there; the message says how to get it.
        PanopticFormatError: If it fails; the message ends as its own.
    """
    executable = shutil.which(program)
    if executable is None:
        raise FileNotFoundError(
            f"{path} is read by the program {program}, which is not there; install it in an "
            f"environment of its own: {_PROGRAMS[program]}"
        )
    done = subprocess.run(  # noqa: S603 - the program that the user installed
        [executable, *arguments], capture_output=True, text=True, env={**os.environ}
    )
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        detail = f"{program} cannot read it: {' | '.join(lines[-2:])[:400]}"
        raise format_error("bad_field", detail, path)


def _of_file(found: LabelSet, path: Path) -> LabelSet:
    """Name the file of the user where the program's would be named, which is gone."""
    images = {}
    for key, labels in found.images.items():
        items = [item._replace(file=str(path)) for item in labels.items]
        sizes = [GivenSize(size.size, str(path), size.image_id) for size in labels.sizes]
        images[key] = ImageLabels(labels.path, items, [path], sizes, labels.dropped)
    problems = [
        FormatProblem(p.kind, p.detail, str(path), p.image_id, p.segment_ids)
        for p in found.problems
    ]
    return LabelSet(images, problems)
