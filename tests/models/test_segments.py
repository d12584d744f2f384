import numpy as np
import pytest
import torch

from mmpanoptic.models.postprocess import ResizedLogits
from mmpanoptic.models.postprocess.centers import find_centers, group_things
from mmpanoptic.models.postprocess.segments import (
    mean_class_probability,
    merge_segments,
    segment_statistics,
)
from tests.data.golden.panoptic_deeplab.crafted_inputs import make_postprocess_inputs
from tests.reference import panoptic_deeplab as reference

THINGS = (1, 4, 5)
ISTHING = torch.tensor([label in THINGS for label in range(7)])


def merge(semantic, centers, offset, stuff_area):
    instance = group_things(semantic, centers, offset, ISTHING)
    return merge_segments(semantic, instance, len(centers), ISTHING, stuff_area)


def published_map(merged):
    """Rebuild ``class * 1000 + n`` of a merged map."""
    codes, count = {0: -1}, {}
    table = sorted(zip(merged.table.number.tolist(), merged.table.label.tolist(), strict=True))
    for number, label in table:
        if number:
            count[label] = count.get(label, 0) + 1
            codes[number] = label * 1000 + (count[label] if label in THINGS else 0)
    assert list(codes) == list(range(len(codes)))
    return torch.tensor(list(codes.values()))[merged.index_map.long()]


def make_inputs(seed, height=41, width=67, instances=9):
    data = make_postprocess_inputs(
        seed, height, width, instances, num_classes=7, thing_ids=THINGS, sigma=2, label_noise=0.2
    )
    return tuple(torch.from_numpy(data[key]) for key in ("sem", "center", "offset"))


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_loop_over_instances(seed):
    semantic, heatmap, offset = make_inputs(seed, instances=seed * 3)
    expected, centers = reference.get_panoptic_segmentation(
        semantic, heatmap[0], offset, THINGS, 200, nms_kernel=5
    )
    found = find_centers(heatmap[0], nms_kernel=5)
    assert torch.equal(found, centers)
    merged = merge(semantic, found, offset, 200)
    assert torch.equal(published_map(merged), expected)


@pytest.mark.parametrize("seed", range(3))
def test_strided_inputs_give_the_same_map(seed):
    semantic, heatmap, offset = make_inputs(seed)
    centers = find_centers(heatmap[0], nms_kernel=5)
    expected = merge(semantic, centers, offset, 10).index_map
    merged = merge(
        semantic.T.contiguous().T,
        centers,
        offset.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        10,
    )
    assert torch.equal(merged.index_map, expected)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("count", [0, 1])
def test_uniform_images(label, count):
    semantic = torch.full((6, 8), label)
    centers = torch.tensor([[2, 3]])[:count]
    merged = merge(semantic, centers, torch.zeros(2, 6, 8), 48)
    expected = 1 if label == 0 or count else 0
    assert (merged.index_map == expected).all()


@pytest.mark.parametrize(("limit", "expected"), [(24, 1), (25, 0), (0, 1)])
def test_stuff_of_exactly_the_limit_is_kept(limit, expected):
    semantic = torch.zeros(6, 8, dtype=torch.int64)
    semantic[:3] = 4
    none = torch.zeros(0, 2, dtype=torch.int64)
    merged = merge(semantic, none, torch.zeros(2, 6, 8), limit)
    assert (merged.index_map[:3] == 0).all()
    assert (merged.index_map[3:] == expected).all()


def test_majority_ties_take_the_smaller_class():
    semantic = torch.tensor([[5, 5, 4, 4, 1]])
    centers = torch.tensor([[0, 0], [0, 4]])
    offset = torch.zeros(2, 1, 5)
    offset[1, 0, :4] = torch.tensor([0.0, -1.0, -2.0, -3.0])
    merged = merge(semantic, centers, offset, 1)
    assert published_map(merged).tolist() == [[4001, 4001, 4001, 4001, 1001]]


def test_statistics_equal_those_of_masks():
    rng = np.random.default_rng(0)
    index_map = torch.from_numpy(rng.integers(0, 6, (9, 13)).astype(np.int32) ** 2 // 3)
    index_map[index_map == 3] = 0
    statistics = segment_statistics(index_map, 9)
    for number in range(1, 10):
        y, x = (index_map == number).nonzero().T
        row = number - 1
        assert statistics.area[row] == len(y)
        if not len(y):
            assert statistics.box[row].tolist() == [0, 0, 0, 0]
            assert statistics.centroid[row].tolist() == [0, 0]
            continue
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert statistics.box[row].tolist() == [int(v) for v in box]
        centroid = [int(y.double().mean()), int(x.double().mean())]
        assert statistics.centroid[row].tolist() == centroid


@pytest.mark.parametrize("sparse", [False, True])
def test_mean_probability_equals_the_softmax_under_the_mask(sparse):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 5, 6, generator=generator) * 3
    instance = torch.randint(0, 4, (20, 24), generator=generator, dtype=torch.int32)
    label = torch.tensor([4, 1, 5, 5])
    resized = ResizedLogits(logits, 4, (20, 24), (20, 24))
    actual = mean_class_probability(resized, instance, label, sparse)
    probability = resized.dense().softmax(0)
    for k in range(3):
        expected = probability[label[k]][instance == k + 1].mean().double()
        torch.testing.assert_close(actual[k], expected, rtol=1e-6, atol=0)
    assert actual[3] == 0
