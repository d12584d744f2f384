"""The painting engine and the three fusion heads on made-up detections."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmpanoptic.models.fusion_heads import ordered_fusion
from mmpanoptic.models.fusion_heads.ordered_fusion import (
    HeuristicFusionHead,
    OcclusionFusionHead,
    RelationFusionHead,
    meeting_pairs,
    select_by_score,
)
from mmpanoptic.models.layers import PairQuery
from mmpanoptic.models.postprocess import painting
from mmpanoptic.models.postprocess.painting import Painting, paint_in_order
from mmpanoptic.models.postprocess.segments import FREE
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import BoxedMasks

SIZE = (40, 60)
CLASSES = {"thing_labels": (3, 4, 5), "stuff_labels": (0, 1, 2)}
HEADS = {
    "heuristic": HeuristicFusionHead,
    "relation": RelationFusionHead,
    "occlusion": OcclusionFusionHead,
}


def rectangles(boxes) -> torch.Tensor:
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def random_scene(seed, count=12):
    """Detections with all fields, their masks and semantic channels."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 30, (count, 2))
    masks = rectangles(np.concatenate([corner, corner + rng.integers(4, 25, (count, 2))], 1))
    masks &= torch.from_numpy(rng.random((count, *SIZE)) < 0.95)
    found = InstanceData(
        scores=torch.from_numpy(rng.permutation(count) / count).float(),
        labels=torch.from_numpy(rng.integers(0, 3, count)),
        relation_values=torch.from_numpy(rng.permutation(count)).float(),
        masks=masks,
    )
    matrix = torch.from_numpy(rng.random((count, count))).float()
    found.occlusion = PairQuery(
        torch.arange(count), lambda known, pairs: matrix[known[pairs[:, 0]], known[pairs[:, 1]]]
    )
    return found, torch.from_numpy(rng.integers(0, 5, SIZE))


def fuse(head, found, channels):
    kept = select_by_score(found, head.score_thr)
    return head.fuse(kept, BoxedMasks.from_full(kept.masks), channels)


@pytest.fixture(params=HEADS)
def head(request):
    return HEADS[request.param](**CLASSES, score_thr=0.2, stuff_area=20)


@pytest.mark.parametrize("seed", range(4))
def test_segments_are_a_partition_with_true_areas(head, seed):
    index_map, segments = fuse(head, *random_scene(seed))
    assert [s["id"] for s in segments] == list(range(1, len(segments) + 1))
    counts = torch.bincount(index_map.flatten(), minlength=len(segments) + 1)
    assert [s["area"] for s in segments] == counts[1:].tolist()
    assert all(s["area"] > 0 for s in segments)
    things = [s["isthing"] for s in segments]
    assert things == sorted(things, reverse=True)
    assert all(s["area"] >= 20 for s in segments if not s["isthing"])


def test_the_order_of_detections_does_not_matter(head):
    found, channels = random_scene(5)
    expected, expected_segments = fuse(head, found, channels)
    shuffled = found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))]
    actual, segments = fuse(head, shuffled, channels)
    assert torch.equal(actual, expected)
    assert segments == expected_segments


def test_empty_masks_change_nothing(head):
    found, channels = random_scene(6)
    expected, _ = fuse(head, found, channels)
    hollow = found[:]
    hollow.masks = torch.zeros_like(found.masks)
    # The empty ones come with every score, before and after the others.
    both = InstanceData.cat([hollow, found])
    actual, _ = fuse(head, both, channels)
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("count", [0, 1])
def test_no_and_one_detection(head, count):
    found, channels = random_scene(7)
    best = found.scores.argmax().view(1)
    index_map, segments = fuse(head, found[best][:count], channels)
    assert sum(s["isthing"] for s in segments) == count
    if count:
        assert torch.equal(index_map == 1, found.masks[best[0]])


def test_equal_relation_values_let_the_better_score_keep_its_pixels():
    found, channels = random_scene(8)
    found.relation_values = torch.zeros(len(found))
    head = RelationFusionHead(
        **CLASSES, score_thr=0.0, overlap_thr=0.5, large_overlap_thr=2.0, stuff_area=0
    )
    index_map, segments = fuse(head, found, channels)
    kept = select_by_score(found, 0.0)
    taken = torch.zeros(SIZE, dtype=torch.bool)
    number = 0
    for mask in kept.masks:
        if (mask & ~taken).sum() / mask.sum() > 0.5:
            number += 1
            assert torch.equal(index_map == number, mask & ~taken)
            taken |= mask
    assert number == sum(s["isthing"] for s in segments)


