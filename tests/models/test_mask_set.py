"""Classified masks to a panoptic map: the published procedure, its corners and its memory."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmpanoptic.models.fusion_heads import MaskSetFusionHead
from mmpanoptic.models.postprocess import mask_set
from mmpanoptic.registry import ConfigError
from tests.reference import mask_set as reference

CLASSES, THINGS = 6, (1, 3, 4)
STUFF = (0, 2, 5)


def random_queries(seed=0, count=40, cells=(40, 40), smooth=True):
    """Masks as a network makes them (blobs) or noise; most queries are sure of a class."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(count, CLASSES + 1, generator=generator)
    sure = torch.randint(0, CLASSES + 1, (count,), generator=generator)
    classes[torch.arange(count), sure] += 7 * torch.rand(count, generator=generator)
    if not smooth:
        return classes, torch.randn(count, *cells, generator=generator) * 4
    y, x = torch.meshgrid(*(torch.linspace(0, 1, side) for side in cells), indexing="ij")
    place = torch.rand(count, 3, generator=generator)
    away = (y - place[:, :1, None]) ** 2 + (x - place[:, 1:2, None]) ** 2
    return classes, 12 * (0.02 * place[:, 2:, None] - away) / 0.02


def fused(classes, masks, padded, img_shape, ori_shape, **options):
    head = MaskSetFusionHead(CLASSES, THINGS, **options)
    meta = {"batch_input_shape": padded, "img_shape": img_shape, "ori_shape": ori_shape}
    result = head.predict(classes[None], masks[None], [meta])[0]["pred_panoptic_seg"]
    return result.index_map[0], result.segments_info


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("ori_shape", [(120, 160), (90, 117), (400, 301)])
def test_maps_are_those_of_the_published_procedure(ori_shape, smooth, fill):
    classes, masks = random_queries(smooth=smooth)
    shapes = (160, 160), (120, 156), ori_shape
    expected, segments = reference.fuse(classes, masks, *shapes, STUFF, fill)
    got, found = fused(classes, masks, *shapes, fill=fill)
    assert (expected == got).float().mean() >= 0.999
    assert len(segments) > 3 or not smooth
    assert [one["id"] for one in found] == list(range(1, len(segments) + 1))
    assert [one["label"] for one in found] == [label for label, _ in segments]
    area = torch.bincount(got.flatten(), minlength=len(found) + 1)[1:].tolist()
    assert [one["area"] for one in found] == area


def test_bands_change_nothing(monkeypatch):
    classes, masks = random_queries()
    shapes = (160, 160), (160, 160), (160, 160)
    whole = fused(classes, masks, *shapes)
    monkeypatch.setattr(mask_set, "block_elements", lambda device: 5000)
    parts = fused(classes, masks, *shapes)
    assert torch.equal(whole[0], parts[0])
    assert whole[1] == parts[1]


class LargestTensor(TorchDispatchMode):
    """Note the most elements that an operator gives back."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("ori_shape", [(480, 640), (960, 1280)])
def test_no_mask_of_the_full_size_is_ever_stored(ori_shape):
    classes = sure_of(*[1] * 100)
    masks = random_queries(count=100, cells=(160, 160))[1]
    with LargestTensor() as largest:
        fused(classes, masks, (640, 640), (480, 640), ori_shape)
    bound = max(
        100 * 160 * 160,
        mask_set.block_elements(torch.device("cpu")),
        2 * ori_shape[0] * ori_shape[1],
    )
    assert 0 < largest.elements <= bound
    assert bound < 100 * ori_shape[0] * ori_shape[1] / 10, "the bound says something"


def rectangles(*boxes, size=(16, 16)):
    masks = torch.full((len(boxes), *size), -9.0)
    for mask, (y0, x0, y1, x1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = 9.0
    return masks


def sure_of(*labels, scores=None):
    """Class logits whose largest probability is the score."""
    scores = torch.tensor(scores or [0.95] * len(labels))
    classes = torch.full((len(labels), CLASSES + 1), 0.0)
    classes[torch.arange(len(labels)), list(labels)] = torch.log(CLASSES * scores / (1 - scores))
    return classes


def test_stuff_of_one_class_is_one_segment_and_ids_never_collide():
    boxes = (0, 0, 4, 16), (4, 0, 8, 16), (8, 0, 12, 16), (12, 0, 16, 16)
    scores = [0.85, 0.9, 0.95, 0.92]
    got, found = fused(sure_of(0, 1, 0, 1, scores=scores), rectangles(*boxes), *[(16, 16)] * 3)
    assert [(one["id"], one["label"], one["isthing"]) for one in found] == [
        (1, 0, False),
        (2, 1, True),
        (3, 1, True),
    ]
    assert found[0]["score"] == pytest.approx(0.95), "stuff has the score of its surest query"
    assert [got[y, 0].item() for y in (0, 4, 8, 12)] == [1, 2, 1, 3]
    assert found[0]["area"] == 128


def test_a_query_outside_of_its_mask_paints_nothing_unless_told_to():
    masks = rectangles((0, 0, 8, 16))
    masks[0, 8:] = -0.8  # probability 0.31
    voids, _ = fused(sure_of(1), masks, *[(16, 16)] * 3)
    filled, _ = fused(sure_of(1), masks, *[(16, 16)] * 3, fill=True)
    assert (voids == 0).sum() == 128
    assert (filled == 0).sum() == 0


def test_a_query_that_loses_its_mask_is_dropped_and_leaves_void():
    boxes = (0, 0, 16, 16), (0, 0, 16, 6)
    got, found = fused(sure_of(1, 3, scores=[0.9, 0.99]), rectangles(*boxes), *[(16, 16)] * 3)
    assert [one["label"] for one in found] == [3]
    assert (got == 0).sum() == 160


def test_unsure_queries_and_no_object_give_void():
    got, found = fused(
        sure_of(CLASSES, 1, scores=[0.99, 0.7]),
        rectangles((0, 0, 16, 16), (0, 0, 9, 9)),
        *[(16, 16)] * 3,
    )
    assert not found
    assert got.dtype == torch.int32
    assert not got.any()


def test_of_equal_queries_the_first_wins():
    same = rectangles((2, 2, 9, 9), (2, 2, 9, 9))
    got, found = fused(sure_of(1, 3), same, *[(16, 16)] * 3)
    assert [one["label"] for one in found] == [1]
    np.testing.assert_array_equal(np.unique(got), [0, 1])


def test_wrong_settings_and_sizes_are_refused():
    with pytest.raises(ConfigError, match=r"score_thr must be in \[0, 1\]"):
        MaskSetFusionHead(CLASSES, THINGS, score_thr=8)
    classes, masks = random_queries(cells=(15, 18))
    with pytest.raises(ValueError, match="pad_size_divisor=32"):
        fused(classes, masks, (60, 70), (60, 70), (60, 70))
    with pytest.raises(ValueError, match="one of no object"):
        fused(classes[:, :-1], masks, (60, 72), (60, 70), (60, 70))
