import numpy as np
import pytest
import torch

from mmpanoptic.models.roi_heads.panoptic_roi_head import DetectronRoIExtractor
from mmpanoptic.models.task_modules import (
    DetectronAnchorGenerator,
    DetectronBoxCoder,
    DetectronBoxOverlaps,
)


def random_boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 50
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 60], 1)


def test_anchors_have_rounded_sides_scaled_to_the_size():
    generator = DetectronAnchorGenerator([16], [128], [0.5])
    # 16 * 16 pixels at half the height are 23 x 12 after rounding, eight times of it 184 x 96
    (anchor,) = generator.base_anchors
    width, height = (anchor[0, 2:] - anchor[0, :2] + 1).tolist()
    assert (width, height) == (184, 96)
    assert (anchor[0, :2] + anchor[0, 2:]).tolist() == [15, 15]  # centred in the cell's pixels


def test_anchors_need_one_size_per_stride():
    with pytest.raises(ValueError, match="one size per stride"):
        DetectronAnchorGenerator([4, 8], [32])


def test_decoding_reverses_encoding():
    coder = DetectronBoxCoder((0.1, 0.1, 0.2, 0.2))
    priors, boxes = random_boxes(20), random_boxes(20, 1)
    decoded = coder.decode(priors, coder.encode(priors, boxes))
    torch.testing.assert_close(decoded, boxes, rtol=0, atol=1e-4)


def test_zero_deltas_give_the_prior_and_clipping_keeps_the_last_pixel():
    coder = DetectronBoxCoder()
    priors = torch.tensor([[-5.0, 3.0, 30.0, 12.0]])
    zeros = torch.zeros(1, 4)
    assert torch.equal(coder.decode(priors, zeros), priors)
    assert coder.decode(priors, zeros, (10, 20)).tolist() == [[0, 3, 19, 9]]


def test_sizes_are_limited_upwards_only():
    coder = DetectronBoxCoder(max_ratio=2.0)
    deltas = torch.tensor([[0.0, 0, 100.0, -100.0]])
    (box,) = coder.decode(torch.tensor([[0.0, 0, 9, 9]]), deltas)
    assert box[2] - box[0] + 1 == 20
    assert box[3] - box[1] + 1 == pytest.approx(0, abs=1e-6)


def test_deltas_of_several_classes_are_decoded_one_by_one():
    coder = DetectronBoxCoder()
    priors, deltas = random_boxes(5), torch.randn(5, 12)
    together = coder.decode(priors, deltas)
    parts = [coder.decode(priors, deltas[:, k : k + 4]) for k in (0, 4, 8)]
    assert torch.equal(together, torch.cat(parts, 1))


def test_half_precision_deltas_are_decoded_in_float32():
    priors, deltas = random_boxes(5) + 900, torch.randn(5, 4).bfloat16()
    decoded = DetectronBoxCoder().decode(priors, deltas)
    assert torch.equal(decoded, DetectronBoxCoder().decode(priors, deltas.float()))


def test_box_type_is_mmdets_when_asked_for():
    from mmdet.structures.bbox import HorizontalBoxes

    coder = DetectronBoxCoder(use_box_type=True)
    assert isinstance(coder.decode(random_boxes(2), torch.zeros(2, 4)), HorizontalBoxes)


def test_overlaps_count_pixels():
    """Boxes on whole pixels: areas are numbers of pixels."""
    boxes = random_boxes(6).floor()
    masks = np.zeros((6, 120, 120), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    common = (masks[:, None] & masks).sum((2, 3))
    areas = masks.sum((1, 2))
    overlaps = DetectronBoxOverlaps()
    iou = common / (areas[:, None] + areas - common)
    np.testing.assert_allclose(overlaps(boxes, boxes), iou, rtol=1e-6)
    np.testing.assert_allclose(overlaps(boxes, boxes, "iof"), common / areas[:, None], rtol=1e-6)
    aligned = overlaps(boxes[:3], boxes[3:], is_aligned=True)
    np.testing.assert_allclose(aligned, iou[:3, 3:].diagonal(), rtol=1e-6)


def test_overlaps_refuse_unknown_modes():
    with pytest.raises(ValueError, match='"iou" or "iof"'):
        DetectronBoxOverlaps()(random_boxes(1), random_boxes(1), mode="giou")


def test_no_boxes_are_no_trouble():
    none = torch.zeros(0, 4)
    assert DetectronBoxOverlaps()(none, random_boxes(3)).shape == (0, 3)
    assert DetectronBoxCoder().decode(none, torch.zeros(0, 8)).shape == (0, 8)


def test_levels_change_at_doubled_sides():
    extractor = DetectronRoIExtractor(
        {"type": "RoIAlign", "output_size": 2, "sampling_ratio": 2, "aligned": False},
        out_channels=1,
        featmap_strides=(4, 8, 16, 32),
    )
    side = torch.tensor([1.0, 110, 111, 222, 223, 447, 5000])
    rois = torch.stack([side * 0, side * 0, side * 0, side, side], 1)
    assert extractor.map_roi_levels(rois, 4).tolist() == [0, 0, 1, 1, 2, 3, 3]
