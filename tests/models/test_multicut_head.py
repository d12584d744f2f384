import numpy as np
import pytest
import torch
from torch.nn import functional

from mmpanoptic.models.fusion_heads import MulticutHead
from mmpanoptic.models.instance_heads import AffinityOutputs
from mmpanoptic.models.multicut.layer import Cut
from mmpanoptic.models.multicut.scores import (
    NearestGrid,
    affinity_scores,
    class_scores,
    class_scores_of_result,
    mean_over_segments,
)
from mmpanoptic.models.postprocess.segments import segment_statistics
from tests.data.golden.cops import synthetic_scenes
from tests.reference.cops import panoptic_of_cut

CLASSES, THINGS, DISTANCES = 6, (3, 4, 5), (1, 4, 8)
SIZES = [((64, 96), (64, 96)), ((61, 90), (61, 90)), ((64, 96), (100, 40)), ((50, 96), (23, 41))]


def make_head(**options) -> MulticutHead:
    settings = {"stuff_area": 200, "instance_area": 48, "num_threads": 1}
    return MulticutHead(CLASSES, THINGS, DISTANCES, **{**settings, **options})


def make_outputs(seeds=(0,), height=16, width=24):
    scenes = [
        synthetic_scenes.scene(
            seed, height, width, CLASSES, THINGS, DISTANCES, num_things=14, margin=4.0
        )
        for seed in seeds
    ]
    node = torch.stack([torch.from_numpy(one[0]) for one in scenes])
    edges = tuple(
        torch.stack([torch.from_numpy(one[1][number]) for one in scenes])
        for number in range(len(DISTANCES))
    )
    return -node, AffinityOutputs(tuple(-part for part in edges), node, edges)


def predict(head, meta, seeds=(0,)):
    logits, outputs = make_outputs(seeds)
    return head.predict(logits, outputs, [meta] * len(seeds))


def test_the_result_is_that_of_a_stack_of_masks():
    head = make_head()
    logits, outputs = make_outputs()
    (result,) = head.predict(logits, outputs, [{"img_shape": (64, 96)}])
    head.keep_outputs = True
    (kept,) = head.predict(logits, outputs, [{"img_shape": (64, 96)}])
    expected = panoptic_of_cut(
        result["pred_sem_seg"].sem_seg[0, ::4, ::4],
        kept["pred_heads"].component[0],
        logits[0],
        [part[0] for part in outputs.logits],
        DISTANCES,
        THINGS,
        (head.instance_area, head.stuff_area),
    )
    data = result["pred_panoptic_seg"]
    codes, seen, scores = [-1], {}, {}
    for segment in data.segments_info:
        number = seen.get(segment["label"], 0)
        seen[segment["label"]] = number + 1
        codes.append(segment["label"] * 1000 + (number if segment["isthing"] else 0))
        if segment["isthing"]:
            scores[codes[-1]] = segment["score"]
    assert len(scores) > 1
    np.testing.assert_array_equal(np.array(codes)[data.index_map[0]], expected["panoptic"])
    assert scores == pytest.approx(expected["scores"], rel=1e-4)


@pytest.mark.parametrize("score_mode", ["network", "published"])
@pytest.mark.parametrize(("img_shape", "ori_shape"), SIZES)
def test_areas_and_boxes_are_those_of_the_map(img_shape, ori_shape, score_mode):
    head = make_head(score_mode=score_mode)
    (result,) = predict(head, {"img_shape": img_shape, "ori_shape": ori_shape})
    data = result["pred_panoptic_seg"]
    assert data.index_map.shape == (1, *ori_shape)
    assert len(data.segments_info) > 2
    statistics = segment_statistics(data.index_map[0], len(data.segments_info))
    for segment, area, box in zip(
        data.segments_info, statistics.area.tolist(), statistics.box.tolist(), strict=True
    ):
        x, y, width, height = segment["bbox"]
        assert (segment["area"], [x, y, x + width, y + height]) == (area, box)
        assert np.isfinite(segment["score"])


@pytest.mark.parametrize(("img_shape", "ori_shape"), SIZES)
def test_one_look_up_equals_repeating_cropping_and_resizing(img_shape, ori_shape):
    cells = torch.arange(16 * 24).view(16, 24)
    grid = NearestGrid((16, 24), 4, img_shape, ori_shape, cells.device)
    full = cells.repeat_interleave(4, 0).repeat_interleave(4, 1)[: img_shape[0], : img_shape[1]]
    expected = functional.interpolate(full[None, None].float(), size=ori_shape)[0, 0]
    assert torch.equal(grid.enlarge(cells), expected.long())


