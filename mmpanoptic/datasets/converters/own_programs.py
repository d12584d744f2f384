"""Own data in CVAT and Label Studio files, which programs of other environments read.

``datumaro`` (CVAT) asks for another OpenCV and another Pillow than ours, and
``label-studio-converter`` for pandas and nltk; so both stay in environments of their own
(``pipx install``) and write COCO files, which :mod:`~mmpanoptic.datasets.converters.own_coco`
reads. What they would drop without a word is refused before, and counted afterwards.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from mmpanoptic.utils.coco_file import CocoFile, is_number, is_side, load_json, place_of
from mmpanoptic.utils.files import write_json
from mmpanoptic.utils.format_errors import FormatProblem, format_error
from mmpanoptic.utils.image_files import IMAGE_SUFFIXES

from .class_list import ClassList
from .label_items import GivenSize, ImageFinder, ImageLabels, LabelSet
from .own_coco import CocoOptions, read_coco_labels

_PROGRAMS = {
    "datum": "pipx install 'datumaro[cli]'",
    "label-studio-converter": "pipx install label-studio-converter",
}


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
        [executable, *arguments], capture_output=True, text=True
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


def _refuse_loss(program: str, count: int, files: Sequence[Path], path: Path, most: bool) -> None:
    """Refuse a file of which a program left something out.

    Args:
        program: Its name.
        count: Shapes of the file.
        files: COCO files that it wrote.
        path: The file.
        most: Shapes may have been put together, so that only none at all is a loss.
    """
    written = sum(len(load_json(file)["annotations"]) for file in files)
    if written < (min(count, 1) if most else count):
        detail = f"{program} took {written} of its {count} shapes over; convert it with a newer one"
        raise format_error("bad_field", detail, path)


# ---- CVAT ---------------------------------------------------------------------------------------

_NO_AREA = ("box", "polyline", "points", "cuboid", "skeleton", "ellipse")
"""Shapes of CVAT that are no mask; datumaro makes boxes of some and drops the others."""


def read_cvat_labels(path: Path, finder: ImageFinder, classes: ClassList) -> LabelSet:
    """Read "CVAT for images 1.1" XML (polygons, and masks of the brush) through ``datumaro``.

    Shapes of one group (``group_id``) are one instance.

    Args:
        path: The XML.
        finder: Of the images, which lie as the XML names them.
        classes: The class list.

    Returns:
        LabelSet: As from COCO; masks of the brush are instances.

    Raises:
        FileNotFoundError: If the file or the program ``datum`` is not there.
        PanopticFormatError: If it cannot be read, or has shapes that are no mask.
    """
    shapes = Counter(re.findall(rb"<(\w+)[\s/>]", path.read_bytes()))
    others = {name: shapes[name.encode()] for name in _NO_AREA if shapes[name.encode()]}
    if shapes[b"track"]:
        others["track"] = shapes[b"track"]
    if others:
        shown = ", ".join(f"{count} {name}" for name, count in others.items())
        detail = (
            f"the file has shapes that are no polygon and no mask ({shown}); convert them in CVAT, "
            "or delete them there, and export 'CVAT for images 1.1'"
        )
        raise format_error("bad_segmentation", detail, path)
    with tempfile.TemporaryDirectory(prefix="mmpanoptic-") as name:
        source, out = Path(name, "in"), Path(name, "out")
        source.mkdir()
        shutil.copyfile(path, source / "annotations.xml")
        (source / "images").symlink_to(finder.folder.resolve(), target_is_directory=True)
        command = ["convert", "-i", str(source), "-if", "cvat", "-o", str(out)]
        _run("datum", [*command, "-f", "coco_instances"], path)
        files = sorted((out / "annotations").glob("instances_*.json"))
        grouped = b"group_id=" in path.read_bytes()
        _refuse_loss("datumaro", shapes[b"polygon"] + shapes[b"mask"], files, path, grouped)
        found = read_coco_labels(files, finder, classes, CocoOptions("instances"))
    return _of_file(found, path)


# ---- Label Studio -------------------------------------------------------------------------------


def read_label_studio_labels(path: Path, finder: ImageFinder, classes: ClassList) -> LabelSet:
    """Read polygons of a Label Studio JSON through ``label-studio-converter``.

    Images are found by the path that the task names, or by its name alone, with or without the
    eight characters that uploads get. Cancelled annotations do not count.

    Args:
        path: The export ("JSON").
        finder: Of the images.
        classes: The class list.

    Returns:
        LabelSet: As from COCO.

    Raises:
        FileNotFoundError: If the file or the program is not there.
        PanopticFormatError: If it cannot be read, or has results that are no polygon.
    """
    reader = _StudioFile(load_json(path), path, finder)
    reader.parse()
    reader.raise_problems()
    with tempfile.TemporaryDirectory(prefix="mmpanoptic-") as name:
        folder = Path(name)
        (folder / "config.xml").write_text(reader.interface(), encoding="utf-8")
        write_json(folder / "tasks.json", reader.tasks)
        arguments = ["export", "-i", str(folder / "tasks.json"), "-c", str(folder / "config.xml")]
        _run("label-studio-converter", [*arguments, "-o", name, "-f", "COCO"], path)
        result = folder / "result.json"
        _refuse_loss("label-studio-converter", reader.count, [result], path, most=False)
        result.write_text(json.dumps(reader.with_names(load_json(result))), encoding="utf-8")
        found = read_coco_labels([result], finder, classes, CocoOptions())
    return _of_file(found, path)


class _StudioFile(CocoFile):
    """The tasks of a Label Studio JSON, checked.

    The converter gets them with plain names of images and classes, so that it tries no download,
    opens nothing of the working directory, and need not write every name into an XML.

    Args:
        content: The parsed file.
        file: Its path.
        finder: Of the images.
    """

    def __init__(self, content: Any, file: Path, finder: ImageFinder) -> None:
        super().__init__({"tasks": content}, file)
        self.finder = finder
        self.tasks: list[dict[str, Any]] = []
        self.paths: dict[str, str] = {}
        self.classes: dict[str, str] = {}
        self.count = 0

    def parse(self) -> None:
        """Collect the tasks and the problems."""
        if not isinstance(self.content["tasks"], list):
            self.add("bad_field", "the file must hold a list of tasks; export the format 'JSON'")
            return
        for position, task in enumerate(self.content["tasks"]):
            place = place_of("tasks", position, task)
            if self.has_fields(task, ("data", "annotations"), place):
                self._task(task, place)
        if not self.count and not self.problems:
            self.add("empty_annotation", "the file has no results")

    def _task(self, task: Mapping[str, Any], place: str) -> None:
        image, annotations = self._image(task["data"], place), task["annotations"]
        if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
            self.add("bad_field", f"{place}.annotations must be a list of objects")
            return
        used = [a for a in annotations if not (a.get("was_cancelled") or a.get("skipped"))]
        if len(used) > 1:
            detail = f"{place} has {len(used)} annotations of one image; cancel all but one"
            self.add("duplicate_annotation", detail)
            return
        results = used[0].get("result") if used else []
        if not isinstance(results, list):
            self.add("bad_field", f"{place}: result must be a list, got {results!r}")
            return
        found = [
            self._result(result, f"{place}.result[{number}]")
            for number, result in enumerate(results)
        ]
        shapes = [shape for shape in found if shape is not None]
        if image is not None and shapes:
            key = f"task-{len(self.tasks)}"
            self.paths[key] = image
            number = len(self.tasks)
            annotation = {"id": number, "result": shapes}
            self.tasks.append({"id": number, "data": {"image": key}, "annotations": [annotation]})
            self.count += len(shapes)

    def _image(self, data: Any, place: str) -> str | None:
        """Find the task's image: the text in its data that ends as images do."""
        texts = [v for v in data.values() if isinstance(v, str)] if isinstance(data, dict) else []
        paths = [_path_of(text) for text in texts]
        paths = [p for p in paths if PurePosixPath(p).suffix.lower() in IMAGE_SUFFIXES]
        if len(paths) != 1:
            self.add("bad_field", f"{place}.data must name one image, got {data!r}"[:300])
            return None
        path = paths[0].lstrip("/")
        if not self.check_name(path, f"{place}.data", None):
            return None
        plain = path.rpartition("/")[2]
        prefix, dash, rest = plain.partition("-")
        names = [path, plain, rest if dash and len(prefix) == 8 else plain]
        try:
            for name in dict.fromkeys([*names, *map(unquote, names)]):
                found = self.finder.find(name)
                if found is not None:
                    return found.relative_to(self.finder.folder).as_posix()
        except ValueError as error:
            self.add("bad_field", f"{place}.data {path!r}: {error}")
            return None
        detail = f"{place}.data {path!r}: there is no such image in {self.finder.folder}"
        self.add("missing_file", detail)
        return None

    def _result(self, result: Any, place: str) -> dict[str, Any] | None:
        """Check one polygon, and write it with a plain name of its class."""
        if not self.has_fields(result, ("type", "value"), place):
            return None
        value, kind = result["value"], result["type"]
        if kind != "polygonlabels":
            detail = f"{place} has the type {kind!r}, which is no polygon; take such results out"
            if kind == "brushlabels":
                detail += ", or export the masks as PNG and convert them with --masks"
            self.add("bad_segmentation", detail)
            return None
        names = value.get("polygonlabels") if isinstance(value, dict) else None
        points = value.get("points") if isinstance(value, dict) else None
        size = (result.get("original_width"), result.get("original_height"))
        if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
            self.add("bad_field", f"{place}.value.polygonlabels must be one class, got {names!r}")
        elif not isinstance(points, list) or len(points) < 3 or not all(map(_is_point, points)):
            detail = f"{place}.value.points must be at least three pairs [x, y] in percent"
            self.add("bad_segmentation", f"{detail}, got {points!r}"[:300])
        elif not all(map(is_side, size)):
            detail = f"{place} must have original_width and original_height in pixels, got {size}"
            self.add("bad_field", detail)
        elif result.get("image_rotation"):
            detail = f"{place} was drawn on an image turned by {result['image_rotation']} degrees"
            self.add("bad_field", f"{detail}; turn the file itself")
        else:
            name = self.classes.setdefault(names[0], f"class-{len(self.classes)}")
            value = {"points": points, "polygonlabels": [name], "closed": True}
            shape = {"type": kind, "from_name": "label", "to_name": "image", "value": value}
            return {**shape, "original_width": size[0], "original_height": size[1]}
        return None

    def interface(self) -> str:
        """Write the labelling interface of the tasks."""
        labels = "".join(f'<Label value="{name}"/>' for name in self.classes.values())
        control = f'<PolygonLabels name="label" toName="image">{labels}</PolygonLabels>'
        return f'<View><Image name="image" value="$image"/>{control}</View>'

    def with_names(self, content: dict[str, Any]) -> dict[str, Any]:
        """Put the names of images and classes back into the converter's COCO file."""
        names = {plain: name for name, plain in self.classes.items()}
        for image in content["images"]:
            image["file_name"] = self.paths[Path(image["file_name"]).name]
        for category in content["categories"]:
            category["name"] = names[category["name"]]
        return content


def _path_of(text: str) -> str:
    """Take the path out of what a task calls its image: a path, an address or a local file."""
    local = text.replace("\\", "/").partition("?d=")[2]
    return local or text.replace("\\", "/").partition("?")[0]


def _is_point(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(map(is_number, point))
