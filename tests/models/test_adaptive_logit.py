import pytest
import torch
from mmengine.structures import InstanceData

from mmpanoptic.models.fusion_heads import AdaptiveLogitFusionHead
from mmpanoptic.models.postprocess import paste_masks
from mmpanoptic.models.postprocess.logit_contest import fuse_logits
from mmpanoptic.structures import BoxedMasks
from tests.reference import efficientps

SIZE = (24, 32)
NUM_STUFF, NUM_CLASSES = 3, 5
THINGS = [3, 4]
META = {"img_shape": SIZE}


def head(**options):
    return AdaptiveLogitFusionHead(NUM_CLASSES, THINGS, **{"stuff_area": 0, "stride": 1, **options})


def no_instances():
    return InstanceData(
        bboxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.int64),
        mask_logits=torch.zeros(0, 7, 7),
    )


def boxed(*boxes, scores=None, labels=None, logit=5.0):
    """Instances that fill their boxes (x0, y0, x1, y1)."""
    count = len(boxes)
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32),
        scores=torch.tensor(scores or [0.9 - 0.01 * k for k in range(count)]),
        labels=torch.tensor(labels or [0] * count),
        mask_logits=torch.full((count, 7, 7), logit),
    )


def stuff_logits(label=0, value=1.0):
    logits = torch.full((NUM_CLASSES, *SIZE), -1.0)
    logits[label] = value
    return logits


def run(logits, instances, meta=META, **options):
    result = head(**options).predict(logits[None], [instances], [meta])[0]
    data = result["pred_panoptic_seg"]
    return data.index_map[0], data.segments_info, result


def random_scene(seed, count=6):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(NUM_CLASSES, 6, 8, generator=generator) * 3
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([20.0, 14.0])
    side = torch.rand(count, 2, generator=generator) * 14 + 3
    masks = torch.randn(count, 7, 7, generator=generator) * 3 + 1
    instances = InstanceData(
        bboxes=torch.cat([corner, corner + side], 1),
        scores=torch.linspace(0.95, 0.6, count),
        labels=torch.randint(0, 2, (count,), generator=generator),
        mask_logits=masks,
    )
    return logits, instances


def test_the_formula_of_the_paper():
    a, b = torch.randn(2, 4, 5)
    assert torch.allclose(fuse_logits(a, b), (a.sigmoid() + b.sigmoid()) * (a + b))


@pytest.mark.parametrize("seed", range(8))
def test_with_the_parity_options_it_is_the_plain_restatement(seed):
    logits, found = random_scene(seed)
    meta = {"img_shape": (6, 8), "ori_shape": SIZE}
    options = {"legacy_zero_outside": True, "legacy_windows": True, "inst_logit_scale": 4.0}
    index_map, segments, _ = run(logits, found, meta, stuff_area=20, **options)
    ids, classes = efficientps.fuse(
        logits, found.bboxes, found.labels, found.mask_logits[:, None], SIZE, NUM_STUFF, 20
    )
    assert torch.equal(index_map.long(), ids)
    assert [255, *(segment["label"] for segment in segments)] == classes


@pytest.mark.parametrize("seed", range(4))
def test_boxed_masks_of_the_image_give_what_masks_of_boxes_give(seed):
    logits, found = random_scene(seed)
    meta = {"img_shape": (6, 8), "ori_shape": SIZE}
    found.bboxes = found.bboxes.round()
    expected, _, _ = run(logits, found, meta)
    pasted = paste_masks(found.mask_logits, found.bboxes, SIZE, threshold=None).to_full()
    windows = found.bboxes.long()
    windows = torch.minimum(windows, torch.tensor([SIZE[1], SIZE[0]] * 2))
    values = [
        full[y0:y1, x0:x1].flatten()
        for full, (x0, y0, x1, y1) in zip(pasted, windows.tolist(), strict=True)
    ]
    whole = InstanceData(scores=found.scores, labels=found.labels)
    whole.mask_logits = BoxedMasks(windows, torch.cat(values), SIZE)
    got, _, _ = run(logits, whole, meta)
    assert torch.equal(got, expected)


def test_without_instances_stuff_remains_and_things_become_void():
    logits = stuff_logits()
    logits[4, :, 16:] = 9
    index_map, segments, result = run(logits, no_instances())
    assert [(s["label"], s["isthing"], s["area"]) for s in segments] == [(0, False, 24 * 16)]
    assert (index_map[:, 16:] == 0).all()
    assert (result["pred_sem_seg"].sem_seg[0, :, 16:] == 4).all()


def test_an_instance_may_take_everything():
    index_map, segments, _ = run(stuff_logits(), boxed((0, 0, 32, 24)))
    assert (index_map == 1).all()
    assert [(s["label"], s["area"], s["bbox"]) for s in segments] == [(3, 24 * 32, [0, 0, 32, 24])]


def test_where_all_stuff_is_negative_instances_stay_in_their_boxes():
    logits = torch.full((NUM_CLASSES, *SIZE), -2.0)
    logits[1] = -1.0
    found = boxed((4, 4, 12, 12), (20, 4, 28, 12))
    index_map, segments, _ = run(logits, found)
    assert [(s["label"], s["area"]) for s in segments] == [(3, 64), (3, 64), (1, 24 * 32 - 128)]
    leaking, segments, _ = run(logits, found, legacy_zero_outside=True)
    assert segments[0]["area"] > 600
    assert (index_map[4:12, 4:12] == 1).all()
    assert leaking[0, 0] == 1