def test_both_scores_agree_where_nothing_is_resized():
    head = make_head()
    ours = predict(head, {"img_shape": (64, 96)})[0]["pred_panoptic_seg"].segments_info
    head.score_mode = "published"
    theirs = predict(head, {"img_shape": (64, 96)})[0]["pred_panoptic_seg"].segments_info
    assert [s["score"] for s in ours] == pytest.approx([s["score"] for s in theirs], rel=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_the_mean_over_cells_is_that_over_enlarged_logits(stride):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 8, generator=generator)
    index = torch.randint(0, 4, (6, 8), generator=generator)
    label = torch.tensor([2, 0, 2])
    size = (6 * stride, 8 * stride)
    grid = NearestGrid((6, 8), stride, size, size, logits.device)
    expected = class_scores_of_result(logits, grid.enlarge(index), label, grid)
    torch.testing.assert_close(class_scores(logits, index, label, stride), expected)


@pytest.mark.parametrize("interval", [1, 2])
def test_edge_scores_follow_their_definition(interval):
    generator = torch.Generator().manual_seed(1)
    index = torch.randint(0, 3, (9, 11), generator=generator)
    shape = (2, -(-9 // interval), -(-11 // interval))
    logits = [torch.randn(*shape, generator=generator) for _ in (1, 4)]
    got = affinity_scores(index, logits, (1, 4), (interval, interval), 2)
    for segment in (1, 2):
        total = 0.0
        for values, distance in zip(logits, (1, 4), strict=True):
            before = 0 if distance == 1 else distance // 2
            for axis, a, b in np.ndindex(*shape):
                center = [a * interval, b * interval]
                first, second = list(center), list(center)
                first[axis] -= before
                second[axis] += distance - before
                last = -(-index.shape[axis] // interval) - -(-(distance - before) // interval)
                if not -(-before // interval) <= (a, b)[axis] < last:
                    continue
                ends = [int(index[tuple(end)]) == segment for end in (first, second)]
                sign = sum(ends) - 3 * all(ends)
                total += float(values[axis, a, b]) * sign / values.numel()
        assert float(got[segment - 1]) == pytest.approx(total, abs=1e-5)


def test_means_of_segments_without_cells_are_zero():
    means = mean_over_segments(torch.tensor([1.0, 3.0]), torch.tensor([2, 2]), 3)
    assert means.tolist() == [0.0, 2.0, 0.0]


def test_a_cut_into_tiny_things_alone_is_void():
    labels = torch.full((4, 6), 3)
    cut = Cut(labels, torch.arange(24).view(4, 6))
    zeros = torch.zeros(CLASSES, 4, 6)
    edges = [torch.zeros(2, 4, 6) for _ in DISTANCES]
    result = make_head().predict_single(cut, zeros, edges, {"img_shape": (16, 24)})
    assert not result["pred_panoptic_seg"].segments_info
    assert not result["pred_panoptic_seg"].index_map.any()
    assert (result["pred_sem_seg"].sem_seg == 3).all()


def test_small_stuff_and_things_become_void():
    large = predict(make_head(stuff_area=10**6, instance_area=0), {"img_shape": (64, 96)})
    assert all(s["isthing"] for s in large[0]["pred_panoptic_seg"].segments_info)
    small = predict(make_head(stuff_area=0, instance_area=10**6), {"img_shape": (64, 96)})
    assert not any(s["isthing"] for s in small[0]["pred_panoptic_seg"].segments_info)


def test_segments_of_the_padding_are_left_out():
    result = predict(make_head(stuff_area=0), {"img_shape": (8, 8), "ori_shape": (8, 8)})[0]
    data = result["pred_panoptic_seg"]
    assert all(segment["area"] > 0 for segment in data.segments_info)
    assert data.index_map.max() == len(data.segments_info)


def test_a_batch_solved_on_threads_equals_its_images():
    together = predict(make_head(num_threads=3), {"img_shape": (64, 96)}, seeds=(0, 1, 2))
    for seed, expected in enumerate(together):
        (alone,) = predict(make_head(), {"img_shape": (64, 96)}, seeds=(seed,))
        assert torch.equal(
            alone["pred_panoptic_seg"].index_map, expected["pred_panoptic_seg"].index_map
        )


@pytest.mark.parametrize("things", [(), tuple(range(CLASSES))])
def test_there_may_be_no_things_or_nothing_else(things):
    head = MulticutHead(CLASSES, things, DISTANCES, stuff_area=0, instance_area=0)
    segments = predict(head, {"img_shape": (64, 96)})[0]["pred_panoptic_seg"].segments_info
    assert segments
    assert {segment["isthing"] for segment in segments} == {bool(things)}


@pytest.mark.parametrize(
    ("solver", "error"),
    [({"mode": "best"}, "mode"), ({"min_instance_size": 3}, "ignore_area")],
)
def test_options_of_the_solver_are_checked(solver, error):
    with pytest.raises(ValueError, match=error):
        make_head(solver=solver)


def test_an_unknown_score_is_refused():
    with pytest.raises(ValueError, match="score_mode"):
        make_head(score_mode="best")
