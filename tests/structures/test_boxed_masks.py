import pytest
import torch

from mmpanoptic.structures import BoxedMasks

GENERATOR = torch.Generator().manual_seed(0)


def random_masks(count=5, height=9, width=7):
    masks = torch.rand(count, height, width, generator=GENERATOR) > 0.7
    masks[1] = False
    masks[2, :4] = False
    return masks


def test_full_masks_survive_the_round_trip():
    masks = random_masks()
    boxed = BoxedMasks.from_full(masks)
    assert torch.equal(boxed.to_full(), masks)
    assert torch.equal(boxed.areas(), masks.flatten(1).sum(1))


def test_float_values_keep_their_type():
    values = torch.rand(3, 4, 5, generator=GENERATOR)
    values[:, 2:] = 0
    boxed = BoxedMasks.from_full(values)
    assert torch.equal(boxed.to_full(), values)
    assert torch.equal(boxed.above(0.5).to_full(), values > 0.5)


def test_windows_are_tight_and_empty_masks_have_empty_ones():
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 3:8] = True
    boxed = BoxedMasks.from_full(masks)
    assert boxed.windows.tolist() == [[3, 2, 8, 4], [0, 0, 0, 0]]
    assert boxed.offsets.tolist() == [0, 10, 10]
    assert boxed.crop(0).all()
    assert boxed.crop(1).shape == (0, 0)


def test_crops_are_views_at_the_place_of_the_window():
    masks = random_masks()
    boxed = BoxedMasks.from_full(masks)
    for k, mask in enumerate(masks):
        assert torch.equal(mask[boxed.slices(k)], boxed.crop(k))
    boxed.crop(0).fill_(False)
    assert boxed.areas()[0] == 0


def test_select_reorders_and_drops():
    masks = random_masks()
    boxed = BoxedMasks.from_full(masks)
    assert torch.equal(boxed.select([3, 0]).to_full(), masks[[3, 0]])
    assert len(boxed.select([])) == 0


@pytest.mark.parametrize("count", [0, 3])
def test_no_pixels_anywhere(count):
    boxed = BoxedMasks.from_full(torch.zeros(count, 4, 4, dtype=torch.bool))
    assert len(boxed) == count
    assert boxed.areas().tolist() == [0] * count
    assert boxed.to_full().shape == (count, 4, 4)


def test_windows_outside_of_the_image_are_refused():
    with pytest.raises(ValueError, match="not inside an image of 4 x 4"):
        BoxedMasks(torch.tensor([[0, 0, 5, 1]]), torch.ones(5, dtype=torch.bool), (4, 4))


def test_too_few_values_are_refused():
    with pytest.raises(ValueError, match="hold 4 pixels, but there are 3"):
        BoxedMasks(torch.tensor([[0, 0, 2, 2]]), torch.ones(3, dtype=torch.bool), (4, 4))
