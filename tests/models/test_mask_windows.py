import pytest
import torch
from torch.nn import functional

from mmpanoptic.models.postprocess.mask_windows import enlarge_masks
from mmpanoptic.structures import BoxedMasks


def full_size(maps, stride, img_shape, out_shape):
    """Two resizes of whole maps."""
    padded = (maps.shape[1] * stride, maps.shape[2] * stride)
    options = {"mode": "bilinear", "align_corners": False}
    full = functional.interpolate(maps[None], size=padded, **options)
    full = full[..., : img_shape[0], : img_shape[1]]
    return functional.interpolate(full, size=out_shape, **options)[0]


def blobs(count, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, count, 5, 6, generator=generator)
    options = {"mode": "bicubic", "align_corners": False}
    return functional.interpolate(coarse, size=(height, width), **options)[0] - 0.8


SIZES = [
    ((16, 24), 4, (64, 96), (64, 96)),
    ((16, 24), 4, (61, 90), (61, 90)),
    ((16, 24), 4, (61, 90), (123, 181)),
    ((16, 24), 4, (64, 96), (37, 50)),
    ((1, 1), 4, (3, 2), (5, 7)),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_windows_hold_what_two_resizes_of_whole_maps_give(sizes):
    cells, stride, img_shape, out_shape = sizes
    maps = blobs(7, *cells)
    maps[3] = -1.0  # never above the threshold
    expected = full_size(maps, stride, img_shape, out_shape)
    found = enlarge_masks(maps, stride, img_shape, out_shape, 0.0)
    sure = expected.abs() > 1e-4  # rounding decides about the others
    masks = enlarge_masks(maps, stride, img_shape, out_shape, 0.0, binary=True).to_full()
    assert torch.equal(masks[sure], (expected > 0)[sure])
    for k in range(len(maps)):
        torch.testing.assert_close(
            found.crop(k), expected[(k, *found.slices(k))], rtol=1e-4, atol=1e-4
        )
    assert torch.equal(found.windows, BoxedMasks.from_full(masks).windows)
    assert found.host_windows[3] == (0, 0, 0, 0)


def test_without_masks_there_are_no_windows():
    for binary, kind in ((False, torch.float32), (True, torch.bool)):
        found = enlarge_masks(torch.zeros(0, 4, 4), 4, (16, 16), (16, 16), 0.0, binary)
        assert (len(found), found.values.dtype) == (0, kind)


def test_the_memory_is_that_of_the_windows():
    maps = torch.full((50, 256, 256), -5.0)
    maps[:, 100:104, 100:104] = 5.0
    found = enlarge_masks(maps, 4, (1024, 1024), (1024, 1024), 0.0)
    assert len(found.values) < 50 * 20 * 20
