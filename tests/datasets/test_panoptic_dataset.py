from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset, pseudo_collate
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from mmpanoptic.datasets import (
    CityscapesPanopticDataset,
    CocoPanopticDataset,
    InfiniteSeededSampler,
    PanopticDataset,
    SampleIndex,
    SeededSampler,
    read_label_table,
)
from mmpanoptic.registry import DATASETS
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.format_errors import PanopticFormatError

from .real_mini import REAL_MINI, needs_real_mini
from .tiny_data import CATEGORIES, SEGMENT_CATEGORIES, dataset_args, write_dataset, write_json

PIPELINE = [
    {"type": "LoadImage"},
    {"type": "LoadPanopticAnnotations"},
    {"type": "ResizeShortestEdge", "short_edge": [30, 40, 50, 60, 70]},
    {"type": "RandomCrop", "crop_size": (24, 24)},
    {"type": "PanopticRandomFlip", "prob": 0.5},
    {"type": "ColorJitter"},
    {"type": "PackPanopticInputs", "with_instances": True, "mask_format": "tensor"},
]


@pytest.fixture
def root(tmp_path):
    write_dataset(tmp_path)
    return tmp_path


def test_classes_come_from_the_json_in_its_order(root):
    dataset = PanopticDataset(**dataset_args(root))
    table = LabelTable.from_metainfo(dataset.metainfo)
    assert [label.name for label in table] == ["meadow", "cow", "sky", "goose"]
    assert table.thing_labels == [1, 3]
    segments = dataset.get_data_info(0)["segments_info"]
    assert [(s["category_id"], s["label"], s["isthing"]) for s in segments] == [
        (7, 0, False),
        (30, 2, False),
        (0, 1, True),
        (4, 3, True),
        (0, 1, True),
    ]


def test_metainfo_may_order_the_classes_otherwise(root):
    classes = ("goose", "sky", "meadow", "cow")
    dataset = PanopticDataset(**dataset_args(root), metainfo={"classes": classes})
    assert dataset.metainfo["classes"] == classes
    assert dataset.metainfo["dataset_ids"] == [4, 30, 7, 0]
    labels = [s["label"] for s in dataset.get_data_info(0)["segments_info"]]
    assert labels == [2, 1, 3, 0, 3]


def test_metainfo_must_name_the_classes_of_the_json(root):
    with pytest.raises(PanopticFormatError, match="lion") as error:
        PanopticDataset(**dataset_args(root), metainfo={"classes": ("lion", "sky", "meadow")})
    assert error.value.kind == "category_mismatch"


def test_a_static_table_is_compared_with_the_json(root):
    metainfo = LabelTable.from_categories(CATEGORIES).to_metainfo()
    assert len(PanopticDataset(**dataset_args(root), metainfo=metainfo)) == 4
    with pytest.raises(PanopticFormatError, match="cow"):
        CocoPanopticDataset(**dataset_args(root))
    more = LabelTable.from_categories([*CATEGORIES, {"id": 90, "name": "bat", "isthing": 1}])
    messages = logged(lambda: PanopticDataset(**dataset_args(root), metainfo=more.to_metainfo()))
    assert any("no category for: bat" in message for message in messages)


