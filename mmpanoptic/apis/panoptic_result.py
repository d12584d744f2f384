"""What inference returns for one image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmpanoptic.structures import Label, LabelTable
from mmpanoptic.utils import atomic_write, write_json
from mmpanoptic.utils.image_files import image_id_of
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

# Results are used where neither torch nor OpenCV is; drawing imports what it needs.
if TYPE_CHECKING:
    from mmengine.structures import PixelData

    from mmpanoptic.visualization import DrawStyle

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def swapped(image: np.ndarray) -> np.ndarray:
    """Turn BGR into RGB, or back: uint8 ``(H, W, 3)``."""
    return np.ascontiguousarray(image[..., ::-1])


def describe_segment(
    number: int, label: Label, score: Any, area: Any, bbox: Iterable[Any]
) -> dict[str, Any]:
    """Make an entry of :attr:`PanopticResult.segments_info`.

    Args:
        number (int): Of the segment, from 1.
        label (Label): Its class.
        score (float): Its score.
        area (int): Pixels.
        bbox (Iterable[int]): x, y, width, height.

    Returns:
        dict: With plain numbers.
    """
    return {
        "id": number,
        "category_id": label.dataset_id,
        "label": label.index,
        "name": label.name,
        "isthing": label.isthing,
        "score": float(score),
        "area": int(area),
        "bbox": [int(value) for value in bbox],
    }


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"this needs {name}: pip install {name}") from error


@dataclass(frozen=True)
class Segment:
    """One segment of a result.

    Attributes:
        id (int): Its number in ``panoptic_seg``, from 1 on.
        name (str): Of its class.
        label (int): Contiguous number of its class, from 0 on.
        category_id (int): Number of its class in the dataset's files.
        isthing (bool): Whether it is one thing, or all stuff of its class.
        score (float): 0 to 1.
        area (int): In pixels.
        box (tuple[int, int, int, int]): x1, y1, x2, y2 in pixels; x2 and y2 are exclusive.
        track_id (int | None): In videos, the same number for the same segment of other frames.
    """

    id: int
    name: str
    label: int
    category_id: int
    isthing: bool
    score: float
    area: int
    box: tuple[int, int, int, int]
    track_id: int | None = None


@dataclass(repr=False)
class PanopticResult:
    """Panoptic segmentation of one image.

    The k-th entry of ``segments``, ``masks``, ``boxes``, ``labels``, ``names``, ``scores`` and
    ``areas`` tells about the same segment, whose id is k + 1.

    Attributes:
        name (str): Name of the image without suffix; files are named after it.
        panoptic_seg (np.ndarray): int32 segment ids ``(H, W)``, 0 is void.
        segments_info (list[dict]): Of each segment ``id``, ``category_id`` (of the dataset),
            ``label`` (contiguous), ``name``, ``isthing``, ``score``, ``area`` in pixels and
            ``bbox`` as x, y, w, h (x + w exclusive); the k-th has the id k. Of videos also
            ``track_id``, see :class:`mmpanoptic.apis.videos.Tracker`.
        table (LabelTable): The classes.
        image_path (str | None): File of the image, if it came from one.
        image (np.ndarray | None): uint8 BGR ``(H, W, 3)``, if it came as an array.
        heads (dict[str, np.ndarray] | None): What the heads said, if it was asked for. Of
            Panoptic-DeepLab ``center``, float32 heatmap ``(1, H, W)``, and ``offset``, float32
            ``(2, H, W)``, (dy, dx) in pixels; of COPS costs and cuts, see
            :func:`mmpanoptic.visualization.draw_multicut`.
        video (str | None): File of the video, if the image is a frame of one; ``name`` is then
            ``VIDEO/NUMBER``.
    """

    name: str
    panoptic_seg: np.ndarray
    segments_info: list[dict[str, Any]]
    table: LabelTable = field(repr=False)
    image_path: str | None = None
    image: np.ndarray | None = field(default=None, repr=False)
    heads: dict[str, np.ndarray] | None = field(default=None, repr=False)
    video: str | None = None

    @classmethod
    def from_prediction(
        cls,
        name: str,
        prediction: PixelData,
        table: LabelTable,
        image_path: str | None = None,
        image: np.ndarray | None = None,
    ) -> PanopticResult:
        """Convert a model's ``pred_panoptic_seg``.

        Args:
            name (str): Name of the image.
            prediction (PixelData): From :func:`mmpanoptic.structures.make_panoptic_data`.
            table (LabelTable): The classes.
            image_path (str | None): File of the image.
            image (np.ndarray | None): The image.

        Returns:
            PanopticResult: With plain numbers.
        """
        index_map = prediction.index_map[0].cpu().numpy().astype(np.int32)
        segments = []
        for number, segment in enumerate(prediction.segments_info, start=1):
            label = table.labels[int(segment["label"])]
            values = (segment["score"], segment["area"], segment["bbox"])
            segments.append(describe_segment(number, label, *values))
        return cls(name, index_map, segments, table, image_path, image)

    # ---- what was found ----------------------------------------------------------------------

    @property
    def segments(self) -> list[Segment]:
        """The segments as small objects, ``K`` of them."""
        keys = ("id", "name", "label", "category_id", "isthing", "score", "area")
        found = []
        for segment in self.segments_info:
            x, y, w, h = segment["bbox"]
            values = {key: segment[key] for key in keys}
            found.append(
                Segment(**values, box=(x, y, x + w, y + h), track_id=segment.get("track_id"))
            )
        return found

    @property
    def masks(self) -> np.ndarray:
        """Bool ``(K, H, W)``, made at each call; ``panoptic_seg`` holds the same in one map."""
        ids = np.arange(1, len(self.segments_info) + 1, dtype=np.int32)
        return self.panoptic_seg == ids[:, None, None]

    @property
    def boxes(self) -> np.ndarray:
        """float32 ``(K, 4)``: x1, y1, x2, y2 in pixels of the image; x2 and y2 are exclusive."""
        return np.array([segment.box for segment in self.segments], np.float32).reshape(-1, 4)

    @property
    def labels(self) -> np.ndarray:
        """int64 ``(K,)``: contiguous numbers of the classes, which ``table`` explains."""
        return self._column("label", np.int64)

    @property
    def names(self) -> list[str]:
        """Names of the classes, ``K`` of them."""
        return [segment["name"] for segment in self.segments_info]

    @property
    def scores(self) -> np.ndarray:
        """float32 ``(K,)``, 0 to 1."""
        return self._column("score", np.float32)

    @property
    def areas(self) -> np.ndarray:
        """int64 ``(K,)``, in pixels of the image."""
        return self._column("area", np.int64)

    def _column(self, key: str, dtype: type[np.generic]) -> np.ndarray:
        return np.array([segment[key] for segment in self.segments_info], dtype)

    def count(self) -> str:
        """Summarise the classes in a few words, as in ``3 car, 1 road``."""
        counts = Counter(self.names)
        return ", ".join(f"{n} {name}" for name, n in counts.items()) or "nothing found"

    def __repr__(self) -> str:
        height, width = self.panoptic_seg.shape
        return f"{type(self).__name__}({self.name}, {width} x {height}: {self.count()})"

    def crop(self, position: int, margin: int = 0, cut_out: bool = False) -> np.ndarray:
        """Cut the image around a segment.

        Args:
            position (int): In ``segments``, from 0 on; negative ones count from the end.
            margin (int): Pixels to add around its box, as far as the image goes.
            cut_out (bool): Paint what does not belong to the segment black.

        Returns:
            np.ndarray: uint8 BGR ``(h, w, 3)``.

        Raises:
            IndexError: If there is no such segment.
        """
        count = len(self.segments_info)
        if not -count <= position < count:
            raise IndexError(f"there is no segment {position}: {self!r} has {count}")
        segment = self.segments[position]
        height, width = self.panoptic_seg.shape
        x1, y1, x2, y2 = segment.box
        window = np.s_[
            max(y1 - margin, 0) : min(y2 + margin, height),
            max(x1 - margin, 0) : min(x2 + margin, width),
        ]
        picture: np.ndarray = self._load(None)[window].copy()
        if cut_out:
            picture[self.panoptic_seg[window] != segment.id] = 0
        return picture

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame``: a row per segment, the box as columns x1, y1, x2, y2.

        Raises:
            ImportError: If pandas is not installed.
        """
        pandas = _optional("pandas")
        columns = [f.name for f in fields(Segment) if f.name != "box"]
        rows = [[getattr(segment, name) for name in columns] for segment in self.segments]
        frame = pandas.DataFrame(rows, columns=columns)
        for position, corner in enumerate(("x1", "y1", "x2", "y2")):
            frame[corner] = self.boxes[:, position].astype(np.int64)
        return frame

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections`` with masks, boxes, labels, scores and names.

        Raises:
            ImportError: If supervision is not installed.
        """
        return _optional("supervision").Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.names, dtype=str)},
        )

    # ---- changing, writing, drawing ------------------------------------------------------------

    def without_things_below(self, score: float) -> PanopticResult:
        """Leave out the things whose score is lower; their pixels become void.

        Args:
            score (float): The lowest score that stays.

        Returns:
            PanopticResult: With the other segments numbered anew.
        """
        kept = [s for s in self.segments_info if not s["isthing"] or s["score"] >= score]
        numbers = np.zeros(len(self.segments_info) + 1, np.int32)
        numbers[[segment["id"] for segment in kept]] = np.arange(1, len(kept) + 1)
        segments = [{**segment, "id": number} for number, segment in enumerate(kept, 1)]
        return replace(self, panoptic_seg=numbers[self.panoptic_seg], segments_info=segments)

    def to_coco(
        self, image_id: int | str | None = None, file_name: str | None = None
    ) -> dict[str, Any]:
        """Describe the result as an entry of ``annotations`` of a COCO-panoptic JSON.

        Args:
            image_id (int | str | None): Id of the image; of its name by default
                (:func:`~mmpanoptic.utils.image_files.image_id_of`).
            file_name (str | None): Name of the PNG; ``NAME.png`` by default.

        Returns:
            dict: Plain values.
        """
        keys = ("id", "category_id", "isthing", "score", "area", "bbox")
        segments = [{key: segment[key] for key in keys} for segment in self.segments_info]
        return {
            "image_id": image_id_of(self.name) if image_id is None else image_id,
            "file_name": file_name or f"{self.name}.png",
            "segments_info": segments,
        }

    def draw(self, image: np.ndarray | None = None, style: DrawStyle | None = None) -> np.ndarray:
        """Draw the segments over the image.

        Args:
            image (np.ndarray | None): uint8 BGR ``(H, W, 3)``; by default the image that was
                segmented, read again if it came from a file.
            style (DrawStyle | None): How to draw.

        Returns:
            np.ndarray: uint8 BGR ``(H, W, 3)``, as OpenCV shows and writes it.
        """
        from mmpanoptic.visualization import draw_panoptic

        picture: np.ndarray = draw_panoptic(
            swapped(self._load(image)),
            self.panoptic_seg,
            self.segments_info,
            self.table,
            style,
        )
        return swapped(picture)

    def show(self) -> None:
        """Open the drawing in the system's viewer of images."""
        from PIL import Image

        Image.fromarray(swapped(self.draw())).show(self.name)

    def _repr_png_(self) -> bytes | None:
        """Show the drawing in notebooks, where the image is known."""
        if self.image is None and self.image_path is None:
            return None
        import cv2

        return bytes(cv2.imencode(".png", self.draw())[1])

    def save(self, folder: str | os.PathLike[str], overlay: bool = True) -> list[Path]:
        """Write ``NAME_panoptic.png`` (ids), ``NAME_panoptic.json`` and ``NAME_overlay.png``.

        Args:
            folder: Made if missing. A file name (``.png``, ``.jpg``) gets the drawing alone.
            overlay (bool): Write the drawing, too.

        Returns:
            list[Path]: The files.
        """
        if Path(folder).suffix.lower() in PICTURES and not Path(folder).is_dir():
            self.save_overlay(folder)
            return [Path(folder)]
        stem = Path(folder) / self.name
        png = stem.with_name(f"{stem.name}_panoptic.png")
        self.save_png(png)
        content = {
            "images": [self.image_entry(self.name)],
            "annotations": [self.to_coco(self.name, png.name)],
            "categories": self.table.to_categories(),
        }
        files = [png, png.with_suffix(".json")]
        write_json(files[1], content)
        if overlay:
            files.append(stem.with_name(f"{stem.name}_overlay.png"))
            self.save_overlay(files[2])
        return files

    def save_png(self, path: str | os.PathLike[str]) -> None:
        """Write the ids as a panoptic PNG (``id = R + 256 G + 65536 B``)."""
        with atomic_write(path) as temporary:
            temporary.write_bytes(encode_panoptic_png(self.panoptic_seg))

    def save_overlay(self, path: str | os.PathLike[str], style: DrawStyle | None = None) -> None:
        """Write the drawing; the suffix chooses the format."""
        from mmpanoptic.visualization import write_picture

        write_picture(path, swapped(self.draw(style=style)))

    def save_heads(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write pictures of what the heads said.

        Args:
            folder: Gets ``NAME_center.png`` (the heatmap over the image) and ``NAME_offset.png``
                (of things), or for COPS the kinds of
                :func:`mmpanoptic.visualization.draw_multicut` and all of them on
                ``NAME_sheet.png``.

        Returns:
            list[Path]: The files.

        Raises:
            ValueError: If the result does not have the outputs of the heads.
        """
        if self.heads is None:
            raise ValueError(
                f"the result {self.name} has no outputs of heads; make the inferencer with "
                "keep_heads=True"
            )
        from mmpanoptic.visualization import write_picture

        pictures = self._draw_heads(self.heads)
        files = [Path(folder) / f"{self.name}_{kind}.png" for kind in pictures]
        for file, picture in zip(files, pictures.values(), strict=True):
            write_picture(file, picture)
        return files

    def _draw_heads(self, heads: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Draw RGB pictures by kind."""
        from mmpanoptic.visualization import (
            draw_heatmap,
            draw_multicut,
            draw_offsets,
            multicut_sheet,
        )

        image = swapped(self._load(None))
        if "class_cost" in heads:
            height, width = self.panoptic_seg.shape
            pictures = draw_multicut(heads, self.table, (height, width))
            result = swapped(self.draw())
            return {**pictures, "sheet": multicut_sheet(image, result, pictures)}
        isthing = np.array([False, *(segment["isthing"] for segment in self.segments_info)])
        return {
            "center": draw_heatmap(image, heads["center"][0]),
            "offset": draw_offsets(heads["offset"], isthing[self.panoptic_seg]),
        }

    def image_entry(self, image_id: int | str) -> dict[str, Any]:
        """Describe the image as an entry of ``images`` of a COCO-panoptic JSON."""
        height, width = self.panoptic_seg.shape
        file_name = self.name
        if self.image_path:
            file_name = (Path(self.name).parent / Path(self.image_path).name).as_posix()
        return {"id": image_id, "file_name": file_name, "height": height, "width": width}

    def _load(self, image: np.ndarray | None) -> np.ndarray:
        # Imported here: results can be used, and unpickled, without the data pipeline.
        from mmpanoptic.datasets.transforms import LoadImage

        image = self.image if image is None else image
        if image is None and self.image_path is None:
            raise ValueError(f"the result {self.name} knows no image; pass it to draw()")
        loaded: np.ndarray = LoadImage().transform({"img": image, "img_path": self.image_path})[
            "img"
        ]
        return loaded
