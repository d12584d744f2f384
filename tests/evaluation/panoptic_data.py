"""A small file set with ground truth, predictions and the data samples that go with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmpanoptic.structures import LabelTable, make_panoptic_data, to_mmdet_panoptic
from mmpanoptic.utils.panoptic_png import encode_panoptic_png
from tests.reference.panoptic_maps import CATEGORIES, annotate, draw_map, perturb_map

TABLE = LabelTable.from_categories(CATEGORIES)


@dataclass
class FileSet:
    """Paths and, per image, the predicted index map with its category ids."""

    folder: Path
    predictions: list[tuple[np.ndarray, list[int]]]
    annotations: list[dict[str, Any]]

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.folder / "gt.json", self.folder / "pred.json"

    def sample(self, index: int, form: str = "index_map") -> DetDataSample:
        """Make the data sample of an image, with its prediction in the given form."""
        annotation = self.annotations[index]
        png = self.folder / "gt" / annotation["file_name"]
        sample = DetDataSample(
            metainfo={
                "sample_idx": index,
                "img_id": annotation["image_id"],
                "img_path": str(png.with_suffix(".jpg")),
                "seg_map_path": str(png),
                "segments_info": annotation["segments_info"],
            }
        )
        sample.pred_panoptic_seg = FORMS[form](*self.predictions[index])
        return sample


def _infos(categories: list[int]) -> list[dict[str, Any]]:
    labels = [TABLE.by_dataset_id(category) for category in categories]
    return [
        {"id": k, "label": label.index, "isthing": label.isthing, "score": 0.5}
        for k, label in enumerate(labels, 1)
    ]


def as_index_map(index: np.ndarray, categories: list[int]) -> PixelData:
    return make_panoptic_data(index, _infos(categories))


def as_id_map(index: np.ndarray, categories: list[int]) -> PixelData:
    ids = np.array([0, *(7919 * k % 100003 for k in range(1, len(categories) + 1))])
    info = [
        {"id": int(ids[k + 1]), "category_id": category} for k, category in enumerate(categories)
    ]
    data = PixelData(metainfo={"segments_info": info})
    data.id_map = torch.from_numpy(ids[index])[None]
    return data


def as_mmdet(index: np.ndarray, categories: list[int]) -> PixelData:
    return PixelData(sem_seg=to_mmdet_panoptic(as_index_map(index, categories), len(TABLE)))


FORMS: dict[str, Callable[[np.ndarray, list[int]], PixelData]] = {
    "index_map": as_index_map,
    "id_map": as_id_map,
    "mmdet": as_mmdet,
}


def write_file_set(folder: Path, sizes: list[tuple[int, int]], seed: int = 0) -> FileSet:
    """Write images of the given sizes with plausible predictions.

    Stuff appears once per category in a prediction, since mmdet's form cannot tell two apart.
    """
    rng = np.random.default_rng(seed)
    gt, pred, predictions = [], [], []
    for name in ("gt", "pred"):
        (folder / name).mkdir(parents=True)
    for number, (height, width) in enumerate(sizes):
        index, categories = draw_map(rng, height, width, num_stuff=4, num_things=6)
        ids, info = annotate(rng, index, categories)
        moved, guesses = perturb_map(rng, index, categories)
        moved, guesses = _merge_stuff(moved, guesses)
        file_name = f"{number:06d}.png"
        gt.append({"image_id": 100 + number, "file_name": file_name, "segments_info": info})
        listed = [{"id": k, "category_id": c} for k, c in enumerate(guesses, 1)]
        pred.append({"image_id": 100 + number, "file_name": file_name, "segments_info": listed})
        (folder / "gt" / file_name).write_bytes(encode_panoptic_png(ids))
        (folder / "pred" / file_name).write_bytes(encode_panoptic_png(moved))
        predictions.append((moved, guesses))
    content = {"annotations": gt, "categories": CATEGORIES}
    (folder / "gt.json").write_text(json.dumps(content))
    (folder / "pred.json").write_text(json.dumps({"annotations": pred}))
    return FileSet(folder, predictions, gt)


def _merge_stuff(index: np.ndarray, categories: list[int]) -> tuple[np.ndarray, list[int]]:
    kept: list[int] = []
    table = np.zeros(len(categories) + 1, np.int32)
    for k, category in enumerate(categories, 1):
        stuff = not TABLE.by_dataset_id(category).isthing
        if stuff and category in kept:
            table[k] = kept.index(category) + 1
        else:
            kept.append(category)
            table[k] = len(kept)
    return table[index], kept
