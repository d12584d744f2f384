"""Instances of SOLOv2 on disk: one file per image, found by the image's id."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.structures import BoxedMasks
from mmpanoptic.utils.files import atomic_write

from .solov2_selection import GridInstances

FORMAT = 1
SUFFIX = ".npz"
MARGIN = 3
"""Cells around a mask whose logits are kept: a pixel is mixed from at most three per axis."""
FAR = -1e4
"""Logit of the cells that are not kept; no pixel inside a mask's box depends on them."""
ARRAYS = ("labels", "scores", "masks")
LOGIT_ARRAYS = ("logit_windows", "logits")


@dataclass(frozen=True)
class SavedInstances:
    """The instances of one image, as a file holds them.

    Attributes:
        image_id (Any): The dataset's id of the image, a number or a text.
        classes (tuple[str, ...]): Names of the thing classes; ``labels`` are their positions.
        labels (Tensor): int64 ``(K,)``.
        scores (Tensor): float32 ``(K,)``.
        masks (Tensor): bool ``(K, H, W)`` at the size of the original image.
        grid (GridInstances | None): The same instances with logits; None if those were left out.
        model (str): What made them, such as a checkpoint's hash.
    """

    image_id: Any
    classes: tuple[str, ...]
    labels: Tensor
    scores: Tensor
    masks: Tensor
    grid: GridInstances | None = None
    model: str = ""


def instance_path(folder: str | os.PathLike[str], image_id: Any) -> Path:
    """Name the file of an image: its id, with what file names cannot hold escaped."""
    return Path(folder) / f"{quote(str(image_id), safe='')}{SUFFIX}"


def write_instances(folder: str | os.PathLike[str], saved: SavedInstances) -> Path:
    """Write the instances of an image.

    Args:
        folder: Where the file goes; it is made if needed.
        saved (SavedInstances): What to write.

    Returns:
        Path: The file.
    """
    meta: dict[str, Any] = {
        "format": FORMAT,
        "image_id": saved.image_id,
        "classes": list(saved.classes),
        "size": list(saved.masks.shape[1:]),
        "model": saved.model,
    }
    arrays: dict[str, Any] = {
        "labels": saved.labels.cpu().numpy(),
        "scores": saved.scores.cpu().numpy(),
        "masks": np.packbits(saved.masks.cpu().numpy(), axis=2),
    }
    if saved.grid is not None:
        windows, values = _cut_logits(saved.grid)
        arrays["logit_windows"], arrays["logits"] = windows.numpy(), values.numpy()
        meta["grid"] = list(saved.grid.logits.shape[1:])
        meta["stride"] = saved.grid.stride
        meta["img_shape"] = list(saved.grid.img_shape)
        meta["mask_thr"] = saved.grid.mask_thr
    path = instance_path(folder, saved.image_id)
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, meta=np.array(json.dumps(meta)), **arrays)
    return path


def read_instances(path: str | os.PathLike[str]) -> SavedInstances:
    """Read the instances of an image.

    Raises:
        ValueError: If the file is none of :func:`write_instances`.
    """
    with _open(path) as data:
        meta = _meta(data, path)
        arrays = {name: data[name] for name in (*ARRAYS, *LOGIT_ARRAYS) if name in data}
    labels, scores = torch.from_numpy(arrays["labels"]), torch.from_numpy(arrays["scores"])
    height, width = meta["size"]
    masks = np.unpackbits(arrays["masks"], axis=2, count=width).view(bool)
    if not len(labels) == len(scores) == len(masks) or masks.shape[1:] != (height, width):
        raise ValueError(f"{path}: labels, scores, masks and size do not agree; save it again")
    grid = None
    if "grid" in meta:
        windows, values = (torch.from_numpy(arrays[name]) for name in LOGIT_ARRAYS)
        logits = _paste_logits(BoxedMasks(windows, values, tuple(meta["grid"])))
        grid = GridInstances(
            scores,
            labels,
            logits,
            meta["stride"],
            tuple(meta["img_shape"]),
            (int(height), int(width)),
            meta["mask_thr"],
        )
    return SavedInstances(
        meta["image_id"],
        tuple(meta["classes"]),
        labels,
        scores,
        torch.from_numpy(masks),
        grid,
        meta["model"],
    )


def find_instance_files(folder: str | os.PathLike[str]) -> dict[Any, Path]:
    """Find the file of every image by the id that is written in it; names do not matter.

    Args:
        folder: With the files of :func:`write_instances`.

    Returns:
        dict: Path by image id.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If two files are of one image, or one is something else.
    """
    found: dict[Any, Path] = {}
    for path in sorted(Path(folder).glob(f"*{SUFFIX}")):
        with _open(path) as data:
            image_id = _meta(data, path)["image_id"]
        if image_id in found:
            raise ValueError(
                f"{found[image_id]} and {path} are both of the image {image_id!r}; keep one of them"
            )
        found[image_id] = path
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no saved instances (*{SUFFIX}); make them with tools/save_instances.py"
        )
    return found


def check_unique(image_ids: Sequence[Any]) -> None:
    """Check that no two images would share a file.

    Raises:
        ValueError: If they would.
    """
    seen: dict[str, Any] = {}
    for image_id in image_ids:
        name = instance_path("", image_id).name.casefold()
        if name in seen:
            raise ValueError(
                f"the image ids {seen[name]!r} and {image_id!r} would share the file {name}; "
                "every image needs an id of its own"
            )
        seen[name] = image_id


def _open(path: str | os.PathLike[str]) -> Any:
    try:
        return np.load(path)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is no file of saved instances ({error}); make it with tools/save_instances.py"
        ) from error


def _meta(data: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    meta = json.loads(str(data["meta"])) if "meta" in data else {}
    if meta.get("format") != FORMAT or any(name not in data for name in ARRAYS):
        raise ValueError(
            f"{path} is no file of saved instances of format {FORMAT}; make it with "
            "tools/save_instances.py"
        )
    return meta


def _cut_logits(grid: GridInstances) -> tuple[Tensor, Tensor]:
    """Cut logits down to the cells that the pixels inside the masks' boxes depend on."""
    logits = grid.logits
    height, width = logits.shape[1:]
    windows = BoxedMasks.from_full(logits > grid.logit_thr).windows.cpu()
    empty = windows[:, 2] == windows[:, 0]
    windows = windows + torch.tensor([-MARGIN, -MARGIN, MARGIN, MARGIN])
    limit = torch.tensor([width, height, width, height])
    windows = torch.minimum(windows.clamp(min=0), limit).masked_fill(empty[:, None], 0)
    parts = [
        one[y0:y1, x0:x1].flatten()
        for one, (x0, y0, x1, y1) in zip(logits.float().cpu(), windows.tolist(), strict=True)
    ]
    return windows, torch.cat(parts) if parts else torch.zeros(0)


def _paste_logits(cut: BoxedMasks) -> Tensor:
    full = torch.full((len(cut), *cut.size), FAR)
    for k in range(len(cut)):
        full[(k, *cut.slices(k))] = cut.crop(k)
    return full
