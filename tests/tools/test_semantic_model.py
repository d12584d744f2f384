"""A semantic model (DeepLabV3+) goes through the same tools as the panoptic ones."""

import json

import numpy as np
import torch

from mmpanoptic.apis import PanopticInferencer

CONFIG = "deeplabv3plus_r18-tiny_1xb8-1k_shapes"


def test_it_trains_and_tests_with_mean_iou_and_draws(run_script, shapes_root):
    options = ["--cfg-options", f"data_root={shapes_root}", "max_iters=3", "warmup_iters=1"]
    options += ["batch_size=2", "num_workers=0"]
    run_script("train.py", CONFIG, "--work-dir", "run", *options)
    work = run_script.folder / "run"
    scalars = [json.loads(line) for line in next(work.glob("*/vis_data/scalars.json")).open()]
    assert 0 <= scalars[-1]["semantic/mIoU"] <= 100
    assert all(np.isfinite(row["loss_semantic"]) for row in scalars if "loss_semantic" in row)
    done = run_script("test.py", CONFIG, work, "--work-dir", "tested", *options)
    assert "mIoU" in done.stdout
    inferencer = PanopticInferencer(CONFIG, work, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    (result,) = inferencer(image)
    assert result.panoptic_seg.shape == (50, 70)
    assert (result.panoptic_seg > 0).all()
    assert result.draw(image).shape == image.shape
    assert torch.load(work / "iter_3.pth", weights_only=True)["state_dict"]