def test_the_nearer_instance_takes_the_pixels_of_the_better_one():
    found = InstanceData(
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([0, 1]),
        relation_values=torch.tensor([1.0, -1.0]),
        masks=rectangles([(0, 0, 20, 20), (15, 0, 35, 20)]),
    )
    head = RelationFusionHead(**CLASSES)
    index_map, segments = fuse(head, found, torch.zeros(SIZE, dtype=torch.long))
    assert [s["area"] for s in segments] == [300, 400]
    assert torch.equal(index_map == 2, found.masks[1])
    assert [s["score"] for s in segments] == pytest.approx([0.9, 0.8])


def test_only_pairs_that_meet_and_have_the_score_are_asked_about():
    asked = []

    def answer(known, pairs):
        asked.extend((int(known[a]), int(known[b])) for a, b in pairs.tolist())
        return torch.ones(len(pairs))

    found = InstanceData(
        scores=torch.tensor([0.9, 0.8, 0.7, 0.1]),
        labels=torch.zeros(4, dtype=torch.long),
        masks=rectangles([(0, 0, 10, 10), (8, 0, 20, 10), (30, 0, 40, 10), (0, 0, 40, 10)]),
        occlusion=PairQuery(torch.arange(4), answer),
    )
    index_map, _ = fuse(OcclusionFusionHead(**CLASSES), found, torch.zeros(SIZE).long())
    assert asked == [(1, 0)]
    assert (index_map[:10, 8:10] == 2).all()


def test_meeting_pairs_are_those_with_common_pixels():
    found, _ = random_scene(9)
    common = torch.einsum("ihw,jhw->ij", *[found.masks.float()] * 2) > 0
    expected = common.tril(-1).nonzero()
    assert torch.equal(meeting_pairs(BoxedMasks.from_full(found.masks)), expected)
    assert meeting_pairs(BoxedMasks.from_full(found.masks[:1])).shape == (0, 2)


def test_the_area_order_paints_small_confident_instances_first():
    found = InstanceData(
        scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.zeros(3, dtype=torch.long),
        masks=rectangles([(0, 0, 20, 20), (0, 0, 10, 10), (0, 15, 5, 20)]),
    )
    channels = torch.zeros(SIZE, dtype=torch.long)
    by_area = HeuristicFusionHead(**CLASSES, order="area", area_order_thr=0.75)
    _, segments = fuse(by_area, found, channels)
    assert [s["area"] for s in segments] == [100, 300]
    _, segments = fuse(HeuristicFusionHead(**CLASSES), found, channels)
    assert [s["area"] for s in segments] == [400]


def test_instances_of_which_too_little_is_left_become_free_for_stuff():
    found = InstanceData(
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([0, 1]),
        relation_values=torch.tensor([1.0, 0.0]),
        masks=rectangles([(0, 0, 20, 20), (2, 0, 40, 20)]),
    )
    channels = torch.full(SIZE, 1)
    options = {**CLASSES, "large_overlap_thr": 2.0, "stuff_area": 0}
    _, segments = fuse(RelationFusionHead(**options), found, channels)
    assert [s["area"] for s in segments] == [40, 760, 1600]
    _, segments = fuse(RelationFusionHead(**options, min_visible=0.2), found, channels)
    assert [(s["label"], s["area"]) for s in segments] == [(4, 760), (0, 1640)]


