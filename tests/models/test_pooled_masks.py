import numpy as np
import pytest
import torch

import mmpanoptic  # noqa: F401  provides mmcv._ext
from mmpanoptic.models.roi_heads.pooled_masks import PooledMasks
from mmpanoptic.ops.roi_align import pool_masks


def scene(count=3, boxes=40):
    random = np.random.RandomState(0)
    masks = (random.rand(count, 50, 70) > 0.4).astype(np.uint8)
    corner = random.rand(boxes, 2) * (60, 40)
    sizes = 0.5 + random.rand(boxes, 2) * (10, 10)
    windows = np.hstack([corner, corner + sizes]).astype(np.float32)
    return masks, windows, random.randint(0, count, boxes)


@pytest.mark.parametrize("binarize", [True, False])
def test_results_are_mmdets(binarize):
    from mmdet.structures.mask import BitmapMasks

    masks, boxes, owner = scene()
    expected = BitmapMasks(masks, 50, 70).crop_and_resize(boxes, (28, 28), owner, binarize=binarize)
    ours = PooledMasks(masks, 50, 70).crop_and_resize(boxes, (28, 28), owner, binarize=binarize)
    np.testing.assert_allclose(ours.masks, expected.masks, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("count", "boxes"), [(0, 0), (2, 0)])
def test_nothing_gives_nothing(count, boxes):
    ours = PooledMasks(np.zeros((count, 9, 9), np.uint8), 9, 9)
    cut = ours.crop_and_resize(torch.zeros(boxes, 4), (5, 6), torch.zeros(boxes).long())
    assert cut.masks.shape == (0, 5, 6)


def test_other_interpolations_are_refused():
    with pytest.raises(ValueError, match='"bilinear" only'):
        PooledMasks(np.zeros((0, 9, 9), np.uint8), 9, 9).crop_and_resize(
            torch.zeros(0, 4), (5, 5), torch.zeros(0), interpolation="nearest"
        )


def test_the_way_of_gpus_gives_the_same_masks():
    """Boxes of all sizes, up to the border and beyond it."""
    from mmcv.ops import roi_align

    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(3, 50, 70, generator=generator) > 0.5).float()
    size = torch.tensor([70.0, 50.0, 70.0, 50.0])
    corners = torch.rand(40, 2, 2, generator=generator)
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1) * size
    boxes = torch.cat([boxes, torch.tensor([[0.0, 0, 70, 50], [3, 4, 3.5, 4.5]])])
    owner = torch.arange(len(boxes)) % 3
    rois = torch.cat([owner[:, None].float(), boxes], 1)
    expected = roi_align(masks[:, None], rois, (28, 14), 1.0, 0, "avg", True)[:, 0]
    torch.testing.assert_close(pool_masks(masks, owner, boxes, (28, 14)), expected)
    beyond = pool_masks(masks, owner[:1], torch.tensor([[-9.0, -9, 99, 99]]), (28, 14))
    whole = pool_masks(masks, owner[:1], size[None] * torch.tensor([0, 0, 1, 1]), (28, 14))
    assert torch.equal(beyond, whole)
    assert pool_masks(masks, owner[:0], boxes[:0], (28, 14)).shape == (0, 28, 14)
