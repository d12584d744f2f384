"""Small models and samples for the tests of this folder."""

from __future__ import annotations

import numpy as np
import torch
from mmdet.structures import DetDataSample

from mmpanoptic.structures import make_panoptic_data, semantic_map
from tests.data.golden.panoptic_deeplab.crafted_inputs import make_image, make_panoptic_gt

NUM_CLASSES = 7
THINGS = (4, 5, 6)


def tiny_config(**fusion) -> dict:
    levels = {
        "in_channels": (8, 16, 64),
        "in_strides": (4, 8, 16),
        "project_channels": (8, 8),
        "channels": 16,
        "aspp_channels": 16,
        "aspp_dilations": (1, 2),
        "head_channels": 8,
        "separable": True,
    }
    return {
        "type": "PanopticSegmentor",
        "data_preprocessor": {"type": "PanopticDataPreprocessor", "pad_size_divisor": 16},
        "backbone": {
            "type": "DeepLabResNet",
            "depth": 18,
            "base_width": 8,
            "strides": (1, 2, 2, 1),
            "dilations": (1, 1, 1, 2),
            "out_indices": (0, 1, 3),
        },
        "semantic_head": {
            "type": "DeepLabHead",
            "num_classes": NUM_CLASSES,
            "small_instance_area": 100,
            **levels,
        },
        "instance_head": {"type": "CenterOffsetHead", "sigma": 4, **levels},
        "fusion_head": {
            "type": "CenterGroupingHead",
            "num_classes": NUM_CLASSES,
            "thing_labels": THINGS,
            "stuff_area": 16,
            **fusion,
        },
    }


def make_sample(seed: int, height: int, width: int, num_things: int = 5) -> tuple:
    """Return an image, its data sample, and the ids and segments they were made from."""
    ids, segments = make_panoptic_gt(
        seed, height, width, num_things, num_classes=NUM_CLASSES, thing_ids=THINGS, scale=0.1
    )
    image = torch.from_numpy(make_image(seed, height, width)).permute(2, 0, 1)
    return image, sample_from_ids(ids, segments), ids, segments


def sample_from_ids(ids: np.ndarray, segments: list, things=THINGS) -> DetDataSample:
    index = np.zeros(ids.shape, np.int32)
    infos = []
    for number, segment in enumerate(segments, 1):
        index[ids == segment["id"]] = number
        label = segment["category_id"]
        infos.append(
            {
                "id": segment["id"],
                "label": label,
                "isthing": label in things,
                "iscrowd": segment["iscrowd"],
            }
        )
    sample = DetDataSample(metainfo={"img_shape": ids.shape, "ori_shape": ids.shape})
    sample.gt_panoptic_seg = make_panoptic_data(index, infos)
    sample.gt_sem_seg = sample.gt_panoptic_seg.__class__(
        sem_seg=semantic_map(sample.gt_panoptic_seg)
    )
    return sample


def make_batch(*sizes: tuple[int, int], num_things: int = 5) -> dict:
    samples = [make_sample(seed, *size, num_things)[:2] for seed, size in enumerate(sizes)]
    return {"inputs": [s[0] for s in samples], "data_samples": [s[1] for s in samples]}
