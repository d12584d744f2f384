import numpy as np
import pytest
import torch

from mmpanoptic.models.data_preprocessors import PanopticDataPreprocessor
from mmpanoptic.models.instance_heads import center_offset_targets, make_center_offset_targets
from mmpanoptic.models.layers import collate_segments
from mmpanoptic.models.semantic_heads.semantic_targets import make_semantic_targets
from tests.models.builders import THINGS, make_batch, make_sample, sample_from_ids
from tests.reference import panoptic_deeplab as reference


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "sigma": 3,
            "ignore_stuff_in_offset": False,
            "small_instance_area": 60,
            "small_instance_weight": 2.5,
            "ignore_crowd_in_semantic": True,
        },
    ],
)
def test_equals_the_loop_over_segments(seed, options):
    height, width = (40, 61), (57, 33)
    size = (height, width)[seed % 2]
    _, sample, ids, segments = make_sample(seed, *size, num_things=seed * 3)
    expected = reference.make_targets(ids, segments, THINGS, **options)
    batch = collate_segments([sample])
    semantic, weight = make_semantic_targets(
        batch,
        options.get("small_instance_area", 4096),
        options.get("small_instance_weight", 3),
        options.get("ignore_crowd_in_semantic", False),
    )
    targets = make_center_offset_targets(
        batch, options.get("sigma", 10), options.get("ignore_stuff_in_offset", True)
    )
    np.testing.assert_array_equal(semantic[0], expected["semantic"])
    np.testing.assert_array_equal(weight[0], expected["semantic_weight"])
    np.testing.assert_array_equal(targets.center[0, 0], expected["center"])
    np.testing.assert_array_equal(targets.center_weight[0, 0], expected["center_weight"])
    np.testing.assert_array_equal(targets.offset[0], expected["offset"])
    np.testing.assert_array_equal(targets.offset_weight[0, 0], expected["offset_weight"])
    points = targets.center_points
    np.testing.assert_array_equal(points[~points.isnan().any(1)], expected["center_points"])


@pytest.mark.parametrize("seed", range(3))
def test_the_way_of_gpus_gives_the_same_offsets(seed, monkeypatch):
    segments = collate_segments([make_sample(seed, 40, 61, num_things=7)[1]])
    expected = make_center_offset_targets(segments).offset
    monkeypatch.setattr(
        center_offset_targets, "_offsets_of", lambda _: center_offset_targets._draw_offsets_densely
    )
    torch.testing.assert_close(make_center_offset_targets(segments).offset, expected)
    assert expected.any()


def test_a_padded_batch_equals_its_images():
    sizes = [(40, 64), (48, 50), (33, 47)]
    batch = PanopticDataPreprocessor(pad_size_divisor=32)(make_batch(*sizes), training=True)
    assert batch["inputs"].shape == (3, 3, 64, 64)
    segments = collate_segments(batch["data_samples"])
    targets = make_center_offset_targets(segments)
    semantic, weight = make_semantic_targets(segments, 80)
    for i, (height, width) in enumerate(sizes):
        single = collate_segments(make_batch(*sizes)["data_samples"][i : i + 1])
        alone = make_center_offset_targets(single)
        inside = (slice(0, height), slice(0, width))
        for name in ("center_weight", "offset", "offset_weight", "center"):
            joint = getattr(targets, name)[i]
            assert torch.equal(joint[(slice(None), *inside)], getattr(alone, name)[0])
        for joint, own in zip((semantic, weight), make_semantic_targets(single, 80), strict=True):
            assert torch.equal(joint[i][inside], own[0])
        outside = torch.ones(64, 64, dtype=torch.bool)
        outside[inside] = False
        assert (semantic[i][outside] == 255).all()
        for value in (weight[i], *targets.offset[i], targets.offset_weight[i, 0]):
            assert (value[outside] == 0).all()
        assert (targets.center_weight[i, 0][outside] == 0).all()


def test_images_without_segments_or_things_are_fine():
    empty = sample_from_ids(np.zeros((20, 30), np.int32), [])
    stuff = sample_from_ids(
        np.full((20, 30), 7, np.int32), [{"id": 7, "category_id": 1, "iscrowd": 0}]
    )
    segments = collate_segments([empty, stuff])
    targets = make_center_offset_targets(segments)
    semantic, weight = make_semantic_targets(segments)
    assert (semantic[0] == 255).all()
    assert (semantic[1] == 1).all()
    assert (weight == 1).all()
    assert targets.center.abs().max() == targets.offset.abs().max() == 0
    assert targets.offset_weight.max() == 0
    assert targets.center_weight.flatten(1).amax(1).tolist() == [0, 1]
    assert targets.center_points.shape == (0, 2)


def test_hidden_things_leave_no_trace():
    ids = np.full((20, 30), 7, np.int32)
    segments = [
        {"id": 7, "category_id": 1, "iscrowd": 0},
        {"id": 9, "category_id": THINGS[0], "iscrowd": 0},
    ]
    targets = make_center_offset_targets(collate_segments([sample_from_ids(ids, segments)]))
    assert targets.center.max() == 0
    assert targets.center_points.isnan().all()


def test_missing_or_unpadded_ground_truth_is_explained():
    samples = make_batch((40, 64), (48, 50))["data_samples"]
    with pytest.raises(ValueError, match="training=True"):
        collate_segments(samples)
    del samples[0].gt_panoptic_seg
    with pytest.raises(ValueError, match="gt_panoptic_seg"):
        collate_segments(samples)


def test_maps_keep_their_memory_while_somebody_has_them():
    sample = make_sample(0, 40, 61, num_things=7)[1]
    first = make_center_offset_targets(collate_segments([sample]))
    kept = first.center_weight.clone()
    second = make_center_offset_targets(collate_segments([make_sample(1, 40, 61, num_things=3)[1]]))
    assert torch.equal(first.center_weight, kept)
    assert not torch.equal(second.center_weight, kept)
    addresses = {t.data_ptr() for t in (*first[:4], *second[:4])}
    assert len(addresses) == 8
    view = first.center_weight[0]
    del first
    third = make_center_offset_targets(collate_segments([sample]))
    assert torch.equal(view, kept[0])
    assert third.center_weight.data_ptr() != view.data_ptr()
