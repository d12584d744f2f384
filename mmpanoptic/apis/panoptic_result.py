"""What inference returns for one image."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.structures import PixelData

from mmpanoptic.structures import LabelTable
from mmpanoptic.utils import atomic_write, write_json
from mmpanoptic.utils.panoptic_png import encode_panoptic_png
from mmpanoptic.visualization import (
    DrawStyle,
    draw_heatmap,
    draw_multicut,
    draw_offsets,
    draw_panoptic,
    multicut_sheet,
    write_picture,
)


@dataclass
class PanopticResult:
    """Panoptic segmentation of one image.

    Attributes:
        name (str): Name of the image without suffix; files are named after it.
        panoptic_seg (np.ndarray): int32 segment ids ``(H, W)``, 0 is void.
        segments_info (list[dict]): Of each segment ``id``, ``category_id`` (of the dataset),
            ``label`` (contiguous), ``name``, ``isthing``, ``score``, ``area`` in pixels and
            ``bbox`` as x, y, w, h (x + w exclusive); the k-th has the id k.
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
            segments.append(
                {
                    "id": number,
                    "category_id": label.dataset_id,
                    "label": label.index,
                    "name": label.name,
                    "isthing": label.isthing,
                    "score": float(segment["score"]),
                    "area": int(segment["area"]),
                    "bbox": [int(value) for value in segment["bbox"]],
                }
            )
        return cls(name, index_map, segments, table, image_path, image)

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

    def to_coco(self, image_id: int | str, file_name: str) -> dict[str, Any]:
        """Describe the result as an entry of ``annotations`` of a COCO-panoptic JSON.

        Args:
            image_id (int | str): Id of the image.
            file_name (str): Name of the PNG.

        Returns:
            dict: Plain values.
        """
        keys = ("id", "category_id", "isthing", "score", "area", "bbox")
        segments = [{key: segment[key] for key in keys} for segment in self.segments_info]
        return {"image_id": image_id, "file_name": file_name, "segments_info": segments}

    def draw(self, image: np.ndarray | None = None, style: DrawStyle | None = None) -> np.ndarray:
        """Draw the segments over the image.

        Args:
            image (np.ndarray | None): uint8 BGR ``(H, W, 3)``; by default the image that was
                segmented, read again if it came from a file.
            style (DrawStyle | None): How to draw.

        Returns:
            np.ndarray: uint8 BGR ``(H, W, 3)``, as OpenCV shows and writes it.
        """
        picture = draw_panoptic(
            cv2.cvtColor(self._load(image), cv2.COLOR_BGR2RGB),
            self.panoptic_seg,
            self.segments_info,
            self.table,
            style,
        )
        return cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)

    def save(self, folder: str | os.PathLike[str], overlay: bool = True) -> list[Path]:
        """Write ``NAME_panoptic.png`` (ids), ``NAME_panoptic.json`` and ``NAME_overlay.png``.

        Args:
            folder: Made if missing.
            overlay (bool): Write the drawing, too.

        Returns:
            list[Path]: The files.
        """
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
        write_picture(path, cv2.cvtColor(self.draw(style=style), cv2.COLOR_BGR2RGB))

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
        pictures = self._draw_heads(self.heads)
        files = [Path(folder) / f"{self.name}_{kind}.png" for kind in pictures]
        for file, picture in zip(files, pictures.values(), strict=True):
            write_picture(file, picture)
        return files

    def _draw_heads(self, heads: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Draw RGB pictures by kind."""
        image = cv2.cvtColor(self._load(None), cv2.COLOR_BGR2RGB)
        if "class_cost" in heads:
            height, width = self.panoptic_seg.shape
            pictures = draw_multicut(heads, self.table, (height, width))
            result = cv2.cvtColor(self.draw(), cv2.COLOR_BGR2RGB)
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
