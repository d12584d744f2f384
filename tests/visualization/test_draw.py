import numpy as np
import pytest

from mmpanoptic.structures import LabelTable
from mmpanoptic.visualization.draw import (
    DrawStyle,
    draw_panoptic,
    enlarge,
    find_anchors,
    segment_colors,
    segment_text,
)

TABLE = LabelTable.from_categories(
    [
        {"id": 7, "name": "road", "isthing": 0, "color": (10, 200, 30)},
        {"id": 3, "name": "car", "isthing": 1, "color": (220, 20, 60)},
    ]
)
SEGMENTS = [
    {"id": 1, "label": 0, "isthing": False},
    {"id": 2, "label": 1, "isthing": True, "score": 0.934},
    {"id": 3, "label": 1, "isthing": True},
]
BARE = DrawStyle(outlines=False, names=False)


@pytest.fixture
def index_map():
    index = np.ones((120, 160), np.int32)
    index[30:90, 20:70] = 2
    index[30:90, 90:140] = 3
    index[:, 150:] = 0
    return index


def test_the_fill_of_things_is_the_weighted_mean_of_image_and_color(index_map):
    image = np.full((120, 160, 3), 100, np.uint8)
    colors = segment_colors(SEGMENTS, TABLE, index_map).astype(float)
    drawn = draw_panoptic(image, index_map, SEGMENTS, TABLE, BARE)
    expected = BARE.alpha * colors[index_map] + (1 - BARE.alpha) * 100
    things = index_map > 1
    assert np.abs(drawn[things] - expected[things]).max() <= 1


