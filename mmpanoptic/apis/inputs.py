"""What can be segmented: files, folders, patterns, videos, addresses, and images in memory."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import cv2
import numpy as np
import torch

from mmpanoptic.utils.format_errors import format_error
from mmpanoptic.utils.image_bytes import ImageDamageError, decode_image
from mmpanoptic.utils.image_files import list_images

from .videos import camera_frames

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
)

ImageInput = Any
"""Path, folder, pattern, address, video, number of a camera, encoded bytes, NumPy array, PIL image
or torch tensor, see :func:`iter_sources`."""
CHANNELS = ("bgr", "rgb")
TIMEOUT = 30
"""Seconds without an answer after which a server is given up."""


@dataclass(frozen=True)
class ImageSource:
    """One image to segment.

    Attributes:
        name (str): Unique among the inputs of a call; may contain folders.
        path (str | None): Its file.
        image (np.ndarray | None): uint8 BGR, ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``.
        video (str | None): File of the video that it is a frame of.
    """

    name: str
    path: str | None = None
    image: np.ndarray | None = None
    video: str | None = None

    def to_sample(self) -> dict[str, Any]:
        """Return what the test pipeline starts with."""
        return {"img": self.image, "img_path": self.path, "img_id": self.name}


def iter_sources(
    inputs: ImageInput | Iterable[ImageInput], channels: str = "bgr"
) -> Iterator[ImageSource]:
    """Turn any input into single images with unique names.

    Args:
        inputs: One of the following, or an iterable of them; a generator of frames is read one by
            one.

            - ``str`` or path: an image; a folder with sub-folders, hidden files left out; a pattern
              (``photos/**/*.jpg``); a video; an address (``https://...``) of an image.
            - ``int``: number of a camera, whose frames come until it ends.
            - ``bytes``: an encoded image (JPEG, PNG, ...).
            - ``np.ndarray``: uint8 ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` in the order of
              ``channels``; four axes are a batch ``(N, H, W, C)``.
            - ``PIL.Image.Image``: any mode of 8 bits.
            - ``torch.Tensor``: RGB ``(3, H, W)`` or ``(N, 3, H, W)``, uint8 or float in [0, 1].

            The EXIF orientation of files, bytes and PIL images is applied.
        channels (str): Order of the channels of arrays, ``bgr`` (as OpenCV reads) or ``rgb``.

    Yields:
        ImageSource: In order; of a folder or pattern, sorted by path; of a video, its frames,
        which are read when they are asked for.

    Raises:
        FileNotFoundError: If a path is not there.
        TypeError: If an input is something else.
        ValueError: If a folder holds no image, or ``channels`` is neither.
        PanopticFormatError: If bytes or what a server gives is no image.
    """
    if channels not in CHANNELS:
        raise ValueError(f"channels must be bgr or rgb, got {channels!r}")
    used: dict[str, int] = {}
    for item in inputs if _holds_several(inputs) else [inputs]:
        for source in _expand(item, channels):
            yield replace(source, name=_unique(source.name, used))


def _holds_several(inputs: Any) -> bool:
    single = str | bytes | os.PathLike | np.ndarray | torch.Tensor
    return isinstance(inputs, Iterable) and not isinstance(inputs, single)


def _expand(item: Any, channels: str) -> Iterator[ImageSource]:
    if isinstance(item, str | os.PathLike):
        if isinstance(item, str) and item.startswith(("http://", "https://")):
            name = unquote(Path(urlsplit(item).path).stem) or "image"
            yield ImageSource(name, None, _decode(_download(item), item))
        else:
            yield from _expand_path(item)
    elif isinstance(item, int) and not isinstance(item, bool):
        for number, frame in enumerate(camera_frames(item), 1):
            yield ImageSource(f"camera{item}/{number:06d}", None, frame)
    else:
        for image in _in_memory(item, channels):
            yield ImageSource("image", image=image)


def _in_memory(item: Any, channels: str) -> Iterator[np.ndarray]:
    """Yield images in memory as BGR; those that are no image are left to the loader's message."""
    if isinstance(item, bytes | bytearray | memoryview):
        yield _decode(bytes(item), "<bytes>")
    elif isinstance(item, torch.Tensor):
        yield from _from_tensor(item)
    elif isinstance(item, np.ndarray):
        for image in item if item.ndim == 4 else (item,):
            yield _swapped(image) if channels == "rgb" and image.ndim == 3 else image
    elif hasattr(item, "getexif") and hasattr(item, "convert"):  # PIL, which is not imported
        from PIL import ImageOps

        if str(item.mode).startswith(("I", "F")):
            raise format_error("bad_image_mode", f"the image has the mode {item.mode}", "<PIL>")
        yield _swapped(np.asarray(ImageOps.exif_transpose(item).convert("RGB")))
    else:
        raise TypeError(
            "expected an image as path, folder, address, array (H, W, 3), PIL image, tensor "
            f"(3, H, W) or bytes, a camera's number, or several of them, got {type(item).__name__}"
        )


def _swapped(image: np.ndarray) -> np.ndarray:
    """Exchange red and blue; a fourth channel stays."""
    order = [2, 1, 0, *range(3, image.shape[2])] if image.shape[2] >= 3 else [0]
    return np.ascontiguousarray(image[..., order])


def _from_tensor(tensor: torch.Tensor) -> Iterator[np.ndarray]:
    if tensor.ndim not in (3, 4) or tensor.shape[-3] != 3:
        raise ValueError(
            f"a tensor must be RGB (3, H, W) or (N, 3, H, W), got {tuple(tensor.shape)}"
        )
    if tensor.is_floating_point():
        if not (tensor.min() >= 0 and tensor.max() <= 1):
            raise ValueError(
                "a float tensor must lie in [0, 1], as torchvision's do; normalisation is the "
                f"model's work. Got {tensor.min():.3g} to {tensor.max():.3g}"
            )
        tensor = (255 * tensor.float()).round().to(torch.uint8)
    elif tensor.dtype != torch.uint8:
        raise ValueError(f"a tensor must be uint8 or float in [0, 1], got {tensor.dtype}")
    for image in tensor if tensor.ndim == 4 else (tensor,):
        yield _swapped(image.permute(1, 2, 0).cpu().numpy())


def _decode(data: bytes, name: str) -> np.ndarray:
    """Decode a file in memory and apply its orientation."""
    try:
        return decode_image(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except ImageDamageError as error:
        raise format_error("corrupt_image", str(error), name) from error


def _download(address: str) -> bytes:
    if os.environ.get("MMPANOPTIC_OFFLINE", "0") not in ("", "0"):
        raise FileNotFoundError(f"{address} is not fetched: MMPANOPTIC_OFFLINE is set")
    request = Request(address, headers={"User-Agent": "mmpanoptic"})  # noqa: S310 - http(s) only
    try:
        with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310 - as above
            content: bytes = response.read()
            return content
    except (URLError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise FileNotFoundError(f"cannot fetch {address}: {reason}") from error


def _expand_path(item: str | os.PathLike[str]) -> Iterator[ImageSource]:
    path = Path(item).expanduser()
    if path.is_dir():
        for file in list_images(path):
            yield ImageSource(file.relative_to(path).with_suffix("").as_posix(), str(file))
    elif path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        for number, frame in enumerate(read_frames(path), 1):
            yield ImageSource(f"{path.stem}/{number:06d}", None, frame, str(path))
    elif path.is_file():
        yield ImageSource(path.stem, str(path))
    else:
        yield from _match(str(path), str(item))


def _match(pattern: str, typed: str) -> Iterator[ImageSource]:
    """Expand a pattern of paths, as a shell would; ``**`` stands for any folders."""
    found = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []
    if not found:
        kind = "file that matches" if glob.has_magic(pattern) else "image or folder"
        raise FileNotFoundError(f"there is no {kind} {typed!r}")
    for name in found:
        yield from _expand_path(name)


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """Decode a video frame by frame.

    Args:
        path (Path): The video.

    Yields:
        np.ndarray: uint8 BGR ``(H, W, 3)``.

    Raises:
        PanopticFormatError: If nothing can be decoded.
    """
    video = cv2.VideoCapture(str(path))
    try:
        promised, count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0
        while True:
            done, frame = video.read()
            if not done:
                break
            count += 1
            yield frame
    finally:
        video.release()
    if not count:
        raise format_error("corrupt_image", "cannot decode the video: no frame in it", path)
    if count < promised:
        warnings.warn(f"{path} has {promised} frames, of which {count} were decoded", stacklevel=2)


def _unique(name: str, used: dict[str, int]) -> str:
    """Number names that were used before: ``a``, ``a_2``, ``a_3``."""
    candidate, number = name, used.get(name, 1)
    while candidate in used:
        number += 1
        candidate = f"{name}_{number}"
    used[name] = number
    used.setdefault(candidate, 1)
    return candidate
