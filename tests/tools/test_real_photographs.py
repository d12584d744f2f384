"""Systems learn two real photographs by heart, from ImageNet weights: `make test-photos`.

Needs the photographs (MMPANOPTIC_REAL_MINI, or beside the repository) and EfficientNet-Lite0's
weights where `tools/weights.py info imagenet/efficientnet-lite0` says; minutes for each system.
"""

import json

import pytest

from mmpanoptic.checkpoints.weights import published
from tests.datasets.real_mini import REAL_MINI, needs_real_mini

LITE0 = "imagenet/efficientnet-lite0"
GOAL = 80.0
"""Least PQ on the two photographs."""

SETTINGS = {
    "train_seg": "annotations/panoptic_val2017/",
    "val_seg": "annotations/panoptic_val2017/",
    "train_img": "val2017/",
    "val_img": "val2017/",
    # the photographs as they are, cut nowhere
    "flip_prob": 0.0,
    "short_edge": 320,
    "max_size": 640,
    "crop_size": "(320,480)",
    "batch_size": 2,
    "num_workers": 0,
    # what comes last is saved and tested in any case
    "checkpoint_interval": 1000,
    "val_interval": 1000,
    "warmup_iters": 10,
    "model.backbone.frozen_stages": 7,
    "base_lr": 3e-3,
    "train_dataloader.persistent_workers": False,
    "val_dataloader.persistent_workers": False,
}

SYSTEMS = {
    "panoptic-deeplab_lite0_1xb4-5k_own": {
        "max_iters": 300,
        "model.instance_head.sigma": 6.0,
        "model.semantic_head.loss.top_k": 0.2,
        "model.semantic_head.small_instance_weight": 1.0,
        "model.fusion_head.nms_kernel": 7,
        "model.fusion_head.stuff_area": 0,
    },
    "cops_lite0_pretrain_1xb4-5k_own": {
        "max_iters": 450,
        "model.semantic_head.loss.top_k": 0.2,
        "model.fusion_head.instance_area": 16,
        "model.fusion_head.stuff_area": 0,
    },
    "panoptic-fpn_lite0_1xb4-5k_own": {"max_iters": 150, "model.fusion_head.stuff_area": 0},
    "efficientps-maskrcnn_lite0_1xb4-5k_own": {
        "max_iters": 150,
        "model.fusion_head.stuff_area": 0,
    },
    "efficientps-solov2_lite0_1xb4-5k_own": {
        "max_iters": 200,
        "model.fusion_head.fusion.stuff_area": 0,
    },
    "auto-panoptic_lite0_1xb4-5k_own": {"max_iters": 120, "model.fusion_head.stuff_area": 0},
}

needs_weights = pytest.mark.skipif(
    not published(LITE0).remote.path.exists(), reason=f"tools/weights.py info {LITE0} says how"
)


def used_classes(folder):
    """Write the annotation of the photographs with the classes that occur; of 133, most do not."""
    source = REAL_MINI / "coco" / "annotations" / "panoptic_val2017.json"
    content = json.loads(source.read_text())
    segments = (s for entry in content["annotations"] for s in entry["segments_info"])
    used = {segment["category_id"] for segment in segments}
    content["categories"] = [c for c in content["categories"] if c["id"] in used]
    path = folder / "panoptic.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
@needs_real_mini
@needs_weights
@pytest.mark.parametrize("config", SYSTEMS)
def test_a_system_learns_two_photographs(run_tool, config):
    annotation = used_classes(run_tool.folder)
    files = {
        "data_root": REAL_MINI / "coco",
        "train_ann_file": annotation,
        "val_ann_file": annotation,
    }
    settings = {**files, **SETTINGS, **SYSTEMS[config]}
    options = [f"{name}={value}" for name, value in settings.items()]
    run_tool("train.py", config, "--work-dir", "work", "--cfg-options", *options)
    (log,) = (run_tool.folder / "work").glob("*/vis_data/scalars.json")
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["coco_panoptic/PQ"] > GOAL
