import pytest
import torch

from mmpanoptic.models.multicut.grid_edges import check_distances, map_edges, valid_edges


@pytest.mark.parametrize("distances", [(1, 3), (0, 2), (), (2, 2)])
def test_distances_without_a_layout_are_refused(distances):
    with pytest.raises(ValueError, match="1 or even"):
        check_distances("part", distances, (1,) * len(distances))


@pytest.mark.parametrize("intervals", [(1,), (1, 0)])
def test_each_distance_needs_an_interval(intervals):
    with pytest.raises(ValueError, match="sampling intervals"):
        check_distances("part", (1, 4), intervals)


def test_distance_one_is_stored_at_its_first_end_and_others_in_the_middle():
    x = torch.arange(6.0)[None].expand(5, 6)
    near = map_edges(x, 1, lambda a, b: b - a)
    assert near[1].tolist() == [[1, 1, 1, 1, 1, 0]] * 5
    assert not near[0].any()
    far = map_edges(x, 4, lambda a, b: 10 * a + b)
    assert far[1].tolist() == [[0, 0, 4, 15, 0, 0]] * 5


def test_a_grid_smaller_than_the_distance_has_no_edges():
    x = torch.ones(3, 2, 9)
    edges = map_edges(x, 4, torch.add)
    assert edges.shape == (3, 2, 2, 9)
    assert not edges[:, 0].any()
    assert edges[:, 1].sum() == 3 * 2 * 5 * 2
    assert not valid_edges((2, 3), 4).any()


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("distance", [1, 2, 4])
def test_invalid_positions_hold_zero(distance, interval):
    edges = map_edges(torch.ones(7, 11), distance, torch.add, interval)
    assert torch.equal(edges > 0, valid_edges((7, 11), distance, interval))
