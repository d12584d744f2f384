import numpy as np
import pytest

from mmpanoptic.visualization.text import place_side_by_side, put_tag, text_size


def test_tags_stay_inside_the_image():
    for center in [(0, 0), (199, 99), (-50, 400)]:
        image = np.full((100, 200, 3), 255, np.uint8)
        put_tag(image, "triangle", center, 0.5, (255, 0, 0))
        width, height = text_size("triangle", 0.5)
        changed = (image != 255).any(axis=2)
        assert changed.sum() > 0.9 * width * height


def test_a_tag_wider_than_the_image_is_cut():
    image = np.full((20, 20, 3), 255, np.uint8)
    put_tag(image, "a very long class name", (10, 10), 0.5, (255, 0, 0))
    assert (image != 255).any()


def test_pictures_are_put_in_a_row_under_their_titles():
    first, second = np.full((60, 80, 3), 10, np.uint8), np.full((60, 80, 3), 20, np.uint8)
    row = place_side_by_side([("a", first), ("b", second)], gap=4)
    header = row.shape[0] - 60
    assert row.shape[1] == 164
    assert (row[header:, :80] == 10).all()
    assert (row[header:, 84:] == 20).all()
    assert (row[:header, :80] < 128).any()
    rows = place_side_by_side([("a", first), ("b", second), ("c", first)], gap=4, columns=2)
    assert rows.shape == (2 * row.shape[0] + 4, 164, 3)
    assert (rows[-60:, :80] == 10).all()


def test_pictures_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        place_side_by_side([("a", np.zeros((4, 4, 3))), ("b", np.zeros((4, 5, 3)))])
