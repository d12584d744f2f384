import numpy as np
import pytest

from mmpanoptic.structures import LabelTable
from mmpanoptic.visualization import draw_multicut, multicut_sheet
from mmpanoptic.visualization.multicut import (
    draw_class_costs,
    draw_components,
    draw_cuts,
    draw_edge_costs,
)


@pytest.fixture
def table():
    return LabelTable.from_categories(
        [
            {"id": 1, "name": "a", "isthing": 1, "color": [200, 0, 0]},
            {"id": 2, "name": "b", "isthing": 0, "color": [0, 100, 0]},
        ]
    )


def test_attraction_is_blue_and_repulsion_red():
    picture = draw_edge_costs(np.array([[3.0, -3.0, 0.0]]))
    assert picture.tolist() == [[[0, 0, 255], [255, 0, 0], [255, 255, 255]]]


def test_one_huge_cost_does_not_hide_the_others():
    costs = np.full((10, 20), 2.0)
    costs[0, 0] = 1e6
    assert draw_edge_costs(costs)[5, 5].tolist() == [0, 0, 255]


def test_the_cheapest_class_gives_the_colour_and_its_margin_the_strength(table):
    costs = np.zeros((2, 1, 3))
    costs[:, 0, 0] = (-4, 4)
    costs[:, 0, 1] = (4, -4)
    picture = draw_class_costs(costs, table)[0]
    assert picture[:2].tolist() == [[200, 0, 0], [0, 100, 0]]
    assert picture[2].min() > 200


def test_cuts_of_both_directions_add_up():
    cuts = np.zeros((2, 1, 4), bool)
    cuts[0, 0, [1, 3]] = cuts[1, 0, [2, 3]] = True
    picture = draw_cuts(cuts)[0].tolist()
    assert picture[0] == [0, 0, 0]
    assert picture[3] == [255, 255, 120]
    assert picture[1] != picture[2]


def test_components_have_their_own_colours():
    picture = draw_components(np.array([[0, 1, 2, 1]]))[0].tolist()
    assert picture[1] == picture[3]
    assert len({tuple(color) for color in picture}) == 3


def test_all_pictures_have_the_size_asked_for(table):
    fields = {
        "class_cost": np.zeros((2, 4, 6)),
        "component": np.zeros((1, 4, 6), np.int64),
        "cost_8": np.ones((2, 4, 6)),
        "cut_8": np.zeros((2, 4, 6), bool),
    }
    pictures = draw_multicut(fields, table, (15, 24))
    assert pictures.keys() == {"class_cost", "component", "cost_8_row", "cost_8_column", "cut_8"}
    assert {picture.shape for picture in pictures.values()} == {(15, 24, 3)}
    assert {picture.dtype for picture in pictures.values()} == {np.dtype(np.uint8)}
    image = np.full((15, 24, 3), 7, np.uint8)
    sheet = multicut_sheet(image, image, pictures, width=100)
    assert sheet.shape[1] > 4 * 100
    assert (sheet == 7).all(2).sum() >= 2 * 15 * 24 * 5**2
