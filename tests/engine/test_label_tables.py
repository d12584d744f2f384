"""All datasets of a run, and its checkpoint, number the classes alike."""

import json

import pytest
from mmengine.config import Config

from mmpanoptic.datasets import PanopticDataset
from mmpanoptic.engine.config import share_label_table, stored_label_table
from mmpanoptic.registry import DATASETS, ConfigError
from mmpanoptic.structures import LabelTable
from mmpanoptic.utils.format_errors import PanopticFormatError
from tests.datasets.tiny_data import CATEGORIES, dataset_args, write_dataset, write_json

TABLE = LabelTable.from_categories(CATEGORIES)


@pytest.fixture
def cfg(tmp_path):
    """Training and validation data whose categories stand in other orders."""
    for name in ("train", "val"):
        content = write_dataset(tmp_path / name)
    write_json(tmp_path / "val", {**content, "categories": CATEGORIES[::-1]})
    sets = {
        name: {"type": "PanopticDataset", **dataset_args(tmp_path / name)}
        for name in ("train", "val")
    }
    return Config({f"{name}_dataloader": {"dataset": one} for name, one in sets.items()})


def built(cfg, name="val"):
    return DATASETS.build({**cfg[f"{name}_dataloader"].dataset, "test_mode": name == "val"})


def labels(dataset):
    return {
        segment["category_id"]: segment["label"]
        for k in range(len(dataset))
        for segment in dataset.get_data_info(k)["segments_info"]
    }


def test_the_order_of_the_file_does_not_matter(cfg):
    alone = labels(built(cfg))
    assert share_label_table(cfg).labels == TABLE.labels
    assert labels(built(cfg)) == labels(built(cfg, "train")) == {7: 0, 0: 1, 30: 2, 4: 3} != alone
    assert built(cfg).metainfo["classes"] == ("meadow", "cow", "sky", "goose")


def test_a_class_that_validation_lacks_leaves_the_others_as_they_are(cfg, tmp_path):
    path = tmp_path / "val" / "panoptic.json"
    content = json.loads(path.read_text())
    content["categories"] = [c for c in content["categories"] if c["name"] != "meadow"]
    for annotation in content["annotations"]:
        annotation["segments_info"] = [
            segment for segment in annotation["segments_info"] if segment["category_id"] != 7
        ]
    write_json(tmp_path / "val", content)
    share_label_table(cfg)
    assert labels(built(cfg)) == {0: 1, 30: 2, 4: 3}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"isthing": 1}, "isthing"),
        ({"name": "heaven"}, "heaven"),
        ({"id": 31}, "31"),
    ],
)
def test_another_class_is_refused(cfg, tmp_path, change, words):
    path = tmp_path / "val" / "panoptic.json"
    content = json.loads(path.read_text())
    next(c for c in content["categories"] if c["name"] == "sky").update(change)
    write_json(tmp_path / "val", content)
    share_label_table(cfg)
    with pytest.raises(PanopticFormatError, match=words) as error:
        built(cfg)
    assert error.value.kind == "category_mismatch"


def test_parts_of_a_concatenation_share_the_table(cfg):
    both = [cfg.train_dataloader.dataset, cfg.val_dataloader.dataset]
    cfg.train_dataloader.dataset = {"type": "ConcatDataset", "datasets": both}
    share_label_table(cfg)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert [labels(part) for part in dataset.datasets] == [{7: 0, 0: 1, 30: 2, 4: 3}] * 2


def test_configured_classes_must_be_those_of_the_model(cfg):
    cfg.val_dataloader.dataset.type = "CocoPanopticDataset"
    with pytest.raises(ConfigError, match=r"val_dataloader's dataset.*only here: person"):
        share_label_table(cfg)


def test_a_configured_order_gives_way(cfg):
    cfg.val_dataloader.dataset.metainfo = {"classes": [c["name"] for c in CATEGORIES[::-1]]}
    share_label_table(cfg)
    assert labels(built(cfg)) == {7: 0, 0: 1, 30: 2, 4: 3}


def test_the_order_of_a_checkpoint_holds(cfg):
    stored = LabelTable.from_categories(CATEGORIES[::-1])
    assert share_label_table(cfg, stored).is_ordered_as(stored)
    assert labels(built(cfg)) == labels(built(cfg, "train")) == {4: 0, 30: 1, 0: 2, 7: 3}


def test_a_machine_without_training_data_takes_the_checkpoints_table(cfg):
    cfg.train_dataloader.dataset.ann_file = "absent.json"
    assert share_label_table(cfg) is None
    stored = LabelTable.from_categories(CATEGORIES[1:] + CATEGORIES[:1])
    assert share_label_table(cfg, stored).labels == stored.labels
    assert labels(built(cfg))[7] == 3


def test_a_checkpoint_with_other_classes_does_not_rename_the_datasets(cfg):
    other = LabelTable.from_categories([{"id": 1, "name": "x", "isthing": 1}])
    assert share_label_table(cfg, other).labels == TABLE.labels


def test_tables_of_checkpoints():
    assert (
        stored_label_table({"meta": {"dataset_meta": TABLE.to_metainfo()}}).labels == TABLE.labels
    )
    for content in ({}, {"meta": {}}, {"meta": {"dataset_meta": {"classes": ["a"]}}}):
        assert stored_label_table(content) is None


def test_own_classes_stand_in_place_of_those_of_the_dataset_class(cfg, tmp_path):
    names = tuple(c["name"] for c in CATEGORIES[::-1])
    args = {**dataset_args(tmp_path / "train"), "metainfo": {"classes": names}}
    dataset = DATASETS.build({"type": "CocoPanopticDataset", **args})
    assert dataset.metainfo["classes"] == names
    assert dataset.metainfo["dataset_ids"] == [4, 30, 0, 7]
    assert isinstance(dataset, PanopticDataset)


def test_differences_of_tables_are_named():
    other = LabelTable.from_categories(
        [{"id": 1, "name": "sky", "isthing": 1}, {"id": 2, "name": "boat", "isthing": 1}]
    )
    text = TABLE.difference(other)
    assert text == (
        "only here: meadow, cow, goose; only there: boat; thing in one and stuff in the other: sky"
    )
    assert TABLE.difference(LabelTable.from_categories(CATEGORIES[::-1])) == ""