@pytest.mark.parametrize("brightness", [0, 60, 255])
def test_the_image_stays_visible_under_stuff(brightness):
    index = np.ones((40, 60), np.int32)
    image = np.full((40, 60, 3), brightness, np.uint8)
    image[::2] //= 2
    drawn = draw_panoptic(image, index, SEGMENTS, TABLE, BARE).astype(int)
    assert np.abs(drawn - image).max() <= 0.3 * 255
    if brightness == 0:
        assert drawn.max() < 10
    else:
        contrast = np.abs(drawn[0] - drawn[1]).mean() / (brightness - brightness // 2)
        assert contrast > 0.75


def test_the_image_stays_as_it_was(index_map):
    image = np.full((120, 160, 3), 100, np.uint8)
    draw_panoptic(image, index_map, SEGMENTS, TABLE)
    assert (image == 100).all()


def test_void_is_hatched_or_left_as_the_image_is(index_map):
    image = np.full((120, 160, 3), 200, np.uint8)
    void = index_map == 0
    hatched = draw_panoptic(image, index_map, SEGMENTS, TABLE, BARE)
    assert len(np.unique(hatched[void])) == 2
    assert hatched[void].max() < 100
    plain = DrawStyle(outlines=False, names=False, void=False)
    assert (draw_panoptic(image, index_map, SEGMENTS, TABLE, plain)[void] == 200).all()


def test_stuff_has_the_color_of_its_class_and_things_differ():
    colors = segment_colors(SEGMENTS, TABLE)
    assert colors[1].tolist() == [10, 200, 30]
    assert colors[2].tolist() == [220, 20, 60]
    assert np.abs(colors[3].astype(int) - colors[2]).max() > 20


def test_outlines_have_the_color_of_their_segment_and_lie_inside_it(index_map):
    image = np.zeros((120, 160, 3), np.uint8)
    colors = segment_colors(SEGMENTS, TABLE, index_map)
    with_lines = draw_panoptic(image, index_map, SEGMENTS, TABLE, DrawStyle(names=False))
    without = draw_panoptic(image, index_map, SEGMENTS, TABLE, BARE)
    changed = (with_lines != without).any(axis=2)
    for column in (20, 69):
        assert with_lines[60, column].tolist() == colors[2].tolist()
    assert with_lines[30, 45].tolist() == with_lines[89, 45].tolist() == colors[2].tolist()
    # The stuff around a thing stays as it is; between stuff and void its side has a line.
    assert not changed[60, [18, 19, 45, 70, 71]].any()
    assert with_lines[10, 149].tolist() == colors[1].tolist()


def test_names_are_written_into_segments_with_room_and_cover_nothing_else(index_map):
    large = np.repeat(np.repeat(index_map, 3, 0), 3, 1)
    for index in (index_map, large):
        picture = np.zeros((*index.shape, 3), np.uint8)
        named = draw_panoptic(picture, index, SEGMENTS, TABLE, DrawStyle(outlines=False))
        changed = (named != draw_panoptic(picture, index, SEGMENTS, TABLE, BARE)).any(axis=2)
        # "car 0.93" would cover a seventh of the small one.
        assert changed[index == 2].any() == (index is large)
        for k in (1, 3):
            assert changed[index == k].any()
        for k in (1, 2, 3):
            assert changed[index == k].mean() <= 0.12
        assert not changed[index == 0].any()


def test_a_name_is_no_wider_than_a_thin_segment():
    index = np.ones((200, 300), np.int32)
    index[:, 140:160] = 2
    picture = np.zeros((200, 300, 3), np.uint8)
    named = draw_panoptic(picture, index, SEGMENTS, TABLE, DrawStyle(outlines=False))
    changed = (named != draw_panoptic(picture, index, SEGMENTS, TABLE, BARE)).any(axis=2)
    assert not changed[:, 140:160].any()
    assert changed.any()


def test_text_has_name_crowd_and_score():
    assert segment_text(SEGMENTS[1], TABLE) == "car 0.93"
    assert segment_text(SEGMENTS[1], TABLE, scores=False) == "car"
    assert segment_text({"label": 1, "iscrowd": 1}, TABLE) == "car (crowd)"
    assert segment_text({"label": 0, "score": 1.0}, TABLE) == "road"


def test_anchors_are_inside_also_of_rings_and_are_the_farthest_from_the_border():
    index = np.zeros((81, 101), np.int32)
    y, x = np.mgrid[:81, :101]
    radius = np.hypot(x - 50, y - 40)
    index[(radius > 15) & (radius < 35)] = 1
    index[radius <= 10] = 2
    points, reach = find_anchors(index, 3)
    assert index[points[0, 1], points[0, 0]] == 1
    assert abs(np.hypot(points[0, 0] - 50, points[0, 1] - 40) - 25) < 2
    assert np.abs(points[1] - [50, 40]).max() <= 1
    assert 9 < reach[0] < 11.5
    assert reach[2] == 0


def test_an_empty_and_a_full_void_map_can_be_drawn():
    image = np.zeros((16, 16, 3), np.uint8)
    assert draw_panoptic(image, np.zeros((16, 16), int), [], TABLE).shape == (16, 16, 3)
    empty = np.zeros((0, 0, 3), np.uint8)
    assert find_anchors(np.zeros((0, 0), int), 2)[1].tolist() == [0, 0]
    assert enlarge(empty, np.zeros((0, 0), int), 1)[0].size == 0


def test_small_images_are_enlarged_by_a_whole_factor_without_new_indices(index_map):
    image = np.zeros((120, 160, 3), np.uint8)
    large, large_map = enlarge(image, index_map, 384)
    assert large.shape == (360, 480, 3)
    assert np.array_equal(large_map[::3, ::3], index_map)
    assert enlarge(image, index_map, 0)[1] is index_map


@pytest.mark.parametrize(
    ("image", "index", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), int), "resize one of them"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), 9), "0..9|9..9"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), -1), "holds indices"),
        (np.zeros((4, 5, 3)), np.zeros((4, 5), int), "uint8"),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5), int), "uint8 image"),
    ],
)
def test_bad_input_is_named(image, index, message):
    with pytest.raises(ValueError, match=message):
        draw_panoptic(image, index, SEGMENTS, TABLE)


def test_alpha_out_of_range_is_named():
    with pytest.raises(ValueError, match="alpha"):
        DrawStyle(alpha=1.5)
