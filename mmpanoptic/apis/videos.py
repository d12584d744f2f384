"""What a camera sees; a video's segments followed from frame to frame, drawn and listed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import cv2
import numpy as np

from mmpanoptic.utils import atomic_write

if TYPE_CHECKING:
    from .panoptic_result import PanopticResult


def camera_frames(number: int) -> Iterator[np.ndarray]:
    """Yield what a camera sees, one frame after another, until it ends.

    Args:
        number (int): Of the camera, from 0 on.

    Yields:
        np.ndarray: uint8 BGR ``(H, W, 3)``.

    Raises:
        ValueError: If OpenCV reads no frame of it.
    """
    capture = cv2.VideoCapture(number)
    try:
        found, frame = capture.read()
        if not found:
            raise ValueError(f"OpenCV reads no frame of the camera {number}; try another number")
        while found:
            yield frame
            found, frame = capture.read()
    finally:
        capture.release()


def frame_rate(source: str | os.PathLike[str]) -> float:
    """Return the frames per second of a video; 25 where the file does not say."""
    capture = cv2.VideoCapture(os.fspath(source))
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if np.isfinite(rate) and rate > 0 else 25.0


class Tracker:
    """Give the segments of a video numbers that stay: ``track_id`` in ``segments_info``.

    A thing keeps the number of the thing of the frame before of the same class that it shares most
    pixels with, if it shares at least a part of their union; stuff has the number of its class.
    This is for colours and counts of neighbouring frames; a thing that was hidden gets a new one.

    Args:
        iou_thr (float): Least intersection over union.
    """

    def __init__(self, iou_thr: float = 0.3) -> None:
        self.iou_thr = iou_thr
        self._before: PanopticResult | None = None
        self._number: Counter[int] = Counter()

    def add(self, result: PanopticResult) -> PanopticResult:
        """Number the segments of the next frame.

        Args:
            result (PanopticResult): Of the next frame; a frame of another video or of another size
                begins anew.

        Returns:
            PanopticResult: The same, with ``track_id`` in each of ``segments_info``.
        """
        before = self._before
        if before is None or before.video != result.video:
            self._number.clear()
            before = None
        elif before.panoptic_seg.shape != result.panoptic_seg.shape:
            before = None
        known = {} if before is None else self._match(before, result)
        for segment in result.segments_info:
            label = segment["label"]
            if not segment["isthing"]:
                segment["track_id"] = label
            elif segment["id"] in known:
                segment["track_id"] = known[segment["id"]]
            else:
                segment["track_id"] = self._number[label]
                self._number[label] += 1
        self._before = result
        return result

    def _match(self, before: PanopticResult, result: PanopticResult) -> dict[int, int]:
        """Return numbers of things by their id; the best pairs come first."""
        old, new = before.segments_info, result.segments_info
        pairs = before.panoptic_seg.astype(np.int64) * (len(new) + 1) + result.panoptic_seg
        counts = np.bincount(pairs.ravel(), minlength=(len(old) + 1) * (len(new) + 1))
        shared = counts.reshape(len(old) + 1, len(new) + 1)[1:, 1:]
        union = before.areas[:, None] + result.areas[None] - shared
        iou = np.where(before.labels[:, None] == result.labels[None], shared / union, 0.0)
        found: dict[int, int] = {}
        taken: set[int] = set()
        for place in np.argsort(-iou, axis=None, kind="stable"):
            row, column = divmod(int(place), len(new))
            if iou[row, column] < self.iou_thr:
                break
            if row in taken or column + 1 in found or not new[column]["isthing"]:
                continue
            taken.add(row)
            found[column + 1] = old[row]["track_id"]
        return found


class SegmentLines:
    """Write what is in the frames of videos as JSON lines, one file a video; use it with ``with``.

    A line is ``{"frame": 1, "segments": [{"id", "track_id", "name", "isthing", "score", "area",
    "box"}]}``; ``box`` is x1, y1, x2, y2 in pixels.

    Args:
        folder: Gets ``NAME.jsonl`` for each video.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._stack = ExitStack()
        self._files: dict[str, IO[str]] = {}

    def add(self, name: str, result: PanopticResult) -> None:
        """Append a frame.

        Args:
            name (str): Name of the video's results.
            result (PanopticResult): Of the frame.
        """
        if name not in self._files:
            temporary = self._stack.enter_context(atomic_write(self.folder / f"{name}.jsonl"))
            self._files[name] = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
        segments = [asdict(segment) for segment in result.segments]
        for segment in segments:
            del segment["label"], segment["category_id"]
        line = {"frame": int(result.name.rpartition("/")[2]), "segments": segments}
        self._files[name].write(json.dumps(line) + "\n")

    def __enter__(self) -> SegmentLines:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


class DrawingVideos:
    """Write the drawings of frames, one video per source; use it in a ``with`` block.

    Args:
        folder: Gets ``NAME.mp4`` for each video.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._writers: dict[str, cv2.VideoWriter] = {}

    def add(self, source: str, name: str, picture: np.ndarray) -> None:
        """Append a frame.

        Args:
            source (str): File of the video that it belongs to.
            name (str): Name of that video's results.
            picture (np.ndarray): uint8 BGR ``(H, W, 3)``.

        Raises:
            ValueError: If OpenCV cannot write the video.
        """
        if source not in self._writers:
            self._writers[source] = self._open(self.folder / f"{name}.mp4", source, picture)
        self._writers[source].write(picture)

    @staticmethod
    def _open(path: Path, source: str, picture: np.ndarray) -> cv2.VideoWriter:
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = picture.shape[:2]
        code = cv2.VideoWriter.fourcc(*"mp4v")  # which OpenCV's wheels write by themselves
        writer = cv2.VideoWriter(os.fspath(path), code, frame_rate(source), (width, height))
        if not writer.isOpened():
            raise ValueError(f"OpenCV cannot write {path}; leave the drawings out (--no-overlay)")
        return writer

    def __enter__(self) -> DrawingVideos:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._writers.values():
            writer.release()
