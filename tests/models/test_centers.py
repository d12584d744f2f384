import numpy as np
import pytest
import torch
from torch.nn import functional

from mmpanoptic.models.postprocess import centers as module
from mmpanoptic.models.postprocess.centers import (
    assign_to_centers,
    find_centers,
    find_centers_padded,
    group_things,
    group_things_padded,
)
from mmpanoptic.models.postprocess.segments import block_elements
from tests.models.traffic import traffic_of
from tests.reference import panoptic_deeplab as reference


def random_heatmap(seed, height, width, levels=50):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, levels, (height, width)).astype(np.float32) / levels)


@pytest.mark.parametrize("kernel", [1, 3, 7, 9, 41])
@pytest.mark.parametrize("size", [(1, 1), (5, 60), (37, 24)])
def test_window_maximum_equals_max_pooling(kernel, size):
    x = torch.randn(size)
    expected = functional.max_pool2d(x[None], kernel, 1, kernel // 2)[0]
    assert torch.equal(module._window_max(x, kernel), expected)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("top_k", [1, 5, 60, None])
def test_equals_the_published_rule(seed, top_k):
    heatmap = random_heatmap(seed, 23 + seed, 40 - seed)
    expected = reference.find_centers(heatmap, 0.1, 3, top_k)
    assert torch.equal(find_centers(heatmap, 0.1, 3, top_k), expected)


def test_images_with_fewer_pixels_than_top_k_work():
    heatmap = torch.tensor([[0.5, 0.0, 0.9]])
    assert find_centers(heatmap, 0.1, 1, 200).tolist() == [[0, 0], [0, 2]]
    assert find_centers(torch.tensor([[0.05]])).shape == (0, 2)


def test_stable_top_k_keeps_exactly_the_best_and_the_first_of_equals():
    heatmap = torch.zeros(10, 10)
    heatmap[::3, ::3] = 0.5
    heatmap[3, 3] = heatmap[9, 9] = 0.9
    assert find_centers(heatmap, 0.1, 3, 4).tolist() == [[3, 3], [9, 9]]
    kept = find_centers(heatmap, 0.1, 3, 4, stable_top_k=True)
    assert kept.tolist() == [[0, 0], [0, 3], [3, 3], [9, 9]]
    everything = find_centers(heatmap, 0.1, 3, 16, stable_top_k=True)
    assert len(everything) == 16


def test_half_precision_and_strided_heatmaps():
    heatmap = random_heatmap(0, 30, 40, levels=64)
    expected = find_centers(heatmap, 0.1, 5)
    assert torch.equal(find_centers(heatmap.half(), 0.1, 5), expected)
    turned = find_centers(heatmap.T.contiguous().T, 0.1, 5)
    assert torch.equal(turned, expected)


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_blocks_change_nothing(monkeypatch, count):
    generator = torch.Generator().manual_seed(count)
    centers = torch.randint(0, 50, (count, 2), generator=generator)
    offset = torch.randn(2, 50, 60, generator=generator) * 9
    pixels = torch.randperm(3000, generator=generator)[:777].sort().values
    expected = reference.group_pixels(centers, offset).flatten()[pixels] - 1
    assert torch.equal(assign_to_centers(centers, offset, pixels).long(), expected)
    monkeypatch.setattr(module, "block_elements", lambda device: 50)
    assert torch.equal(assign_to_centers(centers, offset, pixels).long(), expected)


def test_broken_offsets_do_not_crash():
    offset = torch.zeros(2, 4, 4)
    offset[0, 0, 0], offset[0, 1, 1], offset[1, 2, 2] = (float(v) for v in ("nan", "inf", "-inf"))
    assigned = assign_to_centers(torch.tensor([[0, 0], [3, 3]]), offset, torch.arange(16))
    assert assigned.min() >= 0
    assert assigned.max() <= 1


def test_of_equally_near_centres_the_first_is_taken():
    centers = torch.tensor([[0, 4], [0, 0], [2, 2]])
    assigned = assign_to_centers(centers, torch.zeros(2, 1, 5), torch.arange(5))
    assert assigned.tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("top_k", [1, 5, 60, 2000])
def test_the_padded_search_finds_the_same_centres(seed, top_k, stable):
    heatmap = random_heatmap(seed, 23 + seed, 40 - seed)
    expected = find_centers(heatmap, 0.1, 3, top_k, stable)
    centers, valid = find_centers_padded(heatmap, 0.1, 3, top_k, stable)
    assert len(centers) == len(valid) == top_k
    assert torch.equal(centers[valid], expected)
    assert torch.equal(valid, torch.arange(top_k) < len(expected))
    assert not centers[~valid].any()


def test_bands_find_the_same_centres(monkeypatch):
    heatmap = random_heatmap(3, 90, 20)
    expected = find_centers(heatmap, 0.1, 7, None)
    monkeypatch.setattr(module, "block_elements", lambda device: 1)
    assert torch.equal(find_centers(heatmap, 0.1, 7, None), expected)


THINGS = torch.tensor([False, True])


def crafted_scene(seed, height, width, count, spread):
    """Classes, centres padded with zeros, and offsets to a centre nearby, with noise."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(height * width, generator=generator)[:count].sort().values
    centers = torch.stack([places // width, places % width], 1)
    semantic = torch.randint(0, 2, (height, width), generator=generator)
    pixels = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    aim = centers[torch.randint(0, count, (height, width), generator=generator)].permute(2, 0, 1)
    offset = aim - pixels + torch.randn(2, height, width, generator=generator) * spread
    padded = torch.cat([centers, torch.zeros(7, 2, dtype=torch.int64)])
    return semantic, centers, padded, torch.arange(count + 7) < count, offset


@pytest.mark.parametrize("band", [None, 1 << 12])
@pytest.mark.parametrize(("size", "count"), [((90, 300), 1), ((90, 300), 60), ((200, 90), 9)])
def test_nearby_centres_give_what_all_centres_give(monkeypatch, size, count, band):
    if band:
        monkeypatch.setattr(module, "block_elements", lambda device: band)
    semantic, centers, padded, valid, offset = crafted_scene(count, *size, count, 4.0)
    found, unsure = group_things_padded(semantic, padded, valid, offset, THINGS)
    assert not unsure
    assert torch.equal(found, group_things(semantic, centers, offset, THINGS))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e30, 500.0, -500.0])
def test_pixels_that_point_far_away_are_told_if_they_are_things(number):
    semantic, _, padded, valid, offset = crafted_scene(0, 60, 70, 5, 2.0)
    offset[0, 3, 4], semantic[3, 4] = number, 0
    assert not group_things_padded(semantic, padded, valid, offset, THINGS)[1]
    semantic[3, 4] = 1
    assert group_things_padded(semantic, padded, valid, offset, THINGS)[1]


def test_crowds_of_centres_are_told():
    semantic, _, padded, valid, offset = crafted_scene(0, 20, 20, 200, 1.0)
    assert group_things_padded(semantic, padded, valid, offset, THINGS)[1]


def test_without_centres_there_is_no_instance():
    semantic, _, padded, valid, offset = crafted_scene(0, 20, 30, 5, 1.0)
    found, unsure = group_things_padded(semantic, padded, valid & False, offset, THINGS)
    assert not unsure
    assert not found.any()


def test_grouping_with_200_centres_moves_two_gigabytes_at_most(monkeypatch):
    monkeypatch.setattr(
        module, "block_elements", lambda device: block_elements(torch.device("cuda"))
    )
    semantic, _, padded, valid, offset = crafted_scene(0, 1024, 2048, 193, 5.0)
    result = []
    moved = traffic_of(
        lambda: result.extend(group_things_padded(semantic, padded, valid, offset, THINGS))
    )
    assert not result[1]
    assert moved <= 2e9
