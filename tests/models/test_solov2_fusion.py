import pytest
import torch

from mmpanoptic.models.fusion_heads import SOLOv2FusionHead
from mmpanoptic.models.fusion_heads.solov2_fusion import to_common_grid
from mmpanoptic.models.instance_heads.solov2 import SOLOv2Outputs
from mmpanoptic.models.postprocess.solov2_selection import (
    GridInstances,
    matrix_nms,
    suppress_neighbours,
)
from tests.reference import solov2 as reference

GRIDS, STRIDES = (12, 8, 4), (8, 16, 32)
CELLS = sum(side * side for side in GRIDS)
THINGS = (2, 0)
META = {"img_shape": (60, 90), "ori_shape": (120, 180)}


def head(**options):
    return SOLOv2FusionHead(THINGS, GRIDS, STRIDES, **options)


def outputs(seed=0, images=1, bias=-1.5):
    """Discs around random objects; the filters hold their centres."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, 16), torch.linspace(0, 1, 24), indexing="ij")
    feats = torch.stack([torch.ones_like(x), x, y, x**2, y**2]).expand(images, -1, -1, -1)
    objects = torch.rand(images, 6, 2, generator=generator)
    which = torch.randint(0, 6, (images, CELLS), generator=generator)
    cy, cx = torch.gather(objects, 1, which[..., None].expand(-1, -1, 2)).unbind(2)
    cx = cx + 0.02 * torch.randn(cx.shape, generator=generator)
    one = 300 * (0.02 - cx**2 - cy**2)
    sharp = torch.full_like(cx, -300)
    kernels = torch.stack([one, 600 * cx, 600 * cy, sharp, sharp], 1)
    logits = torch.randn(images, len(THINGS), CELLS, generator=generator) + bias
    return SOLOv2Outputs(logits, kernels, feats.contiguous())


@pytest.mark.parametrize("rule", [{}, {"nms_pre": 10}, {"nms_pre": 3, "max_per_img": 2}], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_the_selection_is_that_of_computing_all_masks(seed, rule):
    found = outputs(seed)
    scores = suppress_neighbours(found.cls_logits[0], GRIDS)
    levels = zip(GRIDS, STRIDES, strict=True)
    strides = torch.cat([torch.full((side**2,), float(stride)) for side, stride in levels])
    masks, labels, scores = reference.get_instances(
        scores.t(), found.kernels[0].t(), found.mask_feats, strides, *META.values(), **rule
    )
    ours = head(**rule).predict(None, found, [META])[0]["pred_instances"]
    assert len(scores) > 1
    torch.testing.assert_close(ours.scores, scores)
    assert ours.labels.tolist() == [THINGS[label] for label in labels]
    assert (ours.masks != masks).float().mean() < 1e-4
    for mask, (x0, y0, x1, y1) in zip(ours.masks, ours.bboxes.int().tolist(), strict=True):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (x0, y0, x1, y1)


def test_preselection_computes_the_masks_of_the_best_categories_only():
    found = outputs(1)
    plain, fast = (
        head(nms_pre=8, preselect=on).predict(None, found, [META])[0]["pred_instances"]
        for on in (False, True)
    )
    assert 0 < len(fast) <= 8
    assert fast.scores[0] <= plain.scores[0]


def test_an_image_without_candidates_gives_empty_fields_of_the_usual_types():
    found = head().predict(None, outputs(bias=-50.0), [META])[0]["pred_instances"]
    assert found.masks.shape == (0, 120, 180)
    kinds = (torch.bool, torch.int64, torch.float32, torch.float32)
    assert (found.masks.dtype, found.labels.dtype, found.scores.dtype, found.bboxes.dtype) == kinds


def test_other_grids_than_the_heads_are_an_error():
    wrong = SOLOv2FusionHead(THINGS, (12, 8), (8, 16))
    with pytest.raises(ValueError, match="give both the same grids"):
        wrong.predict(None, outputs(), [META])


def test_fusion_without_semantic_head_is_an_error():
    fusion = {"type": "AdaptiveLogitFusionHead", "num_classes": 3, "thing_labels": THINGS}
    with pytest.raises(ValueError, match="no semantic_head"):
        head(fusion=fusion).predict(None, outputs(), [META])


def test_instances_of_a_batch_do_not_depend_on_each_other():
    both = outputs(3, images=2)
    together = head().predict(None, both, [META, META])
    for number in range(2):
        one = SOLOv2Outputs(*(part[number : number + 1] for part in both))
        alone = head().predict(None, one, [META])[0]["pred_instances"]
        assert torch.equal(alone.masks, together[number]["pred_instances"].masks)
        assert torch.equal(alone.scores, together[number]["pred_instances"].scores)


@pytest.mark.parametrize("flip", [(-1,), (-2,), (-2, -1)], ids=str)
def test_a_mirrored_grid_comes_back(flip):
    logits = torch.randn(3, 16, 24)
    size = (64, 96)
    plain = GridInstances(torch.ones(3), torch.zeros(3), logits, 4, size, size)
    mirrored = GridInstances(torch.ones(3), torch.zeros(3), logits.flip(flip), 4, size, size)
    torch.testing.assert_close(to_common_grid(plain, ()).logits, logits, rtol=1e-4, atol=1e-4)
    back = to_common_grid(mirrored, flip).logits
    torch.testing.assert_close(back, logits, rtol=1e-4, atol=1e-4)


def test_an_augmentation_that_changes_nothing_leaves_the_instances_almost_as_they_are():
    found = outputs(2)
    size = (64, 96)
    meta = {"img_shape": size, "ori_shape": size}
    one = SOLOv2Outputs(*(part[0] for part in found))
    plain = head().predict(None, found, [meta])[0]["pred_instances"]
    again = head().predict_augmented([None], [one], [meta])["pred_instances"]
    assert again.labels.tolist() == plain.labels.tolist()
    torch.testing.assert_close(again.scores, plain.scores)
    assert (again.masks != plain.masks).float().mean() < 1e-3


def test_masks_of_a_copy_are_lowered_and_others_are_not():
    masks = torch.zeros(4, 100, dtype=torch.bool)
    masks[0, :50] = masks[1, :50] = masks[2, :50] = masks[3, 50:] = True
    labels, scores = torch.tensor([0, 0, 1, 0]), torch.tensor([0.9, 0.8, 0.7, 0.6])
    for kernel, factor in (("gaussian", torch.exp(torch.tensor(-2.0))), ("linear", 0.0)):
        lowered = matrix_nms(masks, labels, scores, kernel)
        torch.testing.assert_close(lowered, scores * torch.tensor([1, factor, 1, 1]))
    three = matrix_nms(masks[[0, 1, 1]], labels[[0, 0, 0]], scores[:3], "linear")
    assert three.tolist() == [pytest.approx(0.9), 0.0, 0.0]


def test_an_unknown_kernel_is_an_error():
    with pytest.raises(ValueError, match="kernel must be one of"):
        matrix_nms(torch.ones(1, 4).bool(), torch.zeros(1), torch.ones(1), "hard")


def test_instances_beside_a_panoptic_result_are_an_option():
    fusion = {"type": "AdaptiveLogitFusionHead", "num_classes": 3, "thing_labels": THINGS}
    semantic = torch.zeros(1, 3, 16, 24)
    plain, both = (
        head(fusion=fusion, predict_instances=flag).predict(semantic, outputs(), [META])[0]
        for flag in (False, True)
    )
    assert "pred_instances" not in plain
    assert torch.equal(
        both["pred_instances"].masks,
        head().predict(None, outputs(), [META])[0]["pred_instances"].masks,
    )
    assert torch.equal(both["pred_panoptic_seg"].index_map, plain["pred_panoptic_seg"].index_map)