def logged(action):
    """Messages of mmengine's logger during an action."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    action()
    logger.removeHandler(handler)
    return messages


def test_files_are_those_that_the_json_names_and_order_is_that_of_annotations(root):
    dataset = PanopticDataset(**dataset_args(root))
    infos = [dataset.get_data_info(position) for position in range(4)]
    assert [info["img_id"] for info in infos] == ["img3", "img2", "img1", "img0"]
    assert infos[0]["img_path"] == f"{root}/images/photo_3.png"
    assert infos[0]["seg_map_path"] == f"{root}/maps/map_3.png"
    assert [info["sample_idx"] for info in infos] == [0, 1, 2, 3]


@pytest.mark.parametrize("serialize_data", [True, False])
def test_subsets_keep_the_position_in_the_file(root, serialize_data):
    args = {**dataset_args(root), "serialize_data": serialize_data}
    dataset = PanopticDataset(**args, indices=[3, 1])
    assert [dataset[i]["sample_idx"] for i in range(2)] == [3, 1]
    assert dataset[-1]["sample_idx"] == 1
    assert dataset.image_path(3) == f"{root}/images/photo_0.png"
    subset = PanopticDataset(**args).get_subset([2])
    assert subset[0]["sample_idx"] == 2


def test_lazy_initialisation_reads_classes_first_and_images_later(root):
    dataset = PanopticDataset(**dataset_args(root), lazy_init=True)
    assert dataset.metainfo["classes"][0] == "meadow"
    assert dataset.data_list == []
    dataset.full_init()
    assert len(dataset) == 4


def test_images_without_things_are_filtered_on_request(tmp_path):
    content = write_dataset(tmp_path)
    content["annotations"][1]["segments_info"] = content["annotations"][1]["segments_info"][:2]
    content["annotations"][2]["segments_info"] = []
    for segment in content["annotations"][3]["segments_info"]:
        segment["bbox"][2] = 1  # a single column
    write_json(tmp_path, content)
    args = dataset_args(tmp_path)
    kept = PanopticDataset(**args, filter_empty_gt=True)
    assert [kept[i]["sample_idx"] for i in range(len(kept))] == [0]
    assert len(PanopticDataset(**args, filter_empty_gt=True, test_mode=True)) == 4


def test_missing_areas_are_computed_on_request(tmp_path):
    content = write_dataset(tmp_path)
    expected = [dict(s) for s in content["annotations"][0]["segments_info"]]
    for segment in content["annotations"][0]["segments_info"]:
        del segment["area"], segment["bbox"]
        segment.pop("iscrowd")
    write_json(tmp_path, content)
    with pytest.raises(PanopticFormatError, match="lacks iscrowd, area"):
        PanopticDataset(**dataset_args(tmp_path))
    dataset = PanopticDataset(**dataset_args(tmp_path), fill_missing=True)
    segments = dataset[0]["segments_info"]
    assert [s["area"] for s in segments] == [s["area"] for s in expected]
    assert [s["bbox"] for s in segments] == [s["bbox"] for s in expected]


def test_an_image_without_segments_is_reported_before_training(tmp_path):
    content = write_dataset(tmp_path)
    content["annotations"][2]["segments_info"] = []
    write_json(tmp_path, content)
    with pytest.raises(PanopticFormatError, match=r"'img1'.*no segments") as error:
        PanopticDataset(**dataset_args(tmp_path))
    assert error.value.kind == "empty_annotation"
    assert len(PanopticDataset(**dataset_args(tmp_path), test_mode=True)) == 4


def items(dataset, sampler, workers: int, count: int) -> list[torch.Tensor]:
    loader = DataLoader(
        dataset, batch_size=2, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate
    )
    found = []
    for batch in loader:
        for image, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
            found += [image, sample.gt_panoptic_seg.index_map]
        if len(found) >= 2 * count:
            break
    return found


def test_items_do_not_depend_on_workers_or_restarts(root):
    dataset = PanopticDataset(**dataset_args(root), pipeline=PIPELINE, seed=3)
    sampler = InfiniteSeededSampler(dataset, seed=3)
    expected = items(dataset, sampler, 0, 12)
    np.random.seed(99), torch.manual_seed(99)
    again = items(dataset, sampler, 2, 12)
    assert all(map(torch.equal, expected, again))
    resumed = InfiniteSeededSampler(dataset, seed=3)
    resumed.set_position(6)
    rest = items(PanopticDataset(**dataset_args(root), pipeline=PIPELINE, seed=3), resumed, 2, 6)
    assert all(map(torch.equal, expected[12:], rest))


def test_another_epoch_or_seed_augments_otherwise(root):
    first = PanopticDataset(**dataset_args(root), pipeline=PIPELINE, seed=3)
    other = PanopticDataset(**dataset_args(root), pipeline=PIPELINE, seed=4)
    image = first[SampleIndex(1, epoch=0)]["inputs"]
    assert torch.equal(image, first[1]["inputs"])
    assert not torch.equal(image, first[SampleIndex(1, epoch=1)]["inputs"])
    assert not torch.equal(image, other[1]["inputs"])


@pytest.mark.parametrize("wrapper", ["concat", "repeat"])
def test_wrapped_datasets_augment_anew_each_epoch_and_repetition(root, wrapper):
    dataset = PanopticDataset(**dataset_args(root), pipeline=PIPELINE)
    both = ConcatDataset([dataset, dataset]) if wrapper == "concat" else RepeatDataset(dataset, 2)
    draws = [(5, 0), (5, 1), (1, 0)]
    images = [both[SampleIndex(position, epoch)]["inputs"] for position, epoch in draws]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_class_balancing_can_ask_for_labels(root):
    dataset = PanopticDataset(**dataset_args(root))
    assert dataset.get_cat_ids(0) == [0, 1, 2, 3]
    assert len(ClassBalancedDataset(dataset, oversample_thr=0.5)) == 4


def break_file(root: Path, kind: str) -> Path:
    image, png = root / "images/photo_2.png", root / "maps/map_2.png"
    if kind == "missing_file":
        png.unlink()
        return png
    if kind == "corrupt_image":
        image.write_bytes(image.read_bytes()[:2000])
    elif kind == "corrupt_png":
        png.write_bytes(png.read_bytes()[:-20])
        return png
    elif kind == "size_mismatch":
        cv2.imwrite(str(image), np.zeros((9, 9, 3), np.uint8))
    return image


BROKEN = ["missing_file", "corrupt_image", "corrupt_png", "size_mismatch"]


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("test_mode", [False, True])
def test_a_broken_file_stops_with_its_name(root, kind, test_mode):
    file = break_file(root, kind)
    policy = "skip" if test_mode else "stop"
    args = {**dataset_args(root), "test_mode": test_mode, "on_error": policy}
    dataset = PanopticDataset(**args, pipeline=PIPELINE)
    assert dataset[0] is not None
    with pytest.raises(PanopticFormatError, match=file.name) as error:
        dataset[1]
    assert error.value.kind == kind


@pytest.mark.parametrize("workers", [0, 2])
def test_skipping_replaces_the_same_draws_and_counts_in_all_workers(root, workers):
    break_file(root, "missing_file")
    content = json.loads((root / "panoptic.json").read_text())
    content["annotations"][3]["segments_info"] = []
    write_json(root, content)
    dataset = PanopticDataset(**dataset_args(root), pipeline=PIPELINE, on_error="skip")
    sampler = SeededSampler(dataset, seed=0)
    batches = [items(dataset, sampler, workers, 4) for _ in range(2)]
    assert all(map(torch.equal, *batches))
    draws = dataset.errors.draws
    assert draws[1] >= 2
    assert draws[3] >= 2
    assert draws[[0, 2]].tolist() == [0, 0]
    names = dataset.errors.names(dataset.errors.kinds)
    assert names == [None, "missing_file", None, "empty_annotation"]


def test_skipping_gives_up_when_nothing_is_left(root):
    for file in (root / "maps").iterdir():
        file.unlink()
    dataset = PanopticDataset(
        **dataset_args(root), pipeline=PIPELINE, on_error="skip", max_refetch=5
    )
    with pytest.raises(RuntimeError, match=r"6 samples of .*panoptic\.json in a row"):
        dataset[0]
    assert int(dataset.errors.draws.sum()) == 6


def test_a_subset_counts_for_itself(root):
    break_file(root, "missing_file")
    dataset = PanopticDataset(**dataset_args(root), pipeline=PIPELINE, on_error="skip")
    subset = dataset.get_subset([1, 0])
    assert subset[0] is not None
    assert dataset.errors.draws.sum() == 0
    assert subset.errors.draws[1] >= 1


def test_bad_arguments_are_refused(root):
    with pytest.raises(ValueError, match="on_error"):
        PanopticDataset(**dataset_args(root), on_error="ignore")
    with pytest.raises(ValueError, match="data_prefix"):
        PanopticDataset("x.json", data_prefix={"img_path": "x"})


@pytest.mark.parametrize(
    "file_name",
    [
        "aachen_000000_000019_gtFine_leftImg8bit.png",
        "aachen_000000_000019_leftImg8bit.png",
        "aachen/aachen_000000_000019_leftImg8bit.png",
    ],
)
def test_cityscapes_finds_images_under_each_form_of_the_name(tmp_path, file_name):
    name = "aachen_000000_000019"
    segment = {"id": 26001, "category_id": 26, "iscrowd": 0, "area": 5, "bbox": [0, 0, 5, 1]}
    content = {
        "images": [{"id": name, "file_name": file_name, "height": 4, "width": 8}],
        "annotations": [
            {
                "image_id": name,
                "file_name": f"{name}_gtFine_panoptic.png",
                "segments_info": [segment],
            }
        ],
        "categories": [{"id": 26, "name": "car", "isthing": 1}],
    }
    write_json(tmp_path, content)
    args = dataset_args(tmp_path)
    info = CityscapesPanopticDataset(**args).get_data_info(0)
    assert info["img_path"] == f"{tmp_path}/images/aachen/{name}_leftImg8bit.png"
    assert info["seg_map_path"] == f"{tmp_path}/maps/{name}_gtFine_panoptic.png"
    assert info["segments_info"][0]["label"] == 13
    flat = CityscapesPanopticDataset(**args, image_name="{id}.png").get_data_info(0)
    assert flat["img_path"] == f"{tmp_path}/images/{name}.png"
    with pytest.raises(ValueError, match="pattern with"):
        CityscapesPanopticDataset(**args, image_name="val/")


NAMES = {7: "car", 30: "sky", 0: "rider", 4: "road"}
TRAIN_IDS = {"car": 13, "sky": 10, "rider": 12, "road": 0}


def rename_classes(root: Path, numbers: dict[str, int]) -> None:
    """Give the small dataset classes of Cityscapes."""
    content = json.loads((root / "panoptic.json").read_text())
    content["categories"] = [
        {"id": number, "name": name, "isthing": int(name in ("car", "rider"))}
        for name, number in numbers.items()
    ]
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["category_id"] = numbers[NAMES[segment["category_id"]]]
    write_json(root, content)


@pytest.mark.parametrize(
    "numbers", [TRAIN_IDS, {"car": 26, "sky": 23, "rider": 25, "road": 7}], ids=["train", "label"]
)
def test_cityscapes_reads_label_ids_and_train_ids(root, numbers):
    rename_classes(root, numbers)
    dataset = CityscapesPanopticDataset(**dataset_args(root))
    expected = [TRAIN_IDS[NAMES[category]] for category in SEGMENT_CATEGORIES]
    assert [s["label"] for s in dataset.get_data_info(0)["segments_info"]] == expected
    assert dataset.metainfo["dataset_ids"][13] == numbers["car"]
    assert dataset.metainfo["classes"][13] == "car"


def test_cityscapes_refuses_other_ids(root):
    rename_classes(root, {**TRAIN_IDS, "sky": 3})
    with pytest.raises(PanopticFormatError, match=r"category 3 \(sky\)"):
        CityscapesPanopticDataset(**dataset_args(root))


def test_images_of_a_test_server_have_no_annotations(root):
    content = json.loads((root / "panoptic.json").read_text())
    del content["annotations"]
    write_json(root, content)
    dataset = PanopticDataset(**dataset_args(root), test_mode=True, pipeline=PIPELINE[:1])
    assert [dataset.get_data_info(k)["img_id"] for k in range(4)] == [f"img{k}" for k in range(4)]
    assert dataset[2]["seg_map_path"] is None
    with pytest.raises(PanopticFormatError, match="no list 'annotations'"):
        PanopticDataset(**dataset_args(root))


def test_a_single_class_is_warned_of_in_training(root):
    content = json.loads((root / "panoptic.json").read_text())
    content["categories"] = [{"id": 0, "name": "cow", "isthing": 1}]
    for annotation in content["annotations"]:
        annotation["segments_info"] = [
            segment for segment in annotation["segments_info"] if segment["category_id"] == 0
        ]
    write_json(root, content)
    for test_mode in (True, False):
        text = "".join(logged(lambda: PanopticDataset(**dataset_args(root), test_mode=test_mode)))  # noqa: B023
        assert ("only one class (cow), and void covers" in text) == (not test_mode)


def test_the_label_table_of_a_config_is_read_without_building(root):
    cfg = {"type": "PanopticDataset", "ann_file": "panoptic.json", "data_root": str(root)}
    expected = LabelTable.from_categories(CATEGORIES)
    assert read_label_table(cfg) == expected
    assert read_label_table({"type": "RepeatDataset", "dataset": cfg, "times": 2}) == expected
    assert read_label_table({"type": "ConcatDataset", "datasets": [cfg, cfg]}) == expected
    assert len(read_label_table({"type": "CocoPanopticDataset", "ann_file": "absent"})) == 133
    assert len(read_label_table({"type": "mmpanoptic.CityscapesPanopticDataset"})) == 19
    given = {"type": "PanopticDataset", "metainfo": expected.to_metainfo()}
    assert read_label_table(given) == expected
    with pytest.raises(ValueError, match="tells no classes"):
        read_label_table({"type": "PanopticDataset"})


def test_datasets_are_registered():
    for cls in (PanopticDataset, CocoPanopticDataset, CityscapesPanopticDataset):
        assert DATASETS.get(cls.__name__) is cls


@needs_real_mini
@pytest.mark.parametrize("instances_file", [None, "annotations/instances_val2017.json"])
def test_real_photographs_load(instances_file):
    dataset = CocoPanopticDataset(
        ann_file="annotations/panoptic_val2017.json",
        data_root=str(REAL_MINI / "coco"),
        data_prefix={"img": "val2017", "seg": "annotations/panoptic_val2017"},
        instances_file=instances_file,
        pipeline=[*PIPELINE[:2], PIPELINE[-1]],
        test_mode=True,
    )
    rugby, cats = (dataset[position]["data_samples"] for position in range(2))
    assert (rugby.img_id, cats.img_id) == (142238, 39769)
    assert (cats.gt_panoptic_seg.index_map == 0).sum() == 10_752
    assert (rugby.gt_sem_seg.sem_seg == 255).sum() == 2_712
    assert len(rugby.ignored_instances) == 1
    areas = torch.bincount(cats.gt_panoptic_seg.index_map.flatten())[1:].tolist()
    assert areas == [segment["area"] for segment in cats.segments_info]
    names = [dataset.metainfo["classes"][label] for label in cats.gt_instances.labels]
    assert sorted(names).count("cat") == 2
    assert ("bed" in names) == (instances_file is not None)


@pytest.mark.parametrize("box", ["abc", [1], [None] * 4, [0, 0, float("nan"), 3], {}])
def test_boxes_that_are_none_are_named(root, box):
    content = json.loads((root / "panoptic.json").read_text())
    content["annotations"][2]["segments_info"][1]["bbox"] = box
    write_json(root, content)
    with pytest.raises(PanopticFormatError, match=r"annotations\[2\].*bbox") as error:
        PanopticDataset(**dataset_args(root), filter_empty_gt=True)
    assert error.value.kinds == ["bad_field"]


def test_a_file_nested_too_deep_is_named(root):
    (root / "panoptic.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(PanopticFormatError, match=r"panoptic\.json.*nested too deep") as error:
        PanopticDataset(**dataset_args(root))
    assert error.value.kind == "corrupt_json"
