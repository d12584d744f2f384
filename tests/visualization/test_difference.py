import numpy as np

from mmpanoptic.visualization import DIFFERENCES, difference_map, draw_difference

RIGHT, CLASS, SEGMENT, VOID = range(4)


def test_every_kind_of_difference_by_hand():
    truth = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 0, 0]])
    found = np.array([[1, 1, 1, 2, 3, 3, 4, 4, 4, 0, 1, 0]])
    truth_info = [{"label": 0}, {"label": 0}, {"label": 1}]
    found_info = [{"label": 0}, {"label": 0}, {"label": 0}, {"label": 1}]
    # Segment 1 is matched (3 of 4, void left out); of 2 a half is found, which is no match.
    expected = [RIGHT] * 3 + [SEGMENT] * 3 + [CLASS] * 2 + [SEGMENT, VOID, RIGHT, RIGHT]
    assert difference_map(truth, truth_info, found, found_info)[0].tolist() == expected


def test_in_a_crowd_the_class_alone_counts():
    truth = np.array([[1, 1, 1, 1]])
    found = np.array([[1, 2, 3, 0]])
    info = [{"label": 0, "iscrowd": 1}]
    found_info = [{"label": 0}, {"label": 0}, {"label": 1}]
    kinds = difference_map(truth, info, found, found_info)[0].tolist()
    assert kinds == [RIGHT, RIGHT, CLASS, VOID]


def test_what_is_right_shows_the_image_in_grey():
    image = np.full((1, 4, 3), (200, 100, 50), np.uint8)
    drawn = draw_difference(image, np.array([[0, 1, 2, 3]], np.uint8)).astype(int)
    assert len(np.unique(drawn[0, 0])) == 1
    for k, color in enumerate(DIFFERENCES.values()):
        if k:
            expected = 0.65 * np.array(color) + 0.35 * drawn[0, 0]
            assert np.abs(drawn[0, k] - expected).max() <= 1
    assert draw_difference(np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.uint8)).size == 0