def test_more_instances_than_a_byte_can_number():
    boxes = [(x % 60, x // 60 * 2, x % 60 + 1, x // 60 * 2 + 1) for x in range(300)]
    found = InstanceData(
        scores=torch.full((300,), 0.9),
        labels=torch.zeros(300, dtype=torch.long),
        masks=rectangles(boxes),
    )
    index_map, _ = fuse(HeuristicFusionHead(**CLASSES), found, torch.zeros(SIZE).long())
    assert index_map.max() == 300


def test_a_rule_sees_who_owns_the_pixels_under_the_mask():
    seen = []

    def rule(k, free, met, painting: Painting):
        seen.append((k, int(free), met.tolist(), painting.visible.tolist()))
        return True, np.ones(len(met), bool)

    masks = BoxedMasks.from_full(rectangles([(0, 0, 4, 1), (2, 0, 6, 1)]))
    painting = paint_in_order(masks, rule)
    assert seen == [(0, 4, [0, 0], [0, 0]), (1, 2, [2, 0], [4, 0])]
    assert painting.visible.tolist() == [2, 4]
    assert (painting.owner == FREE).sum() == SIZE[0] * SIZE[1] - 6


def test_predictions_are_in_the_size_of_the_original_image(head):
    found = InstanceData(
        bboxes=torch.tensor([[2.0, 2.0, 30.0, 30.0], [20.0, 10.0, 50.0, 40.0]]),
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([0, 2]),
        mask_logits=torch.full((2, 28, 28), 4.0),
        relation_values=torch.tensor([0.0, 1.0]),
    )
    found.occlusion = PairQuery(torch.arange(2), lambda known, pairs: torch.zeros(len(pairs)))
    head.predict_instances = True
    logits = torch.zeros(1, 5, 8, 16)
    logits[:, 2] = 1
    meta = {"img_shape": (30, 60), "ori_shape": (45, 90)}
    result = head.predict(logits, [found], [meta])[0]
    assert result["pred_panoptic_seg"].index_map.shape == (1, 45, 90)
    labels = [s["label"] for s in result["pred_panoptic_seg"].segments_info]
    assert labels == [3, 5, 1]
    assert result["pred_instances"].masks.shape == (2, 45, 90)
    assert result["pred_instances"].labels.tolist() == [3, 5]
    assert set(result["pred_sem_seg"].sem_seg.unique().tolist()) == {1, 3, 5}


@pytest.mark.parametrize(
    ("name", "field"),
    [("RelationFusionHead", "relation_values"), ("OcclusionFusionHead", "occlusion_head")],
)
def test_a_detector_without_the_extra_head_is_an_error(name, field):
    head = MODELS.build({"type": name, **CLASSES})
    found, channels = random_scene(0)
    del found.relation_values, found.occlusion
    with pytest.raises(ValueError, match=field):
        fuse(head, found, channels)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="score, area"):
        HeuristicFusionHead(**CLASSES, order="size")
    with pytest.raises(ValueError, match="crop, squash"):
        HeuristicFusionHead(**CLASSES, pad_handling="stretch")


@pytest.mark.parametrize("min_visible", [0.0, 0.5])
def test_the_way_of_gpus_gives_the_same_map(head, monkeypatch, min_visible):
    """Numbers stay tensors and nothing is decided on the host; here it runs on the CPU."""
    head.min_visible = min_visible
    scenes = [random_scene(seed) for seed in range(4)]
    expected = [fuse(head, *scene) for scene in scenes]
    monkeypatch.setattr(painting, "_paint_on_host", painting._paint_on_device)
    for module in (painting, ordered_fusion):
        monkeypatch.setattr(module, "few_numbers", lambda values: values)
    for scene, (index_map, segments) in zip(scenes, expected, strict=True):
        actual, described = fuse(head, *scene)
        assert torch.equal(actual, index_map)
        assert described == segments


def on_cuda(query: PairQuery) -> PairQuery:
    return PairQuery(
        query.feats.cuda(), lambda known, pairs: query.ask(known.cpu(), pairs.cpu()).to("cuda")
    )


@pytest.mark.gpu
def test_a_gpu_gives_the_map_of_the_cpu(head):
    for seed in range(4):
        found, channels = random_scene(seed)
        expected, _ = fuse(head, found, channels)
        remote = found.to("cuda")
        remote.occlusion = on_cuda(found.occlusion)
        actual, _ = fuse(head, remote, channels.to("cuda"))
        assert torch.equal(actual.cpu(), expected)


@pytest.mark.gpu
def test_a_gpu_does_not_wait_between_two_instances():
    found, _ = random_scene(0)
    masks = BoxedMasks.from_full(found.masks.to("cuda"))
    kept = found.to("cuda")
    head = RelationFusionHead(**CLASSES)
    rule, order = head.make_rule(kept, masks), head.paint_order(kept, masks)
    torch.cuda.set_sync_debug_mode("error")
    try:
        paint_in_order(masks, rule, order)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_stuff_may_begin_at_any_channel():
    """The channels of a semantic head of all classes (EfficientPS) begin with the things here."""
    found, channels = random_scene(1)
    options = {"thing_labels": (0, 1, 2), "stuff_labels": (3, 4), "stuff_area": 0}
    head = HeuristicFusionHead(**options, first_stuff=3)
    index_map, segments = fuse(head, found[:0], channels)
    labels = torch.tensor([s["label"] for s in segments])
    assert labels.tolist() == [3, 4]
    for number, label in enumerate(labels, 1):
        assert torch.equal(index_map == number, channels == label)
