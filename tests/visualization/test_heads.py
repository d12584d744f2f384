import cv2
import numpy as np
import pytest

from mmpanoptic.visualization import draw_heatmap, draw_offsets


def test_heatmaps_run_from_blue_to_red():
    image = np.full((4, 5, 3), 100, np.uint8)
    heatmap = np.zeros((4, 5))
    heatmap[1, 1], heatmap[2, 2], heatmap[3, 3], heatmap[0, 4] = 1, 7, -3, np.nan
    picture = draw_heatmap(image, heatmap, alpha=1)
    assert picture.dtype == np.uint8
    assert picture[1, 1].tolist() == picture[2, 2].tolist() == [128, 0, 0]
    assert picture[0, 0].tolist() == picture[3, 3].tolist() == [0, 0, 128]
    assert picture[0, 4].tolist() == [0, 0, 128]
    np.testing.assert_array_equal(draw_heatmap(image, heatmap, alpha=0), image)


def test_hue_is_direction_and_saturation_is_length():
    offset = np.zeros((2, 9, 5), np.float32)
    for row, (dy, dx) in enumerate([(0, 4), (4, 0), (0, -4), (-4, 0), (0, 2)]):
        offset[:, row] = np.array([dy, dx])[:, None]
    offset[:, 6] = np.inf
    picture = draw_offsets(offset, longest=4)
    hue, saturation, value = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[:, 0].T
    assert hue[:4].tolist() == [0, 45, 90, 135]
    assert saturation[:6].tolist() == pytest.approx([255, 255, 255, 255, 128, 0], abs=1)
    assert (value == 255).all()
    assert picture[6, 0].tolist() == [255, 255, 255]


def test_the_longest_offset_is_that_of_what_is_drawn():
    offset = np.zeros((2, 20, 20), np.float32)
    offset[1, :10] = 3
    offset[1, 10:] = 500
    mask = np.zeros((20, 20), bool)
    mask[:10] = True
    picture = draw_offsets(offset, mask)
    assert picture[0, 0].tolist() == [255, 0, 0]
    assert (picture[10:] == 128).all()
    nothing = draw_offsets(offset, np.zeros((20, 20), bool))
    assert (nothing == 128).all()


def test_a_wheel_explains_the_colours_of_larger_pictures():
    picture = draw_offsets(np.zeros((2, 96, 120), np.float32))
    assert picture[8:14, 103:106].min() < 255
    assert (picture[30:] == 255).all()


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="expected offsets"):
        draw_offsets(np.zeros(shape))
    image = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(ValueError, match="size"):
        draw_heatmap(image, np.zeros((4, 5)))
    with pytest.raises(ValueError, match="mask"):
        draw_offsets(np.zeros((2, 4, 5)), np.zeros((4, 6), bool))
