from __future__ import annotations

import numpy as np
import pytest
import torch

from mmpanoptic.datasets import PanopticDataset
from mmpanoptic.datasets.transforms.instances import segment_instances
from mmpanoptic.utils import write_json
from mmpanoptic.utils.segmentations import decode
from tests.datasets.tiny_data import CATEGORIES, HEIGHT, WIDTH, dataset_args, write_dataset

AUGMENT = [
    {"type": "LoadImage"},
    {"type": "LoadPanopticAnnotations"},
    {"type": "ResizeShortestEdge", "short_edge": [25, 40, 70]},
    {"type": "RandomCrop", "crop_size": (30, 33)},
    {"type": "PanopticRandomFlip", "prob": 0.5, "direction": ["horizontal", "vertical"]},
    {"type": "PanopticPad", "size": (32, 48)},
]


def pack(**kwargs) -> dict:
    return {"type": "PackPanopticInputs", "mask_format": "tensor", **kwargs}


@pytest.fixture
def root(tmp_path):
    write_dataset(tmp_path)
    return tmp_path


def test_everything_derived_equals_a_loop_over_the_segments(root):
    dataset = PanopticDataset(**dataset_args(root), pipeline=[*AUGMENT, pack(with_instances=True)])
    hidden = 0
    for position in range(4):
        sample = dataset[position]["data_samples"]
        index_map = sample.gt_panoptic_seg.index_map
        labels = torch.full_like(index_map, 255, dtype=torch.int64)
        expected = {0: [], 1: []}
        for k, segment in enumerate(sample.segments_info, start=1):
            mask = index_map[0] == k
            labels[0][mask] = segment["label"]
            if segment["isthing"] and mask.any():
                ys, xs = torch.nonzero(mask, as_tuple=True)
                box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
                expected[segment["iscrowd"]].append((k, segment["label"], box, mask))
            hidden += not mask.any()
        assert sample.gt_sem_seg.sem_seg.dtype == torch.int64
        assert torch.equal(sample.gt_sem_seg.sem_seg, labels)
        for found, wanted in (
            (sample.gt_instances, expected[0]),
            (sample.ignored_instances, expected[1]),
        ):
            assert found.segment_index.tolist() == [k for k, _, _, _ in wanted]
            assert found.labels.tolist() == [label for _, label, _, _ in wanted]
            assert found.bboxes.tolist() == [box for _, _, box, _ in wanted]
            assert found.masks.shape == (len(wanted), 32, 48)
            for mask, (_, _, _, right) in zip(found.masks, wanted, strict=True):
                assert torch.equal(mask, right)
    assert hidden, "no segment was cropped away, so the test shows less than it should"


def test_packed_sample_has_the_agreed_types_and_metainfo(root):
    dataset = PanopticDataset(**dataset_args(root), pipeline=[*AUGMENT, pack()])
    item = dataset[2]
    sample = item["data_samples"]
    assert (item["inputs"].dtype, tuple(item["inputs"].shape)) == (torch.uint8, (3, 32, 48))
    assert sample.gt_panoptic_seg.index_map.dtype == torch.int32
    assert sample.gt_panoptic_seg.segments_info == sample.segments_info
    assert (sample.img_id, sample.sample_idx) == ("img1", 2)
    assert (sample.ori_shape, sample.pad_shape) == ((HEIGHT, WIDTH), (32, 48))
    for key in ("img_path", "img_shape", "scale_factor", "flip", "flip_direction", "seg_map_path"):
        assert key in sample.metainfo
    assert "gt_instances" not in sample


def test_inference_needs_an_image_only():
    from mmengine.dataset import Compose

    from mmpanoptic.registry import TRANSFORMS

    steps = [{"type": "LoadImage"}, {"type": "ResizeShortestEdge", "short_edge": 20}, pack()]
    item = Compose([TRANSFORMS.build(step) for step in steps])(
        {"img": np.zeros((40, 60), np.uint8)}
    )
    assert item["inputs"].shape == (3, 20, 30)
    assert item["data_samples"].metainfo == {
        "ori_shape": (40, 60),
        "img_shape": (20, 30),
        "scale_factor": (0.5, 0.5),
        "flip": False,
        "flip_direction": None,
    }


def test_annotations_may_stay_at_the_original_size(root):
    steps = [AUGMENT[0], AUGMENT[2], AUGMENT[1], pack(with_instances=True)]
    sample = PanopticDataset(**dataset_args(root), pipeline=steps, test_mode=True)[1][
        "data_samples"
    ]
    assert sample.gt_panoptic_seg.index_map.shape == (1, HEIGHT, WIDTH)
    areas = sample.gt_instances.masks.sum((1, 2)).tolist()
    things = [s for s in sample.segments_info if s["isthing"] and not s["iscrowd"] and s["area"]]
    assert areas == [segment["area"] for segment in things]


def amodal_args(root, segmentations: list) -> dict:
    instances = [
        {
            "id": 100 + number,
            "image_id": "img3",
            "category_id": (0, 4)[number % 2],
            "segmentation": segmentation,
            "iscrowd": int(number == 2),
            "layer": number,
        }
        for number, segmentation in enumerate(segmentations)
    ]
    images = [
        {"id": f"img{n}", "file_name": f"photo_{n}.png", "height": HEIGHT, "width": WIDTH}
        for n in range(4)
    ]
    content = {
        "images": images,
        "annotations": instances,
        "categories": [{"id": c["id"], "name": c["name"]} for c in CATEGORIES if c["isthing"]],
    }
    write_json(root / "instances.json", content)
    return {**dataset_args(root), "instances_file": "instances.json"}


def overlapping_masks() -> list[np.ndarray]:
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    discs = [(12, 14, 11), (18, 25, 13), (30, 10, 9), (20, 40, 12)]
    return [((ys - y) ** 2 + (xs - x) ** 2 < r * r).astype(np.uint8) for y, x, r in discs]


