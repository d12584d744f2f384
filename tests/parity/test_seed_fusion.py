"""The two-stage fusion of saved SOLOv2 masks, against the published script's result."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmpanoptic.models.fusion_heads.saved_instances import SavedInstanceFusionHead
from mmpanoptic.models.layers import resize_bilinear
from mmpanoptic.models.postprocess.instance_files import SavedInstances, write_instances
from mmpanoptic.utils.cityscapes_labels import CITYSCAPES_LABELS
from tests.golden import Golden, golden_cases
from tests.reference.seed_fusion import fuse_as_published, fuse_paired

CITY_IDS = [
    label.id
    for label in sorted(CITYSCAPES_LABELS, key=lambda one: one.train_id)
    if 0 <= label.train_id < 255
]
NUM_STUFF = sum(not label.has_instances for label in CITYSCAPES_LABELS if 0 <= label.train_id < 255)


@pytest.fixture(params=golden_cases("efficientps_solov2", "seed_fusion*.npz"))
def case(request):
    case = Golden(request.param)
    height, width = case["hw"].tolist()
    masks = np.unpackbits(case["solo_masks_packed"], axis=2)[..., : 2 * width]
    case["masks"] = torch.from_numpy(masks.copy()).bool()
    case["logits"] = torch.from_numpy(case["semantic_logits_lowres"])[None]
    case["size"] = (height, width)
    return case


def test_the_restated_script_gives_the_published_result(case):
    """So that the difference to ours is known exactly."""
    probability = resize_bilinear(case["logits"], case["size"])[0].softmax(0)
    canvas = fuse_as_published(
        probability,
        torch.from_numpy(case["boxes"]),
        case["labels"].tolist(),
        case["masks"][:, ::2, ::2],  # nearest neighbour
        CITY_IDS,
        NUM_STUFF,
        int(case["area_thresh"]),
    )
    np.testing.assert_array_equal(canvas, case["canvas"])


@pytest.mark.parametrize("reverse", [False, True])
def test_ours_keeps_every_masks_own_class_whatever_the_order_of_files(case, reverse, tmp_path):
    """The same inputs with masks, classes and images paired right."""
    size = tuple(side * 2 for side in case["size"])
    labels = torch.from_numpy(case["labels"])
    scores = torch.linspace(0.9, 0.6, len(labels))
    classes = tuple(f"thing {number}" for number in range(len(CITY_IDS) - NUM_STUFF))
    order = range(2)
    for image in reversed(order) if reverse else order:
        masks = case["masks"] if image == 0 else case["masks"].flip(2)
        write_instances(tmp_path, SavedInstances(image, classes, labels, scores, masks))
    head = SavedInstanceFusionHead(
        tmp_path,
        classes,
        {
            "type": "AdaptiveLogitFusionHead",
            "num_classes": len(CITY_IDS),
            "thing_labels": range(NUM_STUFF, len(CITY_IDS)),
            "stuff_area": int(case["area_thresh"]),
            "stride": 1,
        },
        binary_logit=3.0,
    )
    for image in order:
        logits = resize_bilinear(case["logits"], size)
        logits = logits if image == 0 else logits.flip(3)
        meta = {"img_id": image, "img_shape": size, "ori_shape": size}
        found = head.predict(logits, None, [meta])[0]["pred_panoptic_seg"]
        expected, _ = fuse_paired(
            logits[0],
            labels.tolist(),
            case["masks"] if image == 0 else case["masks"].flip(2),
            NUM_STUFF,
            int(case["area_thresh"]),
            binary_logit=3.0,
        )
        assert_same_segments(found, expected, labels)


def assert_same_segments(found, expected, labels):
    """The maps have the same regions with the same classes."""
    count = len(labels)
    classes = [NUM_STUFF + label for label in labels.tolist()] + list(range(NUM_STUFF))
    codes = torch.tensor([-1, *classes])[expected]
    painted = torch.tensor([-1, *(s["label"] for s in found.segments_info)])[found.index_map[0]]
    assert torch.equal(painted, codes)
    pairs = torch.stack([found.index_map[0].flatten().long(), expected.flatten()])
    regions = pairs.unique(dim=1)
    assert len(regions[0].unique()) == len(regions[1].unique()) == regions.shape[1]
    assert ((regions[1] >= 1) & (regions[1] <= count)).sum() >= 2, "the test needs instances"
