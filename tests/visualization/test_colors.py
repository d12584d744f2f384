import numpy as np
import pytest

from mmpanoptic.structures import LabelTable
from mmpanoptic.visualization.colors import PALETTES, segment_colors, variations

TABLE = LabelTable.from_categories(
    [
        {"id": 1, "name": "cell", "isthing": 1, "color": (90, 200, 250)},
        {"id": 2, "name": "dark", "isthing": 1, "color": (0, 0, 70)},
        {"id": 3, "name": "ground", "isthing": 0, "color": (40, 40, 60)},
        {"id": 4, "name": "grey", "isthing": 1, "color": (128, 128, 128)},
    ]
)
# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency", 2009, table 1: deuteranopia, protanopia (severity 1) in linear RGB.
BLINDNESS = {
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}


def tiles(size, gap):
    """Index map of 6 x 6 squares, one thing each."""
    index = np.zeros((6 * size, 6 * size), np.int32)
    for k in range(36):
        row, column = divmod(k, 6)
        top, left = row * size, column * size
        index[top : top + size - gap, left : left + size - gap] = k + 1
    return index


def pairs_of_neighbours(index):
    blocks = index[::20, ::20][:6, :6]
    for one, two in ((blocks[:, 1:], blocks[:, :-1]), (blocks[1:], blocks[:-1])):
        yield from zip(one.ravel().tolist(), two.ravel().tolist(), strict=True)


@pytest.mark.parametrize("gap", [0, 5])
@pytest.mark.parametrize("label", [0, 1, 3])
@pytest.mark.parametrize("palette", PALETTES)
def test_things_that_touch_or_nearly_touch_differ_in_color(palette, label, gap):
    segments = [{"label": label}] * 36
    index = tiles(20, gap)
    colors = segment_colors(segments, TABLE, index, palette).astype(float)
    for one, two in pairs_of_neighbours(index):
        assert np.linalg.norm(colors[one] - colors[two]) > 50


@pytest.mark.parametrize("kind", BLINDNESS)
def test_neighbours_differ_for_colour_blind_readers(kind):
    index = tiles(20, 0)
    # Neighbours of one class and of several.
    segments = [{"label": (0, 1, 3)[k % 7 % 3]} for k in range(36)]
    colors = segment_colors(segments, TABLE, index, "colorblind") / 255.0
    seen = np.clip(colors**2.2 @ np.array(BLINDNESS[kind]).T, 0, 1) ** (1 / 2.2) * 255
    for one, two in pairs_of_neighbours(index):
        assert np.linalg.norm(seen[one] - seen[two]) > 35


def test_things_far_apart_and_stuff_keep_the_color_of_their_class():
    index = np.full((200, 200), 3, np.int32)
    index[:20, :20], index[180:, 180:] = 1, 2
    segments = [{"label": 0}, {"label": 0}, {"label": 2}]
    colors = segment_colors(segments, TABLE, index).tolist()
    assert colors == [[0, 0, 0], [90, 200, 250], [90, 200, 250], [40, 40, 60]]


def test_a_track_keeps_its_color_whoever_is_beside_it():
    index = tiles(20, 0)
    segments = [{"label": 0, "track_id": k // 2} for k in range(36)]
    colors = segment_colors(segments, TABLE, index)
    assert (colors[1] == colors[2]).all()
    assert (colors[1] != colors[3]).any()


def test_classes_beyond_the_eighth_differ_from_the_first_ones():
    first = [tuple(variations(k, (0, 0, 0), "colorblind")[0]) for k in range(40)]
    assert len(set(first)) == 40


def test_an_unknown_palette_is_named():
    with pytest.raises(ValueError, match="unknown palette 'rainbow'; there are classes, color"):
        segment_colors([], TABLE, palette="rainbow")
