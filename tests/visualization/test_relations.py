import numpy as np

from mmpanoptic.visualization.relations import draw_relations, relation_colors

IMAGE = np.full((60, 90, 3), 100, np.uint8)


def boxes(*corners):
    masks = np.zeros((len(corners), 60, 90), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return list(masks)


def test_an_arrow_joins_front_and_behind():
    masks = boxes((2, 20, 30, 40), (55, 20, 88, 40))
    plain = draw_relations(IMAGE, masks, ["a", "b"], [])
    drawn = draw_relations(IMAGE, masks, ["a", "b"], [(0, 1)])
    between = np.s_[25:35, 36:50]
    assert (plain[between] == 100).all()
    assert (drawn[between] != 100).any()
    assert (drawn[:10] == 100).all()


def test_hidden_outlines_are_drawn_whole_and_the_image_stays():
    masks = boxes((0, 0, 60, 60), (20, 20, 50, 50))
    before = IMAGE.copy()
    drawn = draw_relations(IMAGE, masks, ["", ""], [(0, 1)], alpha=0.0)
    assert (drawn[20, 20:30] == relation_colors(2)[1]).all()
    assert np.array_equal(before, IMAGE)


def test_nothing_to_draw_gives_the_image():
    assert np.array_equal(draw_relations(IMAGE, [], [], []), IMAGE)
    empty = draw_relations(IMAGE, boxes((0, 0, 0, 0)), ["hidden"], [])
    assert empty.shape == IMAGE.shape


def test_colors_differ():
    assert len(set(relation_colors(12))) == 12
