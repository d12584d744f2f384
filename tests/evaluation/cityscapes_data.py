"""Cityscapes predictions as data samples, from golden files or made up."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.evaluation.cityscapes_files import read_instance_list
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS
from mmpanoptic.utils.label_png import read_label_png, read_mask_png

EVALUATED = [label for label in CITYSCAPES_LABELS if not label.ignored]
# Things first and train ids as dataset ids: nothing may depend on position or id.
ORDERED = sorted(EVALUATED, key=lambda label: not label.has_instances)
TABLE = LabelTable.from_categories(
    [{"id": x.train_id, "name": x.name, "isthing": int(x.has_instances)} for x in ORDERED]
)
METAINFO = TABLE.to_metainfo()
LABEL_OF_ID = {x.id: TABLE.by_name(x.name).index for x in EVALUATED}


def make_sample(
    index: int,
    img_path: Path,
    label_ids: np.ndarray,
    masks: np.ndarray,
    instance_ids: list[int],
    scores: list[float],
) -> DetDataSample:
    """Wrap predictions given in label ids; ignored ids become void, ignored instances vanish."""
    lookup = np.array([LABEL_OF_ID.get(i, 255) for i in range(len(CITYSCAPES_LABELS))])
    kept = [k for k, i in enumerate(instance_ids) if i in LABEL_OF_ID]
    sample = DetDataSample(
        metainfo={"img_path": str(img_path), "sample_idx": index, "img_id": img_path.stem}
    )
    sample.pred_sem_seg = PixelData(sem_seg=torch.from_numpy(lookup[label_ids])[None])
    sample.pred_instances = InstanceData(
        masks=torch.from_numpy(masks[kept]),
        labels=torch.tensor([LABEL_OF_ID[instance_ids[k]] for k in kept], dtype=torch.int64),
        scores=torch.tensor([scores[k] for k in kept], dtype=torch.float64),
    )
    return sample


def golden_samples(folder: Path) -> list[DetDataSample]:
    """Data samples of a golden folder, in the order of the images' paths."""
    samples = []
    for labels in sorted((folder / "gtFine" / "val").rglob("*_gtFine_labelIds.png")):
        image_id = labels.name.removesuffix("_gtFine_labelIds.png")
        image = folder / "leftImg8bit" / "val" / labels.parent.name
        predictions = folder / "predictions"
        listed = read_instance_list(predictions / "instance" / f"{image_id}_pred.txt")
        samples.append(
            make_sample(
                len(samples),
                image / f"{image_id}_leftImg8bit.png",
                read_label_png(predictions / "semantic" / f"{image_id}_pred_labelIds.png"),
                np.stack([read_mask_png(entry.mask) for entry in listed]),
                [entry.label for entry in listed],
                [entry.score for entry in listed],
            )
        )
    return samples


def write_truth(root: Path, image_id: str, labels: np.ndarray, instances: np.ndarray) -> Path:
    """Write ground truth in the official layout; return the path of the image, which is not."""
    city = image_id.split("_")[0]
    folder = root / "gtFine" / "val" / city
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{image_id}_gtFine_labelIds.png"), labels.astype(np.uint8))
    cv2.imwrite(str(folder / f"{image_id}_gtFine_instanceIds.png"), instances.astype(np.uint16))
    return root / "leftImg8bit" / "val" / city / f"{image_id}_leftImg8bit.png"


def random_scene(
    rng: np.random.Generator, shape: tuple[int, int] = (60, 90)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw label ids and instance values: stuff, instances, groups and ignored labels."""
    instances = np.zeros(shape, np.int64)
    for _ in range(40):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(2, 30, 2)
        label = CITYSCAPES_LABELS[rng.integers(0, len(CITYSCAPES_LABELS))]
        single = label.has_instances and rng.random() < 0.8
        value = label.id * 1000 + rng.integers(0, 3) if single else label.id
        instances[y : y + height, x : x + width] = value
    labels = np.where(instances >= 1000, instances // 1000, instances)
    return labels, instances
