"""Training pipeline of Panoptic-DeepLab, from the files to packed samples with their targets."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose

from mmpanoptic.datasets.transforms import (
    LoadImage,
    LoadPanopticAnnotations,
    PackPanopticInputs,
    PanopticRandomFlip,
    ResizeCrop,
)
from mmpanoptic.models.instance_heads import make_center_offset_targets
from mmpanoptic.models.layers import collate_segments
from mmpanoptic.models.semantic_heads.semantic_targets import make_semantic_targets
from mmpanoptic.utils.panoptic_png import encode_panoptic_png
from tests.data.golden.panoptic_deeplab.crafted_inputs import CITYSCAPES_THINGS, make_panoptic_gt
from tests.reference.panoptic_deeplab import map_sample
from tests.reference.panoptic_maps import smooth_noise

DESCRIPTION = "Cityscapes-like image and panoptic PNG (1024 x 2048) to one crop; four samples."
BASELINE = "the published mapper: Pillow's decoders, RGB maps moved along, a pass per segment."
SHORT_EDGES: tuple[int, ...] = (512, 640, 704, 832, 896, 1024, 1152, 1216)
SHORT_EDGES += (1344, 1408, 1536, 1664, 1728, 1856, 1920, 2048)
SHRINK = {"default": 1, "small": 8}
SAMPLES = 4
SIGMA = 10


def make_inputs(size: str = "default") -> dict[str, Any]:
    """Write an image with the entropy of a photograph, and the map of 11 stuff and 34 things."""
    shrink = SHRINK[size]
    height, width = 1024 // shrink, 2048 // shrink
    folder = tempfile.TemporaryDirectory()
    rng = np.random.default_rng(0)
    image = np.stack([smooth_noise(rng, height, width, 32) for _ in range(3)], -1)
    image = np.clip(image * 40 + 128 + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
    cv2.imwrite(str(Path(folder.name) / "image.png"), image)
    scene = {"num_classes": 19, "thing_ids": CITYSCAPES_THINGS}
    ids, segments = make_panoptic_gt(0, height, width, 34, **scene)
    (Path(folder.name) / "map.png").write_bytes(encode_panoptic_png(ids))
    for segment in segments:
        segment["label"] = segment["category_id"]
        segment["isthing"] = segment["category_id"] in CITYSCAPES_THINGS
    edges = [edge // shrink for edge in SHORT_EDGES]
    crop = (512 // shrink, 1024 // shrink)
    steps = [
        LoadImage(),
        LoadPanopticAnnotations(),
        ResizeCrop(
            {"type": "ResizeShortestEdge", "short_edge": edges, "max_size": 4096 // shrink},
            {"type": "RandomCrop", "crop_size": crop},
        ),
        PanopticRandomFlip(prob=0.5),
        PackPanopticInputs(),
    ]
    return {
        "folder": folder,
        "image": str(Path(folder.name) / "image.png"),
        "map": str(Path(folder.name) / "map.png"),
        "segments": segments,
        "pipeline": Compose(steps),
        "short_edges": edges,
        "max_size": 4096 // shrink,
        "crop": crop,
    }


def baseline(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """Map every sample as the published code does."""
    samples = []
    for seed in range(SAMPLES):
        np.random.seed(seed)
        options = {name: inputs[name] for name in ("short_edges", "max_size", "crop")}
        paths = (inputs["image"], inputs["map"])
        things = CITYSCAPES_THINGS
        samples.append(map_sample(*paths, inputs["segments"], things, SIGMA, **options))
    return samples


def ours(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the pipeline of the config, then make the targets as the two heads do."""
    samples = []
    for seed in range(SAMPLES):
        np.random.seed(seed)
        loaded = {"img_path": inputs["image"], "seg_map_path": inputs["map"], "img_id": 0}
        packed = inputs["pipeline"]({**loaded, "segments_info": inputs["segments"]})
        segments = collate_segments([packed["data_samples"]])
        semantic, weight = make_semantic_targets(segments)
        targets = make_center_offset_targets(segments, SIGMA)._asdict()
        targets |= {
            "semantic": semantic,
            "semantic_weight": weight,
            "image": packed["inputs"][None],
        }
        samples.append(targets)
    return samples


def check(expected: list[dict[str, Any]], got: list[dict[str, Any]]) -> None:
    """Compare images and targets; every bit must be equal."""
    for theirs, mine in zip(expected, got, strict=True):
        for name, value in theirs.items():
            if name != "center_points":
                result = mine[name][0].numpy().reshape(value.shape)
                np.testing.assert_array_equal(result, np.asarray(value), err_msg=name)
    if not any(torch.count_nonzero(sample["center"]) for sample in got):
        raise AssertionError("no crop holds a thing: the comparison shows nothing")
