"""Make golden files of other seeds and sizes, with our own numbers in float64.

    python -m tests.parity.make_fixtures FOLDER
    MMPANOPTIC_GOLDEN=FOLDER make test-parity

They prove nothing about the originals. They prove that a test takes its parameters from the file,
and show how far rounding moves other numbers than those of the repository's files.

Each file is one of the repository with other inputs; the tests then run once in float64 and write
their results where they would compare them.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden import DEFAULT_ROOT, WRITE
from tests.parity.settings import FLOAT64

Arrays = dict[str, Any]
rng = np.random.RandomState(4)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def pixels(height: int, width: int) -> np.ndarray:
    return rng.randint(0, 256, (3, height, width)).astype(np.uint8)


def boxes(count: int, height: int, width: int) -> np.ndarray:
    """Boxes (1, count, 4) within an image."""
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), 1) * (width, height)
    return corners.reshape(1, count, 4).astype(np.float32)


def searched_heads(base: Arrays) -> Arrays:
    return {"meta": [13, 96, 64, 1], "boxes": boxes(12, 96, 64), "bbox_deltas": np.zeros((12, 324))}


def segmentation_loss(base: Arrays) -> Arrays:
    sizes = [[40, 96], [64, 70], [33, 33]]
    labels = [np.where(rng.rand(*s) < 0.2, 255, rng.randint(0, 54, s)) for s in sizes]
    targets = {f"target{i}": label.astype(np.uint8) for i, label in enumerate(labels)}
    attention = rng.uniform(0.2, 0.9, (4, 3, 128)).astype(np.float32)
    logits = np.zeros((3, 6, 32, 48), np.float32)  # an image of 64 x 96
    return {"seed": [32], "sizes": sizes, "attention": attention, "logits_sub": logits, **targets}


def supernet(base: Arrays) -> Arrays:
    groups = [(40, 4), (7, 6), (9, 3)]  # number of decisions, of their choices
    paths = np.concatenate([rng.randint(0, n, (len(base["paths"]), k)) for k, n in groups], 1)
    return {"meta": [22, 64, 96, 1], "paths": paths, "roi_feature_seed": [77]}


def recalibration(base: Arrays) -> Arrays:
    """Another path, but through the layers that the file names."""
    path = rng.randint(0, 4, len(base["path"]))
    path[40:] = base["path"][40:]
    kept = {int(name.split(".")[1]) for name in base["layers"]}
    path[sorted(kept)] = base["path"][sorted(kept)]
    return {"path": path, "seeds": [401, 411, 421], "meta": [96, 96, 2]}


def operations(base: Arrays) -> Arrays:
    return {
        "head_in": floats(2, 64, 7, 13),
        "block_in": floats(1, 24, 9, 12),
        "se_in": floats(4, 1024),
    }


def padded(height: int, width: int) -> Callable[[Arrays], Arrays]:
    """An image that COPS pads to multiples of its crop."""

    def change(base: Arrays) -> Arrays:
        divisor = int(base["crop"][0])
        features = [math.ceil(side / divisor) * divisor // 4 for side in (height, width)]
        sizes = {"height": height, "width": width, "out_height": height, "out_width": width}
        return {"image_seed": 31, **sizes, "res2_shape": [1, 256, *features]}

    return change


def cityscapes(base: Arrays) -> Arrays:
    sizes = {"height": 256, "width": 352, "out_height": 256, "out_width": 352}
    return {"image_seed": 24, **sizes, "crop": [256, 352], "res2_shape": [1, 256, 64, 88]}


def cops_losses(base: Arrays) -> Arrays:
    size = (3, 24, 40)
    made = {
        "sem_logits": 2 * floats(3, 5, 6, 10),
        "sem_target": np.where(rng.rand(*size) < 0.1, 255, rng.randint(0, 5, size)),
        "sem_weight": rng.choice([1, 3], size).astype(np.float32),
    }
    for distance in (1, 4):
        made[f"aff_logits_{distance}"] = floats(3, 2, 10, 14)
        made[f"aff_target_{distance}"] = rng.randint(0, 2, (3, 2, 10, 14)).astype(np.float32)
        made[f"aff_weight_{distance}"] = rng.choice([0, 1, 4], (3, 2, 10, 14)).astype(np.float32)
    return made


def rap_semantic_loss(base: Arrays) -> Arrays:
    labels = {
        f"label_{i}": rng.randint(0, 55, s) for i, s in enumerate([(90, 60), (96, 64), (70, 50)])
    }
    return {"seed": 45, "padded_size": [96, 64], **labels}


def semantic_labels(base: Arrays) -> Arrays:
    size = (3, 1, 16, 24)
    return {"seed": 81, "labels": np.where(rng.rand(*size) < 0.1, 255, rng.randint(0, 19, size))}


def fixed(**changes: Any) -> Callable[[Arrays], Arrays]:
    return lambda base: changes


# File, name of the new one, and what is changed in it.
CASES: list[tuple[str, str, Callable[[Arrays], Arrays]]] = [
    ("auto_panoptic/searched_coco_forward", "", fixed(meta=[12, 96, 64, 2])),
    ("auto_panoptic/searched_coco_heads", "", searched_heads),
    (
        *("auto_panoptic/searched_coco_detect", ""),
        fixed(meta=[14, 96, 64, 1], ori_sizes=[[70, 47]]),
    ),
    ("auto_panoptic/seg_loss", "", segmentation_loss),
    ("auto_panoptic/supernet_paths", "", supernet),
    ("auto_panoptic/bn_recalibration", "", recalibration),
    ("auto_panoptic/ops", "", operations),
    ("cops/network_cityscapes", "", cityscapes),
    ("cops/network_coco", "_padded", padded(150, 180)),
    ("cops/network_coco", "_several_crops", padded(200, 300)),
    ("cops/losses", "", cops_losses),
    ("efficientps_solov2/efficientnet_b5_stages", "", fixed(seed0=40, hw=[24, 16])),
    (
        *("efficientps_solov2/efficientnet_b5_features", ""),
        fixed(a_seed_h_w=[5, 96, 64], odd_seed_h_w=[6, 75, 130]),
    ),
    (
        *("efficientps_solov2/two_way_fpn", ""),
        fixed(a_seed_h_w=[31, 96, 64], odd_seed_h_w=[41, 75, 130]),
    ),
    (
        *("efficientps_solov2/two_way_fpn_train", ""),
        fixed(seed_h_w=[51, 96, 64], grad_x0=np.zeros((3, 1))),  # a batch of three
    ),
    (
        *("efficientps_solov2/semantic_head", ""),
        fixed(a_seed_h_w=[61, 96, 64], odd_seed_h_w=[71, 75, 130]),
    ),
    ("efficientps_solov2/semantic_loss", "", semantic_labels),
    ("efficientps_solov2/efficientps_semantic_e2e", "", fixed(seed_h_w=[4, 96, 64])),
    ("efficientps_solov2/mask_head", "", fixed(seed=91, logits=np.zeros((5, 9, 28, 28)))),
    ("efficientps_solov2/solov2_head_light", "", fixed(seed_h_w=[210, 128, 192])),
    ("efficientps_solov2/solov2_head_r50", "", fixed(seed_h_w=[220, 192, 128])),
    ("efficientps_solov2/solov2_losses", "", fixed(seed=311)),
    *(
        (
            *(f"panoptic_deeplab/forward_{name}_64x128", "_96x160"),
            fixed(seed=7, height=96, width=160, crop=[96, 160]),
        )
        for name in ("r52_dsconv", "x65_conv", "h48_conv", "deeplabv3plus_x65")
    ),
    (
        *("panoptic_deeplab/e2e_r52_dsconv_nocrop_70x150", "_90x130"),
        fixed(seed=8, size=[90, 130], out_size=[110, 150]),
    ),
    (
        *("panoptic_deeplab/e2e_deeplabv3plus_x65_nocrop_70x150", "_75x110"),
        fixed(seed=9, size=[75, 110], out_size=[75, 110]),
    ),
    ("panoptic_deeplab/train_r52_conv", "", fixed(seed=17)),
    ("panoptic_deeplab/train_h48_dsconv", "", fixed(seed=17)),
    *(
        (f"rap/backbone_{name}", "", lambda base: {"image_bgr_chw": pixels(96, 64)})
        for name in ("r101", "x101", "x152dcn")
    ),
    ("rap/semantic_head_a", "", fixed(seed=44, input_size=[96, 64], resized_to=[100, 70])),
    ("rap/semantic_loss", "", rap_semantic_loss),
    ("rap/relation_head", "", fixed(seed=12, num=9)),
    ("rap/ocfusion_head", "", fixed(seed=32, num=7)),
    *(
        (
            *(f"rap/full_r50_{head}", ""),
            lambda base: {"image_bgr_chw": pixels(80, 120), "original_size": [100, 150]},
        )
        for head in ("rap", "ocfusion")
    ),
]

# The tests of the tests would write what a mistake makes of the numbers.
PYTEST = ("-q", "-p", "no:cacheprovider", "--ignore", "tests/parity/test_faults.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    args, options = parser.parse_known_args()
    folder = args.folder.resolve()
    for name, suffix, change in CASES:
        with np.load(DEFAULT_ROOT / f"{name}.npz") as data:
            base = {key: data[key] for key in data.files}
        made = {
            key: np.asarray(value, base[key].dtype if key in base else None)
            for key, value in change(base).items()
        }
        target = folder / f"{name}{suffix}.npz"
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(target, **(base | made))
    environment = {"MMPANOPTIC_GOLDEN": str(folder), FLOAT64: "1", WRITE: "1"}
    subprocess.run(
        [sys.executable, "-m", "pytest", *PYTEST, *options, "tests/parity"],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        check=True,
    )


if __name__ == "__main__":
    main()
