"""A semantic model (DeepLabV3+) goes through the same tools as the panoptic ones."""

import json
import re

import cv2
import numpy as np
import pytest
import torch

from mmpanoptic.apis import PanopticInferencer
from mmpanoptic.datasets.shapes import SHAPES_TABLE
from tests.reference.load_panoptic import load_panoptic

CONFIG = "deeplabv3plus_r18-tiny_1xb8-1k_shapes"


def test_it_trains_and_tests_with_mean_iou_and_draws(run_script, shapes_root):
    options = ["--cfg-options", f"data_root={shapes_root}", "max_iters=3", "warmup_iters=1"]
    options += ["batch_size=2", "num_workers=0"]
    run_script("train.py", CONFIG, "--work-dir", "run", *options)
    work = run_script.folder / "run"
    done = run_script("test.py", CONFIG, work, "--work-dir", "tested", *options)
    inferencer = PanopticInferencer(CONFIG, work, device="cpu")
    expected = pytest.approx(100 * mean_iou(inferencer, shapes_root), abs=1e-3)
    scalars = [json.loads(line) for line in next(work.glob("*/vis_data/scalars.json")).open()]
    assert max(row.get("semantic/mIoU", 0.0) for row in scalars) == expected, "the best is taken"
    assert float(re.findall(r"semantic/mIoU: ([\d.]+)", done.stdout + done.stderr)[-1]) == expected
    losses = [row["loss_semantic"] for row in scalars if "loss_semantic" in row]
    chance = np.log(len(SHAPES_TABLE))
    assert losses
    assert all(0.3 * chance < loss < 3 * chance for loss in losses), "a network that knows nothing"
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    (result,) = inferencer(image)
    assert result.panoptic_seg.shape == (50, 70)
    assert (result.panoptic_seg > 0).all()
    assert result.draw(image).shape == image.shape
    assert torch.load(work / "iter_3.pth", weights_only=True)["state_dict"]


def mean_iou(inferencer, root):
    """Mean IoU over the classes that occur, from maps of the inferencer."""
    path = root / "annotations" / "panoptic_val.json"
    content = json.loads(path.read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    label_of = {label.dataset_id: label.index for label in SHAPES_TABLE}
    matrix = np.zeros((len(SHAPES_TABLE), len(SHAPES_TABLE)), np.int64)
    for annotation in content["annotations"]:
        segments = [s | {"label": label_of[s["category_id"]]} for s in annotation["segments_info"]]
        png = (path.with_suffix("") / annotation["file_name"]).read_bytes()
        truth, _ = load_panoptic(png, segments)
        (result,) = inferencer(cv2.imread(str(root / "val" / names[annotation["image_id"]])))
        labels = [255, *(segment["label"] for segment in result.segments_info)]
        found = np.array(labels)[result.panoptic_seg]
        known = truth != 255
        np.add.at(matrix, (truth[known], found[known]), 1)
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return (matrix.diagonal()[union > 0] / union[union > 0]).mean()
