from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

from mmpanoptic.datasets.seeding import seed_sample
from mmpanoptic.datasets.transforms import (
    ColorJitter,
    PanopticPad,
    PanopticRandomFlip,
    RandomCrop,
    ResizeScaleJitter,
    ResizeShortestEdge,
    StretchContrast,
)
from mmpanoptic.datasets.transforms.source_grid import SourceGrid, nearest_indices
from mmpanoptic.registry import TRANSFORMS

GEOMETRY = {
    "shrink": ResizeShortestEdge(23),
    "grow": ResizeShortestEdge(61, backend="cv2"),
    "choose": ResizeShortestEdge([20, 45, 90], max_size=100),
    "jitter": ResizeScaleJitter((64, 64), (0.2, 3.0)),
    "crop": RandomCrop((25, 30)),
    "large crop": RandomCrop((25, 300)),
    "horizontal": PanopticRandomFlip(prob=1.0),
    "vertical": PanopticRandomFlip(prob=1.0, direction="vertical"),
    "diagonal": PanopticRandomFlip(prob=1.0, direction="diagonal"),
    "pad": PanopticPad(size=(70, 30), divisor=32),
}


def sample(seed: int = 0, height: int = 43, width: int = 57, dtype=np.uint8) -> dict:
    """A sample whose image shows the index map, with one segment per number."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 6, (8, 9)).astype(dtype)
    index_map = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    segments = [{"id": k, "label": k // 2, "isthing": k > 2, "iscrowd": 0} for k in range(1, 6)]
    return {
        "img": np.repeat(index_map.astype(np.uint8)[..., None], 3, axis=2),
        "gt_seg_map": index_map,
        "source_grid": SourceGrid.identity(height, width),
        "segments_info": segments,
        "img_shape": (height, width),
        "flip_direction": None,
    }


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_index_map_image_and_source_grid_stay_together(name, dtype):
    for seed in range(5):
        before = sample(seed, dtype=dtype)
        with seed_sample(0, 0, seed):
            after = GEOMETRY[name](sample(seed, dtype=dtype))
        index_map = after["gt_seg_map"]
        assert index_map.dtype == dtype
        assert index_map.shape == after["img"].shape[:2]
        # A mask that is decoded at the end takes the same way as the index map.
        for number in range(1, 6):
            mask = (before["gt_seg_map"] == number).astype(np.uint8)
            np.testing.assert_array_equal(after["source_grid"].gather(mask), index_map == number)
        if name not in ("shrink", "grow", "choose", "jitter"):  # these interpolate the image
            np.testing.assert_array_equal(after["img"][..., 0], index_map)
        if name != "pad":
            assert after["img_shape"] == index_map.shape


def test_a_chain_of_transforms_keeps_map_and_grid_together():
    chain = [GEOMETRY[name] for name in ("choose", "horizontal", "crop", "grow", "vertical", "pad")]
    for seed in range(10):
        before = after = sample(seed)
        with seed_sample(1, 0, seed):
            for transform in chain:
                after = transform(dict(after))
        gathered = after["source_grid"].gather(before["gt_seg_map"])
        np.testing.assert_array_equal(gathered, after["gt_seg_map"])


@pytest.mark.parametrize("name", GEOMETRY)
def test_images_without_annotation_are_transformed_alike(name):
    with seed_sample(0, 0, 1):
        expected = GEOMETRY[name](sample())
    bare = {key: value for key, value in sample().items() if key in ("img", "img_shape")}
    with seed_sample(0, 0, 1):
        results = GEOMETRY[name](bare)
    np.testing.assert_array_equal(results["img"], expected["img"])
    assert "gt_seg_map" not in results


@pytest.mark.parametrize("backend", ["pillow", "cv2"])
@pytest.mark.parametrize(("size", "new"), [(7, 7), (7, 3), (7, 20), (1, 5), (100, 1), (427, 615)])
def test_nearest_indices_describe_what_the_library_does(backend, size, new):
    rng = np.random.default_rng(size)
    img = rng.integers(0, 256, (size, 11), np.uint8)
    if backend == "pillow":
        resized = np.asarray(Image.fromarray(img).resize((17, new), Image.Resampling.NEAREST))
    else:
        resized = cv2.resize(img, (17, new), interpolation=cv2.INTER_NEAREST)
    rows, columns = nearest_indices(size, new, backend), nearest_indices(11, 17, backend)
    np.testing.assert_array_equal(img[rows][:, columns], resized)


def test_one_of_several_edges_is_drawn_uniformly():
    transform = ResizeShortestEdge([10, 20, 30])
    np.random.seed(0)
    short = [min(transform({"img": sample()["img"]})["img_shape"]) for _ in range(300)]
    counts = [short.count(edge) for edge in (10, 20, 30)]
    assert sum(counts) == 300
    assert min(counts) > 70


def test_scale_factor_is_relative_to_the_loaded_image():
    results = sample(height=40, width=60)
    results = ResizeShortestEdge(20)(results)
    assert results["scale_factor"] == (0.5, 0.5)
    assert ResizeShortestEdge(80)(results)["scale_factor"] == (2.0, 2.0)


def test_crops_are_uniform_and_small_images_stay_whole():
    tops = set()
    np.random.seed(0)
    for _ in range(200):
        results = RandomCrop((40, 500))(sample())
        assert results["img_shape"] == (40, 57)
        tops.add(int(results["source_grid"].rows[0]))
    assert tops == {0, 1, 2, 3}


def dominated() -> dict:
    """Everything is class 0 in two segments, but for one column of class 1 and one of void."""
    results = sample()
    results["gt_seg_map"] = np.where(np.arange(57) < 30, 1, 2).astype(np.uint8) * np.ones(
        (43, 1), np.uint8
    )
    results["gt_seg_map"][:, 55] = 3
    results["gt_seg_map"][:, 56] = 0
    for segment, label in zip(results["segments_info"], (0, 0, 1, 1, 1), strict=True):
        segment["label"] = label
    return results


def test_crops_avoid_windows_that_one_class_fills():
    np.random.seed(0)
    crops = [RandomCrop((43, 4), 0.9)(dominated())["gt_seg_map"] for _ in range(60)]
    free = [RandomCrop((43, 4))(dominated())["gt_seg_map"] for _ in range(60)]
    mixed, mixed_by_chance = (sum((crop == 3).any() for crop in some) for some in (crops, free))
    assert mixed > 2 * mixed_by_chance


def test_void_does_not_count_for_the_category_limit():
    results = dominated()
    results["gt_seg_map"][:] = 0
    results["gt_seg_map"][0, 0] = 1
    np.random.seed(0)
    tries = []
    crop = RandomCrop((43, 4), 0.9)
    crop._draw = lambda shape, size: tries.append(1) or (0, 0)
    crop(results)
    assert len(tries) == RandomCrop.MAX_TRIES
    results = dominated()
    results["gt_seg_map"][:] = 0
    results["gt_seg_map"][0, :2] = 1, 3
    tries.clear()
    crop(results)
    assert len(tries) == 1


def test_padding_is_void_and_does_not_change_the_content_size():
    results = PanopticPad(size=(50, 50), divisor=32, value=(1, 2, 3))(sample())
    assert results["pad_shape"] == results["gt_seg_map"].shape == (64, 64)
    assert results["img_shape"] == (43, 57)
    assert (results["gt_seg_map"][43:] == 0).all()
    assert results["img"][63, 63].tolist() == [1, 2, 3]


def test_color_jitter_changes_colours_only_and_within_bounds():
    before = sample()
    before["img"] = np.random.default_rng(0).integers(0, 256, (43, 57, 3), np.uint8)
    np.random.seed(0)
    after = ColorJitter(prob=1.0)(dict(before))
    assert after["img"].dtype == np.uint8
    assert (after["img"] != before["img"]).any()
    assert after["gt_seg_map"] is before["gt_seg_map"]
    same = ColorJitter(prob=0.0)(dict(before))
    np.testing.assert_array_equal(same["img"], before["img"])


def test_color_jitter_shifts_brightness_and_turns_hue_as_named():
    img = np.full((4, 4, 3), 100, np.uint8)
    np.random.seed(3)
    shifted = ColorJitter(32, (1, 1), (1, 1), 0, prob=1.0)({"img": img})["img"]
    assert (shifted == shifted[0, 0, 0]).all()
    assert 68 <= shifted[0, 0, 0] <= 132
    doubled = ColorJitter(0, (2, 2), (1, 1), 0, prob=1.0)({"img": img})["img"]
    assert (doubled == 200).all()
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 2] = 200
    greyed = ColorJitter(0, (1, 1), (0, 0), 0, prob=1.0)({"img": red})["img"]
    assert greyed.ravel().tolist() == [200, 200, 200]
    turned = [ColorJitter(0, (1, 1), (1, 1), 120, prob=1.0)({"img": red})["img"] for _ in range(20)]
    assert len({tuple(img.ravel()) for img in turned}) > 5


@pytest.mark.parametrize(
    ("cls", "kwargs", "message"),
    [
        (ResizeShortestEdge, {"short_edge": []}, "short_edge"),
        (ResizeShortestEdge, {"short_edge": 0}, "short_edge"),
        (ResizeShortestEdge, {"short_edge": 9, "backend": "tifffile"}, "backend"),
        (ResizeScaleJitter, {"target_size": (9, 9), "ratio_range": (0, 1)}, "ratio_range"),
        (RandomCrop, {"crop_size": (0, 5)}, "crop_size"),
        (RandomCrop, {"crop_size": (5, 5), "category_max_ratio": 0}, "category_max_ratio"),
        (PanopticPad, {"divisor": 0}, "divisor"),
        (ColorJitter, {"prob": 2}, "prob"),
    ],
)
def test_bad_arguments_are_refused(cls, kwargs, message):
    assert TRANSFORMS.get(cls.__name__) is cls
    with pytest.raises(ValueError, match=message):
        cls(**kwargs)


@pytest.mark.parametrize("name", GEOMETRY)
def test_transforms_travel_to_worker_processes(name):
    assert type(pickle.loads(pickle.dumps(GEOMETRY[name]))) is type(GEOMETRY[name])  # noqa: S301
    assert json.dumps(repr(GEOMETRY[name]))


def stretch(values, *args):
    img = np.asarray(values, np.uint8).reshape(-1, 1, 1).repeat(3, axis=2)
    return StretchContrast(*args)({"img": img})["img"][:, 0, 0].tolist()


def test_contrast_is_stretched_between_the_two_percentiles():
    assert stretch([10, 20, 30], 0, 100) == [0, 128, 255]
    dark = [5] * 997 + [15] * 998 + [200] + [0]  # one hot pixel and one dead one do not count
    assert set(stretch(dark)) == {0, 255}
    assert stretch([7, 7, 7]) == [7, 7, 7]
    assert stretch([0, 100, 255], 0, 100) == [0, 100, 255]


def test_stretching_keeps_hues_and_the_annotation():
    img = np.zeros((1, 2, 3), np.uint8)
    img[0, 1] = (10, 20, 50)
    before = {"img": img, "gt_seg_map": np.ones((1, 2))}
    after = StretchContrast(0, 100)(dict(before))
    assert after["img"][0, 1].tolist() == [51, 102, 255]
    assert after["gt_seg_map"] is before["gt_seg_map"]
    with pytest.raises(ValueError, match="low < high"):
        StretchContrast(50, 50)
