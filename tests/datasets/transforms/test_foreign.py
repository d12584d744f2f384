"""Transforms of mmcv, mmdet and mmsegmentation move image and annotation together."""

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope

from mmpanoptic.datasets.seeding import seed_sample
from mmpanoptic.datasets.transforms import foreign
from mmpanoptic.datasets.transforms.foreign import check_pipeline, reserve_fill, without_fill
from mmpanoptic.registry import TRANSFORMS, ConfigError
from tests.datasets.tiny_data import dataset_args, write_dataset

HEIGHT, WIDTH = 96, 144
COLORS = np.array(
    [[0, 0, 0], [250, 20, 20], [20, 250, 20], [20, 20, 250], [250, 250, 20], [250, 20, 250]],
    np.uint8,
)
AREAS = (
    np.s_[:, :60],
    np.s_[:, 60:],
    np.s_[10:40, 10:40],
    np.s_[50:90, 70:130],
    np.s_[60:90, 9:50],
)

MOVING = {
    "mmcv.RandomFlip": {"prob": 1.0, "direction": "vertical"},
    "mmcv.Resize": {"scale": (100, 60)},
    "mmcv.RandomResize": {"scale": (100, 60), "ratio_range": (0.5, 2.0)},
    "mmcv.RandomChoiceResize": {"scales": [(100, 60), (70, 90)]},
    "mmcv.Pad": {"size": (200, 120)},
    "mmcv.CenterCrop": {"crop_size": (400, 40), "auto_pad": True},
    "mmdet.Resize": {"scale": (100, 60)},
    "mmdet.FixScaleResize": {"scale": (100, 60), "keep_ratio": True},
    "mmdet.FixShapeResize": {"width": 90, "height": 70, "keep_ratio": True},
    "mmdet.ResizeShortestEdge": {"scale": 50, "max_size": 200},
    "mmdet.RandomFlip": {"prob": 1.0},
    "mmdet.RandomCrop": {"crop_size": (40, 50), "allow_negative_crop": True},
    "mmdet.Pad": {"size_divisor": 64},
    "mmdet.Expand": {"prob": 1.0, "seg_ignore_label": 255},
    "mmdet.Rotate": {"prob": 1.0, "level": 10},
    "mmdet.ShearX": {"prob": 1.0, "level": 10},
    "mmdet.ShearY": {"prob": 1.0, "level": 10},
    "mmdet.TranslateX": {"prob": 1.0, "level": 10},
    "mmdet.TranslateY": {"prob": 1.0, "level": 10},
    "mmdet.RandomErasing": {"n_patches": 3, "ratio": 0.3},
    "mmseg.RandomRotate": {"prob": 1.0, "degree": 40},
    "mmseg.RandomCrop": {"crop_size": (30, 40)},
    "mmseg.Resize": {"scale": (100, 60)},
    "mmseg.ResizeToMultiple": {"size_divisor": 50},
    "mmseg.ResizeShortestEdge": {"scale": 50, "max_size": 200},
    "mmseg.RandomFlip": {"prob": 1.0, "direction": "diagonal"},
    "mmseg.RandomCutOut": {"prob": 1.0, "n_holes": 4, "cutout_shape": (9, 9), "seg_fill_in": 255},
}
STILL = {
    "mmdet.PhotoMetricDistortion": {},
    "mmdet.YOLOXHSVRandomAug": {},
    "mmdet.ColorTransform": {"prob": 1.0},
    "mmdet.AutoContrast": {"prob": 1.0},
    "mmdet.Brightness": {"prob": 1.0},
    "mmdet.Color": {"prob": 1.0},
    "mmdet.Contrast": {"prob": 1.0},
    "mmdet.Equalize": {"prob": 1.0},
    "mmdet.Invert": {"prob": 1.0},
    "mmdet.Posterize": {"prob": 1.0},
    "mmdet.Sharpness": {"prob": 1.0},
    "mmdet.Solarize": {"prob": 1.0},
    "mmdet.SolarizeAdd": {"prob": 1.0},
    "mmseg.AdjustGamma": {"gamma": 2.0},
    "mmseg.CLAHE": {},
    "mmseg.PhotoMetricDistortion": {},
    "mmseg.Rerange": {},
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmpanoptic")


def build(name, settings):
    package, _, kind = name.partition(".")
    return TRANSFORMS.build({"type": kind if package == "mmcv" else name, **settings})


# Far apart, so that numbers in between betray interpolation.
FEW, MANY = (1, 70, 120, 180, 254), (3, 200, 254, 255, 600)


def sample(numbers=FEW):
    """Five segments in five colours on black void."""
    index_map = np.zeros((HEIGHT, WIDTH), np.uint8 if max(numbers) < 255 else np.uint16)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for area, number, color in zip(AREAS, numbers, COLORS[1:], strict=True):
        index_map[area], image[area] = number, color
    index_map[5:30, 90:140], image[5:30, 90:140] = 0, 0
    shape = (HEIGHT, WIDTH)
    facts = {"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)}
    fields = {"seg_fields": ["gt_seg_map"], "flip": False, "flip_direction": None}
    return {"img": image, "gt_seg_map": reserve_fill(index_map), **facts, **fields}


def check_colors(results, numbers):
    """Inside of each segment the image has the segment's colour."""
    index_map, image = without_fill(results["gt_seg_map"]), results["img"]
    assert image.shape[:2] == index_map.shape
    assert set(np.unique(index_map)) <= {0, *numbers}
    seen = 0
    for number, color in zip(numbers, COLORS[1:], strict=True):
        mask = np.pad(index_map == number, 1).astype(np.uint8)
        inside = cv2.erode(mask, np.ones((5, 5)))[1:-1, 1:-1].astype(bool)
        assert np.abs(image[inside].astype(int) - color).max(initial=0) < 40
        seen += inside.sum()
    assert seen > 100


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("numbers", [FEW, MANY], ids=["few", "many"])
def test_image_and_annotation_move_together(name, numbers):
    step = build(name, MOVING[name])
    check_pipeline([step], has_instances=False)
    moved = False
    for seed in range(4):
        with seed_sample(0, 0, seed):
            results = step(sample(numbers))
        check_colors(results, numbers)
        moved |= not np.array_equal(results["gt_seg_map"], sample(numbers)["gt_seg_map"])
    assert moved


@pytest.mark.parametrize("name", STILL)
def test_changes_of_colour_leave_the_annotation_where_it_is(name):
    step = build(name, STILL[name])
    check_pipeline([step], has_instances=True)
    for seed in range(4):
        with seed_sample(0, 0, seed):
            results = step(sample())
        np.testing.assert_array_equal(results["gt_seg_map"], sample()["gt_seg_map"])
        inside = cv2.erode(
            (results["gt_seg_map"] == FEW[3]).astype(np.uint8), np.ones((25, 25))
        ).astype(bool)
        assert np.ptp(results["img"][inside].astype(float), axis=0).max() < 40


def test_every_transform_of_the_lists_is_tried():
    untried = {
        "mmcv": {"LoadImageFromFile", "Normalize", "RandomGrayscale"},
        "mmdet": {"CutOut", "Corrupt"},
        "mmseg": {"RGB2Gray", "GenerateEdge"},
    }
    for known, tried in ((foreign.MOVING, MOVING), (foreign.STILL, STILL)):
        for package, names in known.items():
            for name in set(names.split()) - untried[package]:
                assert f"{package}.{name}" in tried


@pytest.mark.parametrize(
    "step",
    [
        {"type": "mmdet.RandomAffine"},
        {"type": "mmdet.RandomShift"},
        {"type": "mmdet.MinIoURandomCrop"},
        {"type": "mmdet.SegRescale"},
        {"type": "mmdet.LoadAnnotations"},
        {"type": "mmseg.SegRescale"},
        {"type": "mmseg.RandomRotFlip"},
        {"type": "mmseg.RandomMosaic", "prob": 1.0},
        {"type": "mmcv.LoadAnnotations"},
        {"type": "RandomApply", "transforms": [{"type": "mmdet.RandomAffine"}]},
        {"type": "mmdet.RandomOrder", "transforms": [{"type": "mmdet.RandomShift"}]},
    ],
)
def test_a_transform_that_would_leave_the_annotation_is_refused_when_built(tmp_path, step):
    with pytest.raises(ConfigError, match="not known to move the panoptic annotation"):
        dataset(tmp_path, step)


def dataset(folder, *steps, **settings):
    from mmpanoptic.datasets import PanopticDataset

    if not (folder / "images").exists():
        write_dataset(folder)
    pipeline = [{"type": "LoadImage"}, {"type": "LoadPanopticAnnotations"}, *steps]
    pipeline += [{"type": "PackPanopticInputs"}]
    return PanopticDataset(**dataset_args(folder), pipeline=pipeline, **settings)


def test_wrappers_of_known_transforms_work(tmp_path):
    flip = {"type": "RandomFlip", "prob": 1.0}
    plain = dataset(tmp_path)[0]["data_samples"].gt_sem_seg.sem_seg
    inner = {"type": "RandomChoice", "transforms": [[{"type": "RandomApply", "transforms": flip}]]}
    inner["transforms"][0][0]["prob"] = 1.0
    flipped = dataset(tmp_path, inner)[0]["data_samples"].gt_sem_seg.sem_seg
    assert flipped.tolist() == plain.flip(-1).tolist()


def test_instances_of_a_file_are_not_left_behind(tmp_path):
    with pytest.raises(ConfigError, match="instances of the instances_file"):
        dataset(
            tmp_path, {"type": "mmseg.RandomRotate", "prob": 1, "degree": 9}, instances_file="x"
        )


def test_the_fill_of_a_cut_out_is_void(tmp_path):
    cut = {"type": "mmseg.RandomCutOut", "prob": 1, "n_holes": 1, "cutout_shape": (4, 4)}
    with pytest.raises(ConfigError, match="seg_fill_in=3 is the number of a segment"):
        dataset(tmp_path, {**cut, "seg_fill_in": 3})


@TRANSFORMS.register_module()
class ShrinkImageAlone:
    """What an own transform may do wrong."""

    def __call__(self, results):
        results["img"] = results["img"][1:]
        return results


def test_an_image_without_its_annotation_is_refused_when_packed(tmp_path):
    with pytest.raises(ConfigError, match="has left the annotation behind: the image has"):
        dataset(tmp_path, {"type": "ShrinkImageAlone"})[0]


def test_255_segments_and_more_keep_their_numbers():
    for count in (254, 255, 256, 300):
        numbers = np.arange(count + 1, dtype=np.uint8 if count < 256 else np.uint16)[None]
        kept = reserve_fill(numbers)
        assert 255 not in kept
        np.testing.assert_array_equal(without_fill(kept), numbers)
    assert without_fill(np.array([[255, 1]], np.uint8)).tolist() == [[0, 1]]
