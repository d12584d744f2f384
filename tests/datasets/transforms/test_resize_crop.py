"""One step that gives what two give."""

import numpy as np
import pytest
from PIL import Image

from mmpanoptic.datasets.transforms import RandomCrop, ResizeCrop, ResizeScaleJitter
from mmpanoptic.datasets.transforms.pillow_resize import resize_image, resize_window
from mmpanoptic.datasets.transforms.source_grid import SourceGrid
from mmpanoptic.registry import TRANSFORMS

CITYSCAPES = {"type": "ResizeShortestEdge", "short_edge": [64, 80, 88, 104, 128, 152, 232, 256]}
JITTER = {"type": "ResizeScaleJitter", "target_size": (100, 140), "ratio_range": (0.3, 2.5)}


def make_sample(height, width):
    rng = np.random.default_rng(height)
    segments = [{"id": k, "label": k % 3, "isthing": True} for k in range(1, 6)]
    return {
        "img": rng.integers(0, 256, (height, width, 3), np.uint8),
        "gt_seg_map": rng.integers(0, 6, (height, width)).astype(np.uint8),
        "source_grid": SourceGrid.identity(height, width),
        "segments_info": segments,
    }


@pytest.mark.parametrize("resize", [CITYSCAPES, JITTER], ids=lambda cfg: cfg["type"])
@pytest.mark.parametrize("backend", ["pillow", "cv2"])
@pytest.mark.parametrize("limit", [1.0, 0.22])
@pytest.mark.parametrize("shape", [(128, 256), (97, 113)])
def test_the_sample_is_that_of_two_transforms(resize, backend, limit, shape):
    resize = {**resize, "backend": backend}
    crop = {"type": "RandomCrop", "crop_size": (64, 96), "category_max_ratio": limit}
    steps = [TRANSFORMS.build(resize), TRANSFORMS.build(crop)]
    one = ResizeCrop(resize, crop)
    for seed in range(12):
        np.random.seed(seed)
        expected = make_sample(*shape)
        for step in steps:
            expected = step(expected)
        np.random.seed(seed)
        got = one(make_sample(*shape))
        assert got.keys() == expected.keys()
        assert got["img_shape"] == expected["img_shape"]
        assert got["scale_factor"] == expected["scale_factor"]
        np.testing.assert_array_equal(got["img"], expected["img"])
        np.testing.assert_array_equal(got["gt_seg_map"], expected["gt_seg_map"])
        np.testing.assert_array_equal(got["source_grid"].rows, expected["source_grid"].rows)
        np.testing.assert_array_equal(got["source_grid"].columns, expected["source_grid"].columns)


@pytest.mark.parametrize("short_edge", [512, 832, 1216, 1408, 1728, 2048])
def test_windows_of_cityscapes_have_the_bits_of_the_whole(short_edge):
    rng = np.random.default_rng(short_edge)
    image = rng.integers(0, 256, (1024, 2048, 3), np.uint8)
    size = (short_edge, 2 * short_edge)
    whole = resize_image(image, size)
    for _ in range(3):
        top, left = rng.integers(0, size[0] - 511), rng.integers(0, size[1] - 1023)
        window = resize_window(image, size, (int(top), int(left), 512, 1024))
        np.testing.assert_array_equal(window, whole[top : top + 512, left : left + 1024])


@pytest.mark.parametrize("size", [(40, 39), (30, 70), (60, 66), (28, 63), (106, 76), (53, 20)])
def test_columns_are_resized_before_rows(size):
    image = np.random.default_rng(0).integers(0, 256, (53, 38, 3), np.uint8)
    columns = Image.fromarray(image).resize((size[1], 53), Image.Resampling.BILINEAR)
    expected = np.asarray(columns.resize(size[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize_image(image, size), expected)


def test_an_image_alone_is_enough():
    sample = make_sample(60, 80)
    one = ResizeCrop(JITTER, {"type": "RandomCrop", "crop_size": (30, 30)})
    result = one({"img": sample["img"]})
    assert result["img"].shape[:2] == result["img_shape"]


@pytest.mark.parametrize(
    ("resize", "crop", "message"),
    [
        ({"type": "PanopticPad"}, {"type": "RandomCrop", "crop_size": (4, 4)}, "'PanopticPad'"),
        (JITTER, {"type": "PanopticPad"}, "needs crop=.*'PanopticPad'"),
    ],
)
def test_other_transforms_are_refused(resize, crop, message):
    with pytest.raises(ValueError, match=message):
        ResizeCrop(resize, crop)


def test_built_transforms_are_those_named():
    one = ResizeCrop(JITTER, {"type": "RandomCrop", "crop_size": (4, 4)})
    assert isinstance(one.resize, ResizeScaleJitter)
    assert isinstance(one.crop, RandomCrop)
