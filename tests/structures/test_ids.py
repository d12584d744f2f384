import cv2
import numpy as np
import pytest

from mmpanoptic.structures import MAX_ID, id2rgb, rgb2id

EDGE_IDS = np.array([[0, 1, 255, 256], [257, 65535, 65536, MAX_ID]], np.int32)


def test_ids_survive_the_round_trip_through_colours():
    assert id2rgb(EDGE_IDS).dtype == np.uint8
    np.testing.assert_array_equal(rgb2id(id2rgb(EDGE_IDS)), EDGE_IDS)


@pytest.mark.parametrize("shape", [(2, 4), (8,), (0, 5), ()])
def test_colours_of_any_shape_become_ids(shape):
    ids = np.resize(EDGE_IDS, shape).astype(np.int32)
    found = rgb2id(id2rgb(ids))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, ids)


def test_png_file_round_trip(tmp_path):
    path = str(tmp_path / "ids.png")
    cv2.imwrite(path, id2rgb(EDGE_IDS)[..., ::-1])
    np.testing.assert_array_equal(rgb2id(cv2.imread(path, cv2.IMREAD_COLOR_RGB)), EDGE_IDS)


@pytest.mark.parametrize("bad", [-1, MAX_ID + 1])
def test_ids_beyond_24_bits_are_refused(bad):
    with pytest.raises(ValueError, match="segment ids must lie in"):
        id2rgb(np.array([bad]))


def test_grey_and_wide_arrays_are_refused():
    with pytest.raises(ValueError, match="uint8 array of shape"):
        rgb2id(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="uint8 array of shape"):
        rgb2id(np.zeros((4, 4, 3), np.int32))
