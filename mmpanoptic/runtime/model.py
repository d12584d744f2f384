"""Segment images with an exported model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.apis.panoptic_result import PanopticResult, describe_segment
from mmpanoptic.structures import LabelTable

from .model_file import ModelFile
from .multicut import MulticutRules, fuse

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
COLUMNS = 6


class PanopticRuntime:
    """Segment images with what ``mmpanoptic export --end-to-end`` wrote.

    Results are those of :class:`mmpanoptic.apis.PanopticInferencer`, up to rounding. Drawing them
    needs OpenCV.

    Args:
        model: Folder or ``.onnx`` file.
        threads (int | None): Of onnxruntime; None leaves the number to it.
        providers (Sequence[str]): Of onnxruntime, the first that is there counts.
        score_thr (float | None): Leave out things of a lower score; None takes that of the export.

    Raises:
        FileNotFoundError: If a file is missing.
        ModelFileError: If the files are of another kind.

    Example:
        >>> runtime = PanopticRuntime("exported")
        >>> result = runtime("street.jpg")[0]
        >>> result
        PanopticResult(street, 640 x 480: 3 car, 1 road)
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        score_thr: float | None = None,
    ) -> None:
        import onnxruntime

        self.file = ModelFile.read(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; warnings are about the graph, which is as it is
        if threads is not None:
            options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            os.fspath(self.file.graph), options, providers=list(providers)
        )
        self.names = [output.name for output in self.session.get_outputs()]
        self.score_thr = self.file.score_thr if score_thr is None else score_thr
        self.rules = MulticutRules(**self.file.multicut) if self.file.kind == "multicut" else None

    @property
    def table(self) -> LabelTable:
        """The classes."""
        return self.file.table

    def __call__(self, inputs: Any, channels: str = "bgr") -> list[PanopticResult]:
        """Segment images.

        Args:
            inputs: A file, a folder, a uint8 array ``(H, W, 3)``, or an iterable of them.
            channels (str): Order of the channels of arrays, ``bgr`` or ``rgb``.

        Returns:
            list[PanopticResult]: In the order of the inputs, of a folder sorted by name.

        Raises:
            FileNotFoundError: If a file is not there.
            ValueError: If an array is no image, or the graph takes images of another size.
        """
        return list(self.iterate(inputs, channels))

    def iterate(self, inputs: Any, channels: str = "bgr") -> Iterator[PanopticResult]:
        """Segment images one after the other; see :meth:`__call__`."""
        if channels not in ("bgr", "rgb"):
            raise ValueError(f"channels must be bgr or rgb, got {channels!r}")
        single = isinstance(inputs, str | os.PathLike | np.ndarray)
        if not single and not isinstance(inputs, Iterable):
            raise TypeError(
                "expected an image as path, folder or array (H, W, 3), or several of them, got "
                f"{type(inputs).__name__}"
            )
        for item in [inputs] if single else inputs:
            if isinstance(item, np.ndarray):
                rgb = item if channels == "rgb" else item[..., ::-1]
                yield self.segment(rgb, "image")
                continue
            for path in list_files(Path(item).expanduser()):
                yield self.segment(read_image(path), path.stem, str(path))

    def segment(
        self, image: np.ndarray, name: str = "image", path: str | None = None
    ) -> PanopticResult:
        """Segment one image.

        Args:
            image (np.ndarray): uint8 RGB ``(H, W, 3)``.
            name (str): Of the result.
            path (str | None): Its file.

        Returns:
            PanopticResult: At the size of the image.
        """
        check_image(image, self.session.get_inputs()[0].shape)
        image = np.ascontiguousarray(image)
        arrays = self.session.run(None, {"image": image})
        found = dict(zip(self.names, arrays, strict=True))
        if self.rules is None:
            ids, rows = found["panoptic_ids"], found["segments"]
        else:
            ids, rows = fuse(found, image.shape[:2], self.rules)
        result = PanopticResult(
            name,
            ids,
            describe(ids, rows, self.table),
            self.table,
            path,
            None if path else np.ascontiguousarray(image[..., ::-1]),
        )
        return result.without_things_below(self.score_thr) if self.score_thr > 0 else result


def describe(ids: np.ndarray, rows: np.ndarray, table: LabelTable) -> list[dict[str, Any]]:
    """List the segments of a map.

    Args:
        ids (np.ndarray): int32 ``(H, W)``.
        rows (np.ndarray): float ``(N, 6)``: label, score, x0, y0, x1, y1 of the segments 1 to N.
        table (LabelTable): The classes.

    Returns:
        list[dict]: See :attr:`PanopticResult.segments_info`.
    """
    areas = np.bincount(ids.ravel(), minlength=len(rows) + 1)[1:]
    segments = []
    for number, (row, area) in enumerate(zip(rows.tolist(), areas.tolist(), strict=True), 1):
        x0, y0, x1, y1 = row[2:COLUMNS]
        bbox = (x0, y0, x1 - x0, y1 - y0)
        label = table.labels[int(row[0])]
        segments.append(describe_segment(number, label, row[1], area, bbox))
    return segments


def check_image(image: np.ndarray, expected: Sequence[Any]) -> None:
    """Refuse what is no image, or of a size that the graph does not take.

    Raises:
        ValueError: If so.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    fixed = tuple(expected[:2])
    if all(isinstance(side, int) for side in fixed) and fixed != image.shape[:2]:
        raise ValueError(
            f"the model was exported for images of {fixed[0]} x {fixed[1]} pixels (height x "
            f"width), this one has {image.shape[0]} x {image.shape[1]}; resize it, or export "
            "without --size"
        )


def list_files(path: Path) -> list[Path]:
    """List the images of a folder by name, or the file itself.

    Raises:
        FileNotFoundError: If there is nothing.
    """
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise FileNotFoundError(f"the folder {path} holds no image")
        return found
    if not path.is_file():
        raise FileNotFoundError(f"there is no image {path}")
    return [path]


def read_image(path: Path) -> np.ndarray:
    """Decode a file with Pillow and apply its orientation: uint8 RGB ``(H, W, 3)``.

    Raises:
        ValueError: If it is no image of 8 bits.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"{path}: the image has the mode {image.mode}, not 8 bits")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be decoded: {error}") from error