def test_a_mask_without_pixels_passes_the_overlap_test_and_wins_nothing():
    found = boxed((4, 4, 12, 12), (4, 4, 12, 12), logit=-5.0)
    _, segments, _ = run(stuff_logits(), found)
    assert [s["label"] for s in segments] == [0]


def test_of_equal_scores_the_first_comes_first():
    found = boxed((0, 0, 16, 24), (0, 0, 16, 24), scores=[0.7, 0.7], labels=[1, 0])
    _, segments, _ = run(stuff_logits(), found)
    assert [s["label"] for s in segments] == [4, 0]


@pytest.mark.parametrize(("share", "kept"), [(4, 2), (5, 1)])
def test_an_instance_is_dropped_if_more_than_half_of_it_is_taken(share, kept):
    found = boxed((0, 0, 8, 8), (8 - share, 0, 16 - share, 8))
    _, segments, _ = run(stuff_logits(), found)
    assert sum(s["isthing"] for s in segments) == kept


def test_low_scores_are_left_out():
    found = boxed((0, 0, 8, 8), (16, 0, 24, 8), scores=[0.5, 0.49])
    _, segments, _ = run(stuff_logits(), found)
    assert [(s["label"], s["score"]) for s in segments if s["isthing"]] == [(3, 0.5)]


def test_agreement_of_both_branches_decides():
    logits = stuff_logits(value=3.0)
    logits[3, 4:12, 4:12] = 4.0
    weak = boxed((4, 4, 12, 12), (16, 4, 24, 12), logit=0.5)
    _, segments, _ = run(logits, weak)
    assert [(s["label"], s["area"]) for s in segments] == [(3, 64), (0, 24 * 32 - 64)]


def test_the_scale_multiplies_the_instances_logits():
    logits = stuff_logits(value=3.0)
    found = boxed((4, 4, 12, 12), logit=1.5)
    assert not any(s["isthing"] for s in run(logits, found)[1])
    assert any(s["isthing"] for s in run(logits, found, inst_logit_scale=4.0)[1])


def test_small_stuff_becomes_void():
    logits = stuff_logits()
    logits[1, :4, :4] = 5
    index_map, segments, _ = run(logits, no_instances(), stuff_area=17)
    assert [s["label"] for s in segments] == [0]
    assert (index_map[:4, :4] == 0).all()
    assert [s["label"] for s in run(logits, no_instances(), stuff_area=16)[1]] == [0, 1]


def test_padding_changes_nothing():
    logits, found = random_scene(3)
    meta = {"img_shape": (21, 30), "ori_shape": (42, 60)}
    expected, _, _ = run(logits, found, meta, stride=4)
    padded = torch.cat([logits, torch.full((NUM_CLASSES, 6, 3), 50.0)], dim=2)
    padded[:, :, 8] = logits[:, :, 7]  # what the last pixels of the image are mixed from
    assert torch.equal(run(padded, found, meta, stride=4)[0], expected)


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_the_mean_of_an_image_and_its_mirror_is_the_image(direction):
    logits, found = random_scene(5)
    meta = {"img_shape": SIZE, "ori_shape": SIZE}
    expected, _, _ = run(logits, found, meta, stride=4)
    mirrored = logits.flip(-1 if direction == "horizontal" else -2)
    metas = [meta, {**meta, "flip": True, "flip_direction": direction}]
    merged = head(stride=4).predict_augmented([logits, mirrored], found, metas)
    assert torch.equal(merged["pred_panoptic_seg"].index_map[0], expected)


def test_instances_for_ap_come_before_the_threshold():
    found = boxed((0, 0, 8, 8), (16, 0, 24, 8), scores=[0.9, 0.1])
    instances = run(stuff_logits(), found, predict_instances=True)[2]["pred_instances"]
    assert instances.masks.shape == (2, *SIZE)
    assert instances.masks[:, :8, :8].sum((1, 2)).tolist() == [64, 0]
    assert instances.labels.tolist() == [3, 3]
    empty = run(stuff_logits(), no_instances(), predict_instances=True)[2]["pred_instances"]
    assert empty.masks.shape == (0, *SIZE)


def test_many_large_masks_are_pasted_in_blocks(monkeypatch):
    logits, found = random_scene(2)
    meta = {"img_shape": (6, 8), "ori_shape": SIZE}
    expected, _, _ = run(logits, found, meta)
    monkeypatch.setattr("mmpanoptic.models.postprocess.logit_contest.BLOCK_PIXELS", 100)
    assert torch.equal(run(logits, found, meta)[0], expected)


def test_bad_input_is_named():
    found = boxed((0, 0, 8, 8))
    del found.mask_logits
    with pytest.raises(ValueError, match="lack mask_logits"):
        run(stuff_logits(), found)
    found.mask_logits = BoxedMasks(torch.tensor([[0, 0, 2, 2]]), torch.zeros(4), (4, 4))
    with pytest.raises(ValueError, match="size of the original image"):
        run(stuff_logits(), found)
    with pytest.raises(ValueError, match=r"0\.\.4"):
        AdaptiveLogitFusionHead(5, [5])


def test_bfloat16_logits_are_fused_in_float32():
    logits, found = random_scene(1)
    meta = {"img_shape": SIZE}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        index_map, _, _ = run(logits.bfloat16(), found, meta, stride=4)
    assert torch.equal(index_map, run(logits.bfloat16().float(), found, meta, stride=4)[0])