def run_lengths(mask: np.ndarray, kind: str):
    from pycocotools import mask as coco_mask

    if kind == "list":
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(np.diff(flat, prepend=0))
        return {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *changes, flat.size]).tolist()}
    code = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}


@pytest.mark.parametrize("kind", ["text", "list"])
def test_overlapping_instances_follow_the_geometry_of_the_index_map(root, kind):
    masks = overlapping_masks()
    args = amodal_args(root, [run_lengths(mask, kind) for mask in masks])
    keep_grid = [*AUGMENT, dict]
    for seed in range(6):
        dataset = PanopticDataset(**args, seed=seed, pipeline=[*AUGMENT, pack(with_instances=True)])
        grid = PanopticDataset(**args, seed=seed, pipeline=keep_grid)[0]["source_grid"]
        sample = dataset[0]["data_samples"]
        moved = [grid.gather(mask) for mask in masks]
        singles = [k for k in (0, 1, 3) if moved[k].any()]
        found = sample.gt_instances
        assert found.instance_index.tolist() == singles
        assert found.labels.tolist() == [(1, 3)[k % 2] for k in singles]
        assert torch.equal(found.masks, torch.from_numpy(np.stack([moved[k] for k in singles]) > 0))
        for box, k in zip(found.bboxes.tolist(), singles, strict=True):
            ys, xs = np.nonzero(moved[k])
            assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert sample.ignored_instances.instance_index.tolist() == [2] * bool(moved[2].any())
        assert [one["layer"] for one in sample.instances] == [0, 1, 2, 3]
        assert "mask" not in sample.instances[0]


def test_images_without_instances_in_the_file_have_none(root):
    args = amodal_args(root, [run_lengths(mask, "text") for mask in overlapping_masks()])
    dataset = PanopticDataset(**args, pipeline=[*AUGMENT, pack(with_instances=True)])
    sample = dataset[1]["data_samples"]
    assert len(sample.gt_instances) == len(sample.ignored_instances) == 0
    assert sample.gt_instances.masks.shape == (0, 32, 48)
    assert sample.gt_instances.bboxes.shape == (0, 4)


def test_polygons_are_drawn():
    square = [
        [2.0, 3.0, 8.0, 3.0, 8.0, 9.0, 2.0, 9.0],
        [12.0, 3.0, 14.0, 3.0, 14.0, 5.0, 12.0, 5.0],
    ]
    mask = decode(square, 12, 16)
    expected = np.zeros((12, 16), np.uint8)
    expected[3:9, 2:8] = 1
    expected[3:5, 12:14] = 1
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    "step",
    [
        {"type": "RandomFlip", "prob": 1.0},
        {"type": "Resize", "scale": (30, 20), "keep_ratio": False},
    ],
)
def test_transforms_that_forget_the_instances_are_refused(root, step):
    args = amodal_args(root, [run_lengths(mask, "text") for mask in overlapping_masks()])
    steps = [*AUGMENT[:2], step, pack(with_instances=True)]
    with pytest.raises(ValueError, match="instances_file"):
        PanopticDataset(**args, pipeline=steps)
    without = PanopticDataset(**dataset_args(root), pipeline=steps)
    assert len(without[0]["data_samples"].gt_instances)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"category_id": 99}, "unknown_category"),
        ({"category_id": 7}, "unknown_category"),
        ({"segmentation": 3}, "bad_segmentation"),
        ({"image_id": "3"}, "missing_image"),
    ],
)
def test_bad_instance_files_are_named(root, change, kind):
    from mmpanoptic.utils import read_json
    from mmpanoptic.utils.format_errors import PanopticFormatError

    args = amodal_args(root, [run_lengths(overlapping_masks()[0], "text")])
    content = read_json(root / "instances.json")
    content["annotations"][0].update(change)
    write_json(root / "instances.json", content)
    with pytest.raises(PanopticFormatError, match=r"instances\.json") as error:
        PanopticDataset(**args)
    assert error.value.kind == kind


def test_maps_of_more_than_255_segments_keep_them_all():
    index_map = np.arange(300, dtype=np.uint16).reshape(15, 20)
    segments = [{"label": 0, "isthing": True, "iscrowd": 0} for _ in range(299)]
    found = segment_instances(index_map, segments, crowd=False)
    assert found.numbers.tolist() == list(range(1, 300))
    assert (found.masks.sum((1, 2)) == 1).all()


def test_bitmap_masks_are_those_of_mmdet(root):
    masks = pytest.importorskip("mmdet.structures.mask", exc_type=ImportError)
    steps = [*AUGMENT, {"type": "PackPanopticInputs", "with_instances": True}]
    sample = PanopticDataset(**dataset_args(root), pipeline=steps)[0]["data_samples"]
    plain = PanopticDataset(**dataset_args(root), pipeline=[*AUGMENT, pack(with_instances=True)])
    assert isinstance(sample.gt_instances.masks, masks.BitmapMasks)
    expected = plain[0]["data_samples"].gt_instances.masks
    assert torch.equal(sample.gt_instances.masks.to_tensor(torch.bool, "cpu"), expected)


def test_options_are_checked():
    from mmpanoptic.datasets.transforms import PackPanopticInputs

    with pytest.raises(ValueError, match="mask_format"):
        PackPanopticInputs(mask_format="polygon")


def test_the_metainfo_to_hand_on_is_an_option(root):
    keys = ("img_id", "flip", "no_such_entry")
    dataset = PanopticDataset(**dataset_args(root), pipeline=[*AUGMENT, pack(meta_keys=keys)])
    assert set(dataset[0]["data_samples"].metainfo) == {"img_id", "flip"}
