"""What a camera sees, and the drawings of a video's frames as a video."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np


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
