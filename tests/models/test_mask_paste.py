import pytest
import torch

from mmpanoptic.models.postprocess import paste_masks

SIZE = (60, 83)


@pytest.fixture
def mmdet_paste():
    """The function that this one replaces; it needs mmcv's operators."""
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    return _do_paste_mask


def random_boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([80.0, 60.0]) - 10
    return torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 50 + 0.3], 1)


def random_values(count, cells=14, seed=0):
    return torch.rand(count, cells, cells, generator=torch.Generator().manual_seed(seed))


def test_values_equal_mmdets_paste(mmdet_paste):
    values, boxes = random_values(30), random_boxes(30)
    expected, _ = mmdet_paste(values[:, None], boxes, *SIZE, skip_empty=False)
    pasted = paste_masks(values, boxes, SIZE, threshold=None)
    torch.testing.assert_close(pasted.to_full(), expected, rtol=0, atol=2e-5)


def test_binary_masks_equal_mmdets_away_from_the_threshold(mmdet_paste):
    values, boxes = random_values(30, seed=1), random_boxes(30, seed=1)
    expected, _ = mmdet_paste(values[:, None], boxes, *SIZE, skip_empty=False)
    sure = (expected - 0.5).abs() > 1e-4
    pasted = paste_masks(values, boxes, SIZE).to_full()
    assert torch.equal(pasted[sure], (expected >= 0.5)[sure])
    assert sure.float().mean() > 0.99


def test_the_threshold_itself_belongs_to_sampled_but_not_to_legacy_masks():
    values, boxes = torch.full((1, 4, 4), 0.5), torch.tensor([[2.0, 2.0, 10.0, 10.0]])
    assert paste_masks(values, boxes, SIZE).areas().item() == 6 * 6  # the border fades
    assert paste_masks(values, boxes, SIZE, mode="legacy").areas().item() == 0


@pytest.mark.parametrize("mode", ["grid_sample", "legacy"])
def test_memory_is_bounded_by_the_windows(mode):
    values = torch.ones(1, 28, 28)
    pasted = paste_masks(values, torch.tensor([[10.0, 10.0, 20.0, 20.0]]), (4000, 6000), mode)
    assert pasted.values.numel() < 200
    huge = paste_masks(values, torch.tensor([[-1e5, -1e5, 1e5, 1e5]]), SIZE, mode)
    assert huge.areas().item() == SIZE[0] * SIZE[1]


@pytest.mark.parametrize("mode", ["grid_sample", "legacy"])
@pytest.mark.parametrize(
    "box", [[-30.0, -30.0, -5.0, -5.0], [100.0, 5.0, 120.0, 9.0], [5.0, 5.0, 5.0, 5.0]]
)
def test_boxes_outside_or_without_extent_work(mode, box):
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([box]), SIZE, mode)
    assert pasted.areas().item() <= 1


def test_no_boxes_give_no_masks():
    pasted = paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), SIZE)
    assert len(pasted) == 0
    assert pasted.to_full().shape == (0, *SIZE)


def test_half_precision_values_are_sampled_in_float32():
    values, boxes = random_values(4), random_boxes(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pasted = paste_masks(values, boxes, SIZE, threshold=None)
    assert torch.equal(pasted.values, paste_masks(values, boxes, SIZE, threshold=None).values)


def test_unknown_modes_and_shapes_are_refused():
    with pytest.raises(ValueError, match="grid_sample"):
        paste_masks(torch.zeros(1, 2, 2), torch.zeros(1, 4), SIZE, mode="bicubic")
    with pytest.raises(ValueError, match=r"\(K, 4\)"):
        paste_masks(torch.zeros(1, 2, 2), torch.zeros(2, 4), SIZE)
